"""A run beside a dense one: --baseline and --compare_dense."""

import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ptkeras.cli import train as command
from ptkeras.cli.baseline import dense_estimate
from ptkeras.methods.settings import parse
from ptkeras.utils.flagging import SettingsError

pytestmark = pytest.mark.thorough

ROOT = Path(__file__).parents[2]
FLAGS = ("--model=tests.helpers.small_network:build", "--batch_size=256")


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    """A run with the dense one that it has trained before."""
    folder = tmp_path_factory.mktemp("compared") / "run"
    flags = [*FLAGS, "--epochs=4", f"--output_dir={folder}"]
    assert command.main([*flags, "--target=0.5", "--compare_dense"]) == 0
    return folder


def read(folder):
    return json.loads((folder / "result.json").read_text())


def test_a_run_stands_beside_the_dense_one(compared, capsys):
    dense, told = read(compared.with_name("run_dense")), read(compared)
    assert (dense["method"], dense["epochs"]) == ("dense", 4)
    assert told["dense_accuracy"] == dense["accuracy"]
    assert told["dense_seconds"] == dense["seconds"]
    page = (compared / "report.html").read_text()
    assert f"{told['accuracy']:.2%} of the test images are right (dense: " in page
    again = [*FLAGS, "--epochs=4", "--target=0.5", f"--output_dir={compared}", "--compare_dense"]
    assert command.main(again) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert re.search(r"(49|50)\.\d% fewer inference FLOPs", said)
    assert f"(dense: {dense['accuracy']:.2%})" in said


def test_a_finished_run_may_be_given_a_baseline(compared, tmp_path, capsys):
    flags = [*FLAGS, "--epochs=4", "--target=0.5", f"--output_dir={tmp_path / 'alone'}"]
    assert command.main(flags) == 0
    assert "(dense" not in capsys.readouterr().out
    assert command.main([*flags, f"--baseline={compared}_dense"]) == 0
    assert "(dense" in capsys.readouterr().out


def test_what_is_no_dense_run_of_the_same_is_told_before_any_work(compared, tmp_path, capsys):
    flags = [*FLAGS, f"--output_dir={tmp_path / 'run'}"]
    for more, says in (
        ((f"--baseline={compared}",), "must be a run with --method=dense; that one has prunetrain"),
        ((f"--baseline={compared}_dense", "--epochs=5"), "must be a run with --epochs=5; that"),
        ((f"--baseline={tmp_path}",), "no run folder"),
        (
            (f"--baseline={compared}_dense", "--epochs=4", "--learning_rate=0.01"),
            "must be a run with --learning_rate=0.01; that one has 0.1",
        ),
    ):
        assert command.main([*flags, *more]) == 1
        assert says in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--compare_dense", "--baseline=somewhere"], "leave one out"),
        (["--compare_dense", "--method=dense"], "left out with --method=dense"),
        (["--baseline=somewhere", "--method=dense"], "left out with --method=dense"),
        (
            ["--compare_dense", "--strategy=mirrored"],
            "train --method=dense by a command of its own",
        ),
    ],
)
def test_what_does_not_go_together(flags, says):
    with pytest.raises(SettingsError, match=says):
        parse(flags)


def test_the_pace_of_dense_epochs_is_that_before_the_first_removal():
    rows = [{"seconds": s} for s in (9.0, 2.0, 3.0, 1.0, 8.0, 0.5)]
    assert dense_estimate(rows, [{"epoch": 4}]) == {"dense_estimate": 19.0}
    assert dense_estimate(rows, []) == dense_estimate(rows, [{"epoch": 1}]) == {}


def test_the_dense_run_stops_with_the_command(tmp_path):
    flags = [*FLAGS, "--epochs=500", f"--output_dir={tmp_path / 'run'}/", "--compare_dense"]
    command = subprocess.Popen([sys.executable, "-m", "ptkeras.train", *flags], cwd=ROOT)
    dense = tmp_path / "run_dense" / "history.csv"
    while not dense.exists() or len(dense.read_text().splitlines()) < 3:
        assert command.poll() is None
        time.sleep(0.2)
    command.terminate()
    assert command.wait(60) == 128 + signal.SIGTERM
    count = len(dense.read_text().splitlines())
    time.sleep(2)
    assert len(dense.read_text().splitlines()) == count < 500
