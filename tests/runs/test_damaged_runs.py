"""Every file of a run folder, damaged in every way, and what the command line makes of it."""

import contextlib
import errno
import os
import resource
import shutil
import threading
import zipfile
from pathlib import Path

import keras
import pytest
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st

from ptkeras import report
from ptkeras.cli import train
from ptkeras.data import digits
from ptkeras.report.__main__ import main as report_main
from ptkeras.survival.checkpoint import is_whole
from ptkeras.utils import files
from tests.helpers.same_run import assert_same_run, numbers, stopped_in

pytestmark = pytest.mark.tensorflow

FLAGS = [
    "--epochs=2",
    "--interval=1",
    "--batch_size=64",
    "--threshold=1e-3",
    "--learning_rate=0.1",
]
FINISHED = (
    "flags.txt",
    "history.csv",
    "architecture.json",
    "norms.json",
    "checksums.txt",
    "result.json",
    "model.keras",
    "report.html",
    "checkpoints/epoch_0001.keras",
    "checkpoints/last.keras",
    "checkpoints/last.previous.keras",
)
UNFINISHED = (
    "flags.txt",
    "history.csv",
    "architecture.json",
    "norms.json",
    "checkpoints/last.keras",
    "checkpoints/last.previous.keras",
)


def tiny(name, input_shape, num_classes):
    inputs = keras.Input(input_shape)
    x = keras.layers.Conv2D(4, 3, activation="relu", name="conv")(inputs)
    x = keras.layers.BatchNormalization(name="norm")(x)
    x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
    return keras.Model(inputs, keras.layers.Dense(num_classes, name="head")(x))


@pytest.fixture(autouse=True, scope="module")
def _small_and_eager():
    """A network of 106 weights, 64 digits, nothing to compile, and no plots."""
    some = type(digits.load())(*(part[:64] for part in vars(digits.load()).values()))
    compiled = keras.Model.compile

    def eager(self, *args, **kwargs):
        compiled(self, *args, **kwargs | {"run_eagerly": True})

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(digits, "load", lambda: some)
        patch.setattr("ptkeras.models.build", tiny)
        patch.setattr(keras.Model, "compile", eager)
        patch.setattr(train, "_be_deterministic", keras.utils.set_random_seed)
        patch.setattr(report, "page", lambda run: f"{run.title}\n</html>\n")
        yield


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "finished"
    assert run(folder) == 0
    return folder


@pytest.fixture(scope="module")
def unfinished(tmp_path_factory):
    """Stopped after its first epoch; the checkpoint before that is of no epoch at all."""
    folder = tmp_path_factory.mktemp("runs") / "unfinished"
    with stopped_in(0):
        assert run(folder) == 130
    last = folder / "checkpoints" / "last.keras"
    shutil.copy(last, last.with_suffix(".previous.keras"))
    return folder


def run(folder, *flags):
    return train.main([*FLAGS, f"--output_dir={folder}", *flags])


def empty(path):
    path.write_bytes(b"")


def cut(path, share):
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])


def flip(path, share):
    content = bytearray(path.read_bytes())
    content[int(share * len(content))] ^= 1 << int(share * 1e6) % 8
    path.write_bytes(content)


def replaced(path, make):
    path.unlink()
    make(path)


DAMAGES = {
    "missing": lambda path, share: path.unlink(),
    "empty": lambda path, share: empty(path),
    "cut": cut,
    "flipped": flip,
    "a folder": lambda path, share: replaced(path, Path.mkdir),
    "a dangling link": lambda path, share: replaced(path, lambda p: p.symlink_to("nowhere")),
    "a looping link": lambda path, share: replaced(path, lambda p: p.symlink_to(p.name)),
    "a pipe": lambda path, share: replaced(path, os.mkfifo),
}
SHARES = st.floats(0, 1, exclude_max=True)
once = settings(
    max_examples=60,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],  # to shrink a run takes minutes
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


