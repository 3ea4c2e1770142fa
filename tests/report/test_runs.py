import json
import shutil

import pytest

from ptkeras import report
from tests.report.conftest import EPOCHS


def test_a_run_is_read(pruned):
    run = report.read(pruned)
    assert run.title == "digits, small, prunetrain"
    assert run.threshold == 0.4
    assert run.history["epoch"] == [1, 2, 3, 4, 5, 6]
    assert all(seconds > 0 for seconds in run.epoch_seconds())


def test_the_layers_are_followed_from_the_first_network_to_the_last(pruned):
    run = report.read(pruned)
    assert len(run.reconfigurations) >= 2
    stretches = run.stretches()
    assert stretches[0].channels == {"first": 8, "second": 12, "head": 3}
    assert [s.begin for s in stretches[1:]] == [s.end for s in stretches[:-1]]
    assert (stretches[0].begin, stretches[-1].end) == (0, EPOCHS)
    assert stretches[-1].channels == run.architecture["final"]["layers"]


def test_a_network_that_was_cut_before_its_training_is_followed_too(dense, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(dense, folder)
    told = json.loads((folder / "architecture.json").read_text())
    told["final"]["layers"]["second"] = 5
    (folder / "architecture.json").write_text(json.dumps(told))
    [stretch] = report.read(folder).stretches()
    assert stretch.channels["second"] == 5


def test_seconds_leave_out_the_epochs_that_compile(pruned):
    run = report.read(pruned)
    assert [change["epoch"] for change in run.reconfigurations] == [2, 4, 6]
    run.history["seconds"][:] = [100.0, 2.0, 50.0, 60.0, 70.0, 1.0]
    assert run.epoch_seconds() == (2.0, 1.0)


def test_a_network_that_was_trained_for_one_epoch_has_no_pace(pruned):
    run = report.read(pruned)
    run.reconfigurations[0]["epoch"] = 1  # of the first network; the last has two
    assert run.epoch_seconds() is None
    run.reconfigurations[0]["epoch"] = 2
    run.reconfigurations[1]["epoch"] = 5
    assert run.epoch_seconds() is None


def test_an_older_run_is_read_without_what_it_lacks(pruned, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(pruned, folder)
    (folder / "norms.json").unlink()
    told = json.loads((folder / "architecture.json").read_text())
    del told["final"], told["initial"]["macs"]
    (folder / "architecture.json").write_text(json.dumps(told))
    assert "How large the channels are" not in report.write(folder).read_text()


def lack(path, *keys):
    """Takes something out of a file of JSON."""
    told = part = json.loads(path.read_text())
    for key in keys[:-1]:
        part = part[key]
    del part[keys[-1]]
    path.write_text(json.dumps(told))


def put(path, value, *keys):
    """Puts something else into a file of JSON."""
    told = part = json.loads(path.read_text())
    for key in keys[:-1]:
        part = part[key]
    part[keys[-1]] = value
    path.write_text(json.dumps(told))


def lines(path, some):
    """Leaves some lines of a file."""
    path.write_text("".join(path.read_text().splitlines(keepends=True)[some]))


def change(path, old, new):
    path.write_text(path.read_text().replace(old, new))


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda f: shutil.rmtree(f), "is no run folder: there is no flags.txt in it"),
        (lambda f: (f / "flags.txt").unlink(), "flags.txt' is missing. Put it back, or write the"),
        (lambda f: (f / "result.json").unlink(), "is not finished"),
        (lambda f: (f / "history.csv").unlink(), "history.csv' is missing. Put it back"),
        (lambda f: (f / "history.csv").write_text(""), "history.csv' is empty"),
        (lambda f: (f / "history.csv").write_text("epoch\n"), "has no epochs"),
        (
            lambda f: (f / "history.csv").write_text("epoch\nmany\n"),
            "history.csv has 'many' as epoch",
        ),
        (lambda f: (f / "result.json").write_text("{"), "one of its files is damaged"),
        (lambda f: (f / "result.json").write_text("{}"), "cannot be read .*dataset"),
        (
            lambda f: (f / "architecture.json").write_text("[]"),
            r"architecture.json holds no object",
        ),
        (lambda f: (f / "architecture.json").write_text("[" * 200_000), "architecture.json: "),
        (lambda f: (f / "history.csv").write_bytes(b"\xff\xfe"), "history.csv is no text"),
        (lambda f: (f / "history.csv").write_text("epoch\n" + "1" * 200_000), "history.csv: field"),
        (
            lambda f: lines(f / "history.csv", slice(0, 4)),
            r"the epochs \['1', '2', '3'\], and result.* 6",
        ),
        (lambda f: change(f / "history.csv", "\n3,", "\n2,"), "has the epochs .*'2', '2'"),
        (lambda f: (f / "history.csv").write_text("epoch,loss\n1\n"), "has None as loss"),
        (lambda f: (f / "norms.json").write_text("{}"), "norms.json has no lowest"),
        (lambda f: (f / "norms.json").write_text("{"), "cannot be read .norms.json: "),
        (lambda f: lack(f / "norms.json", "moments", 0, "name"), "norms.json has .* as moments"),
        (
            lambda f: put(f / "norms.json", [1], "moments", 0, "counts"),
            "norms.json has .* as moments",
        ),
        (lambda f: put(f / "norms.json", 10**400, "moments", 0, "counts", 0), "has .* as moments"),
        (lambda f: lack(f / "result.json", "channels"), "result.json has no channels"),
        (lambda f: lack(f / "architecture.json", "final", "macs"), "architecture.json has no macs"),
        (
            lambda f: lack(f / "architecture.json", "reconfigurations", 1, "params"),
            "architecture.json has no params",
        ),
        (lambda f: put(f / "result.json", 5, "inference_flops"), "has 5 as inference_flops"),
        (
            lambda f: put(f / "result.json", "high", "accuracy"),
            "result.json has 'high' as accuracy",
        ),
        (lambda f: put(f / "result.json", 1.5, "epochs"), "result.json has 1.5 as epochs"),
        (lambda f: put(f / "result.json", None, "seconds"), "result.json has None as seconds"),
        (
            lambda f: put(f / "architecture.json", "2", "reconfigurations", 0, "epoch"),
            "architecture.json has '2' as epoch",
        ),
        (
            lambda f: put(
                f / "architecture.json", [8, "8"], "reconfigurations", 0, "layers", "first"
            ),
            "architecture.json has .* as layers",
        ),
        (
            lambda f: put(f / "architecture.json", -16, "initial", "layers", "first"),
            "architecture.json has .* as layers",
        ),
        (
            lambda f: put(f / "architecture.json", 7, "reconfigurations", 2, "epoch"),
            r"architecture.json has reconfigurations at the epochs \[2, 4, 7\]",
        ),
        (
            lambda f: put(f / "architecture.json", "8", "initial", "macs", "first"),
            "architecture.json has .* as macs",
        ),
        (lambda f: put(f / "norms.json", 0, "per_decade"), "norms.json has 0 as per_decade"),
        (lambda f: put(f / "norms.json", "-12", "lowest"), "norms.json has '-12' as lowest"),
        (lambda f: put(f / "result.json", ["digits"], "dataset"), r"has \['digits'\] as dataset"),
        (lambda f: put(f / "result.json", [1, "2"], "params"), r"has \[1, '2'\] as params"),
        (lambda f: put(f / "result.json", [1, 2, 3], "training_memory"), "as training_memory"),
        (
            lambda f: put(f / "architecture.json", None, "reconfigurations", 0, "channels"),
            "architecture.json has None as channels",
        ),
        (
            lambda f: put(f / "architecture.json", ["first"], "reconfigurations", 0, "layers"),
            "architecture.json has .* as layers",
        ),
        (
            lambda f: put(f / "architecture.json", None, "initial"),
            "architecture.json has no layers",
        ),
        (
            lambda f: change(f / "history.csv", "val_accuracy", "v"),
            "has no val_accuracy.*repeat the run",
        ),
        (lambda f: change(f / "flags.txt", "--threshold=", "--t="), "flags.txt has no threshold"),
        (
            lambda f: change(f / "flags.txt", "--threshold=", "--threshold=n"),
            "has 'n0.4' as thresh",
        ),
        (lambda f: change(f / "flags.txt", "--threshold=", "--threshold=-"), "has -0.4 as thresh"),
    ],
)
def test_what_is_no_finished_run_is_told_of_in_a_sentence(pruned, tmp_path, spoil, says):
    folder = tmp_path / "run"
    shutil.copytree(pruned, folder)
    spoil(folder)
    with pytest.raises(ValueError, match=says) as error:
        report.read(folder)
    assert "\n" not in str(error.value)
    assert str(folder) in str(error.value)
