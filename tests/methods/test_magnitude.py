import csv
import json
import os
import shutil
import signal

import keras
import onnx
import pytest

from ptkeras.cli import train
from ptkeras.magnitude import report
from ptkeras.methods import settings
from ptkeras.methods.callbacks import magnitude
from ptkeras.methods.callbacks.magnitude import SparseAccounts, gradual
from tests.helpers.same_run import assert_same_weights, stopped_in

pytestmark = pytest.mark.tensorflow

SHORT = [
    "--method=magnitude",
    "--model=tests.helpers.small_network:build",
    "--epochs=4",
    "--batch_size=256",
    "--learning_rate=0.02",
    "--sparsity=0.75",
    "--pruning_begin=1",
    "--pruning_end=3",
    "--pruning_frequency=4",
]


def run(folder):
    return train.main([*SHORT, f"--output_dir={folder}"])


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "whole"
    assert run(folder) == 0
    return folder


def test_sparsity_rises_as_in_zhu_and_gupta():
    at = gradual(0.8, begin=10, end=30, frequency=5)
    assert [at(step) for step in (1, 10)] == [None, None]
    assert at(11) == at(15) == 0
    assert at(16) == at(20) == pytest.approx(0.8 * (1 - 0.75**3))
    assert at(31) == at(99) == 0.8
    at_once = gradual(0.8, begin=10, end=10, frequency=5)
    assert [at_once(step) for step in (10, 11, 12)] == [None, 0.8, 0.8]


def test_a_run_leaves_a_sparse_network_of_plain_keras(whole, capsys):
    assert run(whole) == 0  # it is finished, and shown
    model = keras.models.load_model(whole / "model.keras")
    found = report(model)
    result = json.loads((whole / "result.json").read_text())
    assert found.sparsity == result["sparsity"] == pytest.approx(0.75, abs=0.01)
    assert result["nonzero_params"] == [found.params, found.nonzero_params]
    assert result["inference_flops"][0] == result["inference_flops"][1]
    with (whole / "history.csv").open() as file:
        rising = [float(row["sparsity"]) for row in csv.DictReader(file)]
    assert rising[0] == 0 < rising[1] < rising[2] < rising[3] == pytest.approx(0.75, abs=0.01)
    assert "weights that are zero" in capsys.readouterr().out


@pytest.mark.slow
def test_a_run_that_was_stopped_ends_like_one_that_was_not(whole, tmp_path):
    with stopped_in(1):
        assert run(tmp_path / "stopped") == 130
    assert run(tmp_path / "stopped") == 0
    assert_same_weights(whole, tmp_path / "stopped")


# Masks change in step 4 of an epoch; 6 make one.
@pytest.mark.slow
@pytest.mark.parametrize("step", [2, 3])
def test_a_run_that_was_terminated_in_an_epoch_ends_like_one_that_was_not(
    whole, tmp_path, monkeypatch, capsys, step
):
    class Terminate(SparseAccounts):
        def on_epoch_begin(self, epoch, logs=None):
            self.epoch = epoch

        def on_train_batch_end(self, batch, logs=None):
            if (self.epoch, batch) == (1, step):
                os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patched:
        patched.setattr(magnitude, "SparseAccounts", Terminate)
        assert run(tmp_path / "stopped") == 143
    assert f"step {step + 1} of epoch 2" in capsys.readouterr().err
    assert run(tmp_path / "stopped") == 0
    assert_same_weights(whole, tmp_path / "stopped")


def test_a_finished_run_may_be_asked_for_an_export(whole, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(whole, folder)
    assert train.main([*SHORT, f"--output_dir={folder}", "--export=onnx"]) == 0
    told = {one.key: one.value for one in onnx.load(folder / "model.onnx").metadata_props}
    result = json.loads((folder / "result.json").read_text())
    assert (told["method"], told["sparsity"]) == ("magnitude", str(result["sparsity"]))


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--pruning_begin=5", "--pruning_end=3"], "--pruning_end=3: must be from"),
        (["--pruning_end=60"], "to under --epochs=60"),
        (["--sparsity=1"], "--sparsity=1: must be from 0 to under 1"),
        (["--scope=model"], "must be layer, kind or global"),
    ],
)
def test_flags_that_cannot_be_followed(flags, says):
    with pytest.raises(settings.SettingsError, match=says):
        settings.parse(["--method=magnitude", *flags])


def test_weights_go_half_way_unless_told_otherwise():
    values = settings.parse(["--method=magnitude", "--epochs=9"])
    assert (values.pruning_begin, values.pruning_end) == (4, 4)
    assert settings.parse(["--method=magnitude", "--pruning_begin=7"]).pruning_end == 7