@contextlib.contextmanager
def damaged(whole, name, damage, share, folder):
    """A copy of a run, with one file damaged."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(whole, folder)
    DAMAGES[damage](folder / name, share)
    yield folder


def contents(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def told(capsys, code, *names):
    """Checks that a refusal is one sentence or two that name one of the files; returns them."""
    error = capsys.readouterr().err.strip()
    if code == 0:
        return ""
    assert code == 1 and "\n" not in error and error.endswith(".")
    assert any(Path(name).name in error for name in names), error
    assert "Errno" not in error
    return error


@settings(once, max_examples=25)
@given(name=st.sampled_from(FINISHED), damage=st.sampled_from(list(DAMAGES)), share=SHARES)
@example("result.json", "empty", 0.0)
@example("model.keras", "missing", 0.0)
@example("flags.txt", "missing", 0.0)
@example("report.html", "a pipe", 0.0)
def test_a_finished_run_with_a_damaged_file(finished, tmp_path, capsys, name, damage, share):
    with damaged(finished, name, damage, share, tmp_path / "run") as folder:
        before = contents(folder)
        code = run(folder)
        sentence = told(capsys, code, name)
        after = contents(folder)
        if code == 0:  # what was claimed is there
            assert report.is_whole(folder)
            assert (folder / "result.json").is_file()
            ours, theirs = numbers(folder / "model.keras"), numbers(finished / "model.keras")
            assert all((theirs[key] == value).all() for key, value in ours.items())
        if (name, damage) != ("result.json", "missing"):  # then the run goes on
            good = before.keys() - {"report.html"}
            assert {key: after.get(key) for key in good} == {key: before[key] for key in good}
        if f"Delete '{folder / 'result.json'}'" in sentence:
            (folder / "result.json").unlink(missing_ok=True)
            assert run(folder) == 0
            assert_same_run(finished, folder)
            assert run(folder) == 0


@once
@given(name=st.sampled_from(FINISHED), damage=st.sampled_from(list(DAMAGES)), share=SHARES)
@example("history.csv", "a pipe", 0.0)
@example("report.html", "a folder", 0.0)
@example("norms.json", "flipped", 0.5)
def test_the_report_of_a_damaged_run(finished, tmp_path, capsys, name, damage, share):
    with damaged(finished, name, damage, share, tmp_path / "run") as folder:
        before = contents(folder)
        code = report_main([str(folder)])
        told(capsys, code, name)
        after = contents(folder)
        assert before.items() - {("report.html", before.get("report.html"))} <= after.items()
        if code == 0:
            assert report.is_whole(folder)


@settings(once, max_examples=6)
@given(name=st.sampled_from(UNFINISHED), damage=st.sampled_from(list(DAMAGES)), share=SHARES)
@example("checkpoints/last.keras", "a folder", 0.0)
@example("flags.txt", "empty", 0.0)
@example("checkpoints/last.keras", "flipped", 0.5)
@pytest.mark.filterwarnings("ignore:.*goes on from the checkpoint before it")
def test_an_unfinished_run_with_a_damaged_file(
    finished, unfinished, tmp_path, capsys, name, damage, share
):
    with damaged(unfinished, name, damage, share, tmp_path / "run") as folder:
        before = contents(folder)
        code = run(folder)
        if code:
            told(capsys, code, name)
            assert contents(folder) == before
        else:
            assert "after epoch 1" in capsys.readouterr().out
            assert_same_run(finished, folder)


def test_without_a_checkpoint_nothing_that_is_left_is_trained_over(finished, tmp_path, capsys):
    folder = tmp_path / "run"
    shutil.copytree(finished, folder, ignore=shutil.ignore_patterns("checkpoints", "result.json"))
    before = contents(folder)
    assert run(folder) == 1
    assert "result.json' is missing, and there is no checkpoint" in capsys.readouterr().err
    shutil.copy(finished / "result.json", folder)
    empty(folder / "model.keras")
    assert run(folder) == 1
    error = capsys.readouterr().err
    assert "model.keras' does not match its checksum" in error
    assert "Put it back, or repeat the run in another --output_dir" in error
    assert before.items() - contents(folder).items() == {("model.keras", before["model.keras"])}


def test_flags_that_are_written_again_by_hand_are_taken(unfinished, tmp_path, capsys):
    folder = tmp_path / "run"
    shutil.copytree(unfinished, folder)
    (folder / "flags.txt").unlink()
    assert run(folder) == 1
    assert "one --name=value a line" in capsys.readouterr().err
    (folder / "flags.txt").write_text("\n".join(FLAGS))
    assert run(folder) == 0
    assert (folder / "flags.txt").read_text() == (unfinished / "flags.txt").read_text()


def test_a_run_without_checksums_is_read_too(finished, tmp_path, capsys):
    folder = tmp_path / "run"
    shutil.copytree(finished, folder)
    (folder / "checksums.txt").unlink()
    assert run(folder) == 0 == report_main([str(folder)])
    cut(folder / "model.keras", 0.9)
    assert run(folder) == 1
    assert "model.keras' is damaged" in capsys.readouterr().err
    (folder / "result.json").write_text("{}")
    assert report_main([str(folder)]) == 1
    assert "result.json has no dataset" in capsys.readouterr().err


def whole_files(folder):
    """Checks that each file of a folder is whole, or not there."""
    for path in folder.rglob("*"):
        if path.name.startswith(".lock"):
            continue  # which goes with the traceback
        assert not files.is_unfinished(path)
        if path.suffix == ".keras":
            with zipfile.ZipFile(path) as archive:
                assert archive.testzip() is None
            assert is_whole(path) or not path.name.startswith("last")
        elif path.is_file():
            assert path.read_bytes().endswith(b"\n")


@contextlib.contextmanager
def full_after(count):
    """A disk on which so many files have room, and then none."""
    sync, left = files._sync, [count]

    def full(path):
        if path.is_file():
            left[0] -= 1
            if left[0] < 0:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        sync(path)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files, "_sync", full)
        yield


@contextlib.contextmanager
def largest_file(size):
    """A system that refuses what is written beyond so many bytes of a file."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


