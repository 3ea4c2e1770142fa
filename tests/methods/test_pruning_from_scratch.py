import json
import os
import shutil
import signal

import keras
import onnx
import pytest

from ptkeras import cost
from ptkeras.cli import train
from ptkeras.from_scratch.gate_search import GateSearch
from ptkeras.methods import settings
from ptkeras.methods.callbacks import pruning_from_scratch
from ptkeras.models import build
from tests.helpers.same_run import assert_same_weights, stopped_in

pytestmark = pytest.mark.tensorflow

SHORT = [
    "--method=pruning_from_scratch",
    "--model=tests.helpers.small_network:build",
    "--epochs=2",
    "--batch_size=256",
    "--learning_rate=0.05",
    "--learning_rate_drops=1",
    "--budget_training",
    "--flops_budget=0.5",
    "--gate_epochs=2",
    "--gate_batch_size=64",
]


def run(folder, *flags):
    return train.main([*SHORT, f"--output_dir={folder}", *flags])


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "run"
    assert run(folder) == 0
    return folder


def told(folder, name):
    return json.loads((folder / f"{name}.json").read_text())


def test_a_run_meets_its_budget(finished):
    dense = build("tests.helpers.small_network:build", (8, 8, 1), 10)
    model = keras.models.load_model(finished / "model.keras")
    share = cost.inference_flops(model) / cost.inference_flops(dense)
    assert share == pytest.approx(0.5, rel=0.01)
    result, search = told(finished, "result"), told(finished, "search")
    assert result["inference_flops"] == [cost.inference_flops(dense), cost.inference_flops(model)]
    assert result["epochs"] == round(2 / share) == 4
    assert len(search["history"]) == 2 and search["epoch"] in (1, 2)
    # Budget training: what the search took is on top.
    dense_training, training = result["training_flops"]
    assert training - search["flops"] == pytest.approx(dense_training, rel=0.02)
    rows = (finished / "history.csv").read_text().splitlines()
    assert [row.split(",")[5] for row in rows[1:]] == ["0.05", "0.05", "0.005", "0.005"]


def test_a_budget_out_of_reach_is_told_of_before_the_search(tmp_path, capsys):
    assert run(tmp_path / "run", "--flops_budget=0.0002") == 1
    out, err = capsys.readouterr()
    assert "nearest to a budget of 0.0002" in err and "Learning gates" not in out
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_a_run_that_was_stopped_ends_like_one_that_was_not(finished, tmp_path, monkeypatch):
    searches = []
    search = pruning_from_scratch._search
    monkeypatch.setattr(
        pruning_from_scratch, "_search", lambda *args: searches.append(1) or search(*args)
    )

    for saved in (False, True):  # behind the search, and behind an epoch
        with stopped_in(0, saved):
            assert run(tmp_path / "stopped") == 130
    assert run(tmp_path / "stopped") == 0
    assert searches == [1]
    assert_same_weights(finished, tmp_path / "stopped")


@pytest.mark.slow
def test_a_run_that_was_terminated_while_gates_were_learned_ends_the_same(
    finished, tmp_path, monkeypatch, capsys
):
    folder = tmp_path / "stopped"

    def terminate(self, batch, logs=None):
        if (len(self.history), batch) == (1, 3):
            os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(GateSearch, "on_train_batch_end", terminate)
        assert run(folder) == 143
    assert "while gates were learned; the same call goes on from epoch 1" in capsys.readouterr().err
    assert (folder / "checkpoints" / "gates.keras").exists()
    assert run(folder) == 0
    out = capsys.readouterr().out
    assert "Going on with the gates" in out
    ours, theirs = ({**told(one, "search"), "seconds": 0} for one in (folder, finished))
    assert ours == theirs
    assert_same_weights(finished, folder)
    assert not list(folder.rglob("gates*"))


def test_a_finished_run_may_be_asked_for_an_export(finished, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(finished, folder)
    assert run(folder, "--export=onnx") == 0
    told = {one.key: one.value for one in onnx.load(folder / "model.onnx").metadata_props}
    assert (told["method"], told["network"]) == (
        "pruning_from_scratch",
        "tests.helpers.small_network:build",
    )


@pytest.mark.parametrize(
    ("flag", "says"),
    [
        ("--flops_budget=0", "over 0 and at most 1"),
        ("--sparsity_ratio=1.1", "over 0 and at most 1"),
        ("--channel_expansion=0.9", "from 1 and under 16"),
        ("--balance_factor=-1", "a number from 0"),
    ],
)
def test_flags_that_cannot_be_followed(flag, says):
    with pytest.raises(settings.SettingsError, match=says):
        settings.parse(["--method=pruning_from_scratch", flag])
