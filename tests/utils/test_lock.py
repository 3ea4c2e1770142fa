"""Two trainings that would write the same file."""

import errno
import gc
import subprocess
import sys

import keras
import numpy as np
import pytest

from ptkeras.methods.settings import parse
from ptkeras.runs.run_folder import RunFolder
from ptkeras.survival import Survival
from ptkeras.utils.lock import Lock, LockedError

fcntl = pytest.importorskip("fcntl")

HOLD = """
import fcntl, os, sys
file = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)
fcntl.flock(file, fcntl.LOCK_EX)
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def held_elsewhere(tmp_path):
    """Another process at work on last.keras."""
    command = [sys.executable, "-c", HOLD, tmp_path / ".lock_last.keras"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def fit(*callbacks, model=None):
    if model is None:
        model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
        model.compile("sgd", "mse")
    model.fit(np.ones((4, 2)), np.ones(4), epochs=2, verbose=0, callbacks=list(callbacks))
    return model


class Note(keras.callbacks.Callback):
    begun = False

    def on_train_begin(self, logs=None):
        self.begun = True


class Fail(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        raise InterruptedError


class Nested(keras.callbacks.Callback):
    """A training in the middle of another one."""

    def __init__(self, path):
        super().__init__()
        self.path = path

    def on_epoch_end(self, epoch, logs=None):
        fit(Survival(self.path))


def test_the_file_of_another_process_is_refused_before_anything_begins(tmp_path, held_elsewhere):
    path, note = tmp_path / "last.keras", Note()
    with pytest.raises(LockedError, match=r"last\.keras': wait for its end, or choose another"):
        fit(note, Survival(path))
    assert not path.exists() and not note.begun
    fit(Survival(tmp_path / "other.keras"))
    held_elsewhere.kill()  # the system drops the lock
    held_elsewhere.wait()
    fit(note, Survival(path))
    assert path.exists() and note.begun


def test_two_trainings_of_one_process_are_refused_too(tmp_path):
    path = tmp_path / "last.keras"
    for second in (Nested(path), Survival(path)):
        with pytest.raises(LockedError):
            fit(Survival(path), second)


def test_a_fit_that_has_ended_in_whatever_way_bars_no_other(tmp_path):
    path = tmp_path / "last.keras"
    with pytest.raises(InterruptedError):
        fit(failed := Survival(path), Fail())
    model = fit(Survival(path))  # while the one that failed is still known
    fit(failed, model=model)
    fit(Survival(path))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["last.keras", "last.previous.keras"]


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK])
def test_a_file_system_without_locks_is_told_of(tmp_path, monkeypatch, number):
    def without(descriptor, operation):
        raise OSError(number, "not here")

    monkeypatch.setattr(fcntl, "flock", without)
    with pytest.warns(UserWarning, match=rf"without locks \({errno.errorcode[number]}\): nothing"):
        fit(Survival(tmp_path / "last.keras"))
    folder = RunFolder(tmp_path / "run")
    with folder, pytest.warns(UserWarning, match="run' is on a file system without locks"):
        folder.open(parse([]))
    assert folder.flags.exists() and not list(tmp_path.rglob(".lock*"))


def test_who_comes_between_the_end_and_the_removal_has_a_lock_that_holds(tmp_path, monkeypatch):
    first, second, third = (Lock(tmp_path / "a") for _ in range(3))
    first.take()
    lock = fcntl.flock

    def late(descriptor, operation):
        if operation != fcntl.LOCK_UN:
            monkeypatch.setattr(fcntl, "flock", lock)
            first.release()  # between open and flock of the second
        lock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", late)
    second.take()
    with pytest.raises(LockedError):
        third.take()


def test_what_nobody_holds_on_to_is_given_back(tmp_path):
    lock = Lock(tmp_path)
    lock.take()
    with pytest.raises(LockedError):
        Lock(tmp_path).take()
    del lock
    gc.collect()
    assert not list(tmp_path.iterdir())
    Lock(tmp_path).take()


DIES = """
import os, sys
from pathlib import Path
from ptkeras.utils.lock import Lock
lock = Lock(Path(sys.argv[1]))
lock.take()
if os.fork() == 0:
    sys.exit()
os.wait()
print(os.listdir(sys.argv[1]))
raise RuntimeError
"""


def test_a_process_that_dies_of_an_error_leaves_nothing_and_a_fork_of_it_takes_nothing(tmp_path):
    command = [sys.executable, "-c", DIES, tmp_path]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "RuntimeError" in done.stderr
    assert done.stdout == "['.lock']\n"
    assert not list(tmp_path.iterdir())


def test_a_link_is_not_followed(tmp_path):
    (tmp_path / ".lock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="symbolic"):
        Lock(tmp_path).take()
    assert not (tmp_path / "elsewhere").exists()


def test_what_a_kill_left_of_a_lock_bars_no_folder(tmp_path):
    (tmp_path / ".lock").touch()
    folder = RunFolder(tmp_path)
    folder.check(parse([]))
    with folder:
        folder.open(parse([]))