FULL = st.one_of(st.integers(0, 20).map(full_after), st.integers(0, 30_000).map(largest_file))


@settings(once, max_examples=3)
@given(full=FULL)
def test_a_full_disk_leaves_whole_files_and_the_run_goes_on(
    finished, unfinished, tmp_path, capsys, full
):
    folder = tmp_path / "run"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(unfinished, folder)
    with full:
        code = run(folder)
    error = capsys.readouterr().err.strip()
    whole_files(folder)
    if code:
        assert code == 1 and error.count("\n") == 0 and error.endswith(".")
        assert run(folder) == 0
    assert_same_run(finished, folder)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda path: path.mkdir(), "it is a folder"),
        (os.mkfifo, "nothing comes out of that pipe"),
        (lambda path: path.symlink_to("/dev/zero"), "it is a device"),
        (lambda path: path.symlink_to(path.name), "Too many levels"),
        (lambda path: path.symlink_to("nowhere"), "No such file"),
        (lambda path: path.write_bytes(bytes(range(256))), "not a text file"),
        (lambda path: path.write_bytes(b"--epochs=3\0"), "not a text file"),
        (lambda path: path.write_text("--epochs=3\n" * 200_000), "larger than 1 MiB"),
        (lambda path: path.write_text(f"--flagfile={path}"), "includes itself"),
    ],
)
def test_a_flagfile_that_is_none(tmp_path, capsys, make, says):
    make(path := tmp_path / "a.flags")
    assert train.main([f"--flagfile={path}"]) == 1
    error = capsys.readouterr().err
    assert says in error and str(path) in error and error.count("\n") == 1


def test_a_flagfile_may_come_out_of_a_pipe(tmp_path, capsys):
    path = tmp_path / "pipe"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # as a shell holds it open
    writer = threading.Thread(target=path.write_text, args=["--epochs=0\n"])
    writer.start()
    writer.join()
    assert train.main([f"--flagfile=/dev/fd/{reader}"]) == 1
    os.close(reader)
    assert "--epochs=0: must be" in capsys.readouterr().err


@pytest.mark.parametrize("folder", ["n" * 300, "/".join(["n" * 200] * 20)])
def test_names_that_are_too_long(tmp_path, capsys, folder):
    folder = tmp_path / folder
    assert run(folder) == 1
    assert "File name too long); choose another --output_dir." in capsys.readouterr().err
    assert report_main([str(folder)]) == 1
    assert "name the --output_dir of" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("plot", ["n" * 300 + ".png", "n" * 250 + ".png", "folder.png"])
def test_a_plot_whose_name_cannot_be_taken(finished, tmp_path, capsys, plot):
    (tmp_path / "folder.png").mkdir()
    assert report_main([f"--plot={tmp_path / plot}", str(finished)]) == 1
    error = capsys.readouterr().err
    assert "The plot cannot be written to" in error and error.count("\n") == 1
