import json
import types

import keras
import numpy as np
import pytest

from ptkeras import cost, data, skipnet
from ptkeras.cli import train
from ptkeras.methods import settings
from ptkeras.methods.callbacks.static_dynamic import Stages, Static
from ptkeras.models import build
from tests.helpers.same_run import assert_same_weights, stopped_in
from tests.helpers.skipnet_networks import images, small

pytestmark = [pytest.mark.tensorflow, pytest.mark.thorough]

SHORT = [
    "--method=static_dynamic",
    "--model=tests.helpers.small_network:build",
    "--epochs=1",
    "--pretraining_epochs=1",
    "--prune_ratio=0.4",
    "--fisher_images=64",
    "--finetune_epochs=1",
    "--rl_epochs=1",
    "--batch_size=256",
    "--learning_rate=0.05",
    "--gate=ffgate2",
    "--alpha=3",
]


def run(folder):
    return train.main([*SHORT, f"--output_dir={folder}"])


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "run"
    assert run(folder) == 0
    return folder


def told(folder):
    return json.loads((folder / "result.json").read_text())


def test_a_run_ends_in_the_table_of_the_three_networks(finished, capsys):
    rows = told(finished)["comparison"]
    assert [row["network"] for row in rows] == ["dense", "static", "static and dynamic"]
    models = [
        keras.models.load_model(finished / f"{name}.keras") for name in ("dense", "static", "model")
    ]
    test = data.load("digits", batch_size=256).test
    for row, model in zip(rows, models, strict=True):
        routing = skipnet.measure(model, test)
        assert row["params"] == model.count_params()
        assert row["accuracy"] == pytest.approx(routing.accuracy)
        assert row["inference_flops"] == round(routing.flops.mean())
        assert row["milliseconds"] > 0
    dense = build("tests.helpers.small_network:build", (8, 8, 1), 10)
    assert rows[0]["inference_flops"] == cost.inference_flops(dense) > rows[1]["inference_flops"]
    assert rows[0]["params"] == dense.count_params() > rows[1]["params"]
    page = (finished / "report.html").read_text(encoding="utf-8")
    assert "<td>static and dynamic</td>" in page and "Not shown" not in page
    assert "pruning and fine-tuning with all gates open to epoch 3" in page
    assert run(finished) == 0  # it is finished, and shown
    assert "static and dynamic" in capsys.readouterr().out


@pytest.mark.slow
def test_a_run_that_was_stopped_in_any_stage_ends_like_one_that_was_not(finished, tmp_path):
    for at in (0, 1, 2):
        with stopped_in(at):
            assert run(tmp_path / "stopped") == 130
    assert run(tmp_path / "stopped") == 0
    assert_same_weights(finished, tmp_path / "stopped")
    without_times = [
        {key: row[key] for key in row if key != "milliseconds"}
        for folder in (finished, tmp_path / "stopped")
        for row in told(folder)["comparison"]
    ]
    assert without_times[:3] == without_times[3:]


def test_stages_follow_each_other():
    flags = ["--epochs=3", "--pretraining_epochs=2", "--prune_ratio=0.2,0.2", "--finetune_epochs=2"]
    values = settings.parse(["--method=static_dynamic", *flags])
    dataset = types.SimpleNamespace(num_train=9)
    stages, static = Stages(values, dataset, folder=None), Static(values, dataset.num_train)
    names = [stages.stage(epoch) for epoch in range(10)]
    assert names == ["dense"] * 3 + ["pretraining"] * 2 + ["finetuning"] * 4 + ["reinforcement"]
    assert static.trained() == 5
    static.set_model(
        skipnet.add_gates(build("tests.helpers.small_network:build", (8, 8, 1), 10), "ffgate1")
    )
    assert len(static.left_alone()) == 2 * 3  # two convolutions and a dense layer
    assert all("_gate_" in name for name in static.left_alone())


@pytest.fixture
def begun():
    """The callbacks of a run, on a small network, as they stand at the end of the pre-training."""
    flags = ["--epochs=1", "--pretraining_epochs=1", "--prune_ratio=0.2", "--fisher_images=8"]
    values = settings.parse(["--method=static_dynamic", "--finetune_epochs=1", *flags])
    batches = [(images(8), np.arange(8) % 4)]
    dataset = types.SimpleNamespace(num_train=8, test=batches)
    network = skipnet.add_gates(small(), "ffgate2")
    network.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    found = [Stages(values, dataset, folder=None), Static(values, dataset.num_train)]
    for callback in found:
        callback.set_model(network)
        callback.on_train_begin()
    return found


def test_layers_are_pruned_with_the_gates_open(begun, monkeypatch):
    stages, static = begun
    modes = []

    def prune(model, *args, **options):
        modes.extend(switch.mode for switch in model.switches)
        return types.SimpleNamespace(layers=[])

    monkeypatch.setattr("ptkeras.eigendamage.prune", prune)
    stages.on_epoch_begin(1)
    assert {switch.mode for switch in stages.model.switches} == {"hard"}
    static.on_epoch_end(1)
    assert modes == ["open"] * 3


def test_each_stage_tells_of_the_blocks_that_are_run_in_it(begun):
    stages, _ = begun
    for switch in stages.model.switches:
        name = switch.name.replace("_switch", "_gate_logit")
        stages.model.get_layer(name).bias.assign([-9.0])
    told = []
    for epoch in range(4):
        stages.on_epoch_begin(epoch)
        told.append(stages.watch().measure(stages.dataset.test).blocks_run)
    assert told == [1.0, 0.0, 1.0, 0.0]
