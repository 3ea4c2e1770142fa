import csv
import json
import types
import zipfile

import keras
import numpy as np
import onnx
import pytest

from ptkeras import cost, data, export, skipnet
from ptkeras.cli import train
from ptkeras.methods import settings
from ptkeras.methods.callbacks.skipnet import Gates
from ptkeras.models import build
from tests.helpers.same_run import assert_same_weights, stopped_in
from tests.helpers.skipnet_networks import images, small

pytestmark = [pytest.mark.tensorflow, pytest.mark.thorough]

SHORT = [
    "--method=skipnet",
    "--model=tests.helpers.small_network:build",
    "--epochs=2",
    "--rl_epochs=2",
    "--batch_size=256",
    "--learning_rate=0.05",
    "--gate=ffgate2",
    "--alpha=3",
    "--rl_weight=2",
    "--rl_learning_rate=0.003",
]


def run(folder, *flags):
    return train.main([*SHORT, f"--output_dir={folder}", *flags])


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "run"
    assert run(folder, "--export=onnx") == 0
    return folder


def test_a_run_leaves_a_network_of_plain_keras_and_what_its_gates_decide(finished):
    with zipfile.ZipFile(finished / "model.keras") as archive:
        assert b"ptkeras" not in archive.read("config.json")
    model = keras.models.load_model(finished / "model.keras")
    test = data.load("digits", batch_size=256).test
    routing = skipnet.measure(model, test)
    result = json.loads((finished / "result.json").read_text())
    assert result["accuracy"] == pytest.approx(routing.accuracy)
    assert result["mean_inference_flops"] == round(routing.flops.mean())
    assert result["gates"] == [2, len(routing.blocks)]
    by_block = result["blocks_run_by_block"]
    assert len(by_block) == 2 and np.mean([*by_block.values()]) == pytest.approx(
        result["blocks_run"]
    )
    for name, share in zip(routing.blocks, routing.by_block, strict=True):
        assert by_block[name] == pytest.approx(share)
    assert len(result["blocks_run_by_class"]) == 10
    shares = {int(n): share for n, share in result["images_by_blocks_run"].items()}
    assert sum(shares.values()) == pytest.approx(1)
    assert sum(n * share for n, share in shares.items()) == pytest.approx(2 * result["blocks_run"])
    for runtime in ("keras", "onnxruntime"):
        assert all(0 < each < 1e3 for each in result[f"milliseconds_{runtime}"])
    assert result["inference_flops"][0] == cost.inference_flops(
        build("tests.helpers.small_network:build", (8, 8, 1), 10)
    )


def test_the_page_has_the_gates(finished):
    page = (finished / "report.html").read_text(encoding="utf-8")
    gates, left = json.loads((finished / "result.json").read_text())["gates"]
    assert f"Gates that still decide by the image: {left} of {gates}." in page
    for says in ("supervised pre-training to epoch 2", "onnxruntime</td>", ">block2_add<"):
        assert says in page
    assert "Not shown" not in page


def test_the_stages_are_in_the_history(finished):
    with (finished / "history.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["learning_rate"] for row in rows] == ["0.05", "0.05", "0.003", "0.003"]
    assert all(0 <= float(row["blocks_run"]) <= 1 for row in rows)
    assert int(rows[3]["training_flops"]) == 4 * int(rows[0]["training_flops"])


def test_the_export_has_a_conditional_for_each_gate(finished):
    proto = onnx.load(finished / "model.onnx")
    gates = json.loads((finished / "result.json").read_text())["gates"][1]
    assert sum(node.op_type == "If" for node in proto.graph.node) == gates


@pytest.mark.slow
def test_a_run_that_was_stopped_ends_like_one_that_was_not(finished, tmp_path):
    for at in (1, 2):  # between the stages, and within the second
        with stopped_in(at):
            assert run(tmp_path / "stopped") == 130
    assert run(tmp_path / "stopped") == 0
    assert_same_weights(finished, tmp_path / "stopped")


def test_flags_reach_the_gates():
    flags = ["--method=skipnet", "--alpha=2", "--gamma=0.5", "--rl_weight=4", "--gates=soft"]
    values = settings.parse(flags)
    network = skipnet.add_gates(
        build("tests.helpers.small_network:build", (8, 8, 1), 10), values.gate
    )
    gates = Gates(values, types.SimpleNamespace(num_train=9))
    gates.set_model(network)
    assert [gates.stage(epoch) for epoch in (0, 59, 60)] == [
        "pretraining",
        "pretraining",
        "reinforcement",
    ]
    gates.enter("pretraining")
    assert {switch.mode for switch in network.switches} == {"soft"}
    gates.enter("reinforcement")
    assert {switch.mode for switch in network.switches} == {"sample"}
    assert network._rewards == (2, 0.5, 4)


def test_a_network_that_is_not_exported_is_timed_in_keras_alone(monkeypatch, capsys):
    def refuse(models, images):
        raise export.ExportError("no such operation.")

    monkeypatch.setattr(export, "onnx_latency", refuse)
    import tensorflow as tf

    test = tf.data.Dataset.from_tensor_slices((images(8), np.arange(8) % 4)).batch(4)
    values = settings.parse(["--method=skipnet"])
    gates = Gates(values, types.SimpleNamespace(num_train=8, test=test))
    network = skipnet.add_gates(small(1), "ffgate2")
    gates._settled = skipnet.measure(network, test)
    assert list(gates.times(skipnet.remove_gates(network), network)) == ["milliseconds_keras"]
    assert "No milliseconds in onnxruntime: no such operation." in capsys.readouterr().out


def test_the_flagfile_has_the_authors_rewards():
    """0.01 times a sum over a batch, in their cifar/train_rl.py; here it is a mean."""
    values = settings.parse(["--flagfile=flags/cifar10_resnet32_skipnet.flags"])
    assert (values.alpha, values.gamma, values.rl_learning_rate) == (0.1, 1, 1e-4)
    assert values.rl_weight == pytest.approx(0.01 * values.batch_size)


@pytest.mark.parametrize(
    ("flag", "says"),
    [
        ("--gate=lstm", "ffgate1, ffgate2 or rnn"),
        ("--gates=open", "hard or soft"),
        ("--gamma=1.5", "from 0 to 1"),
        ("--alpha=-1", "a number from 0"),
        ("--rl_weight=0", "a number over 0"),
    ],
)
def test_flags_that_cannot_be_followed(flag, says):
    with pytest.raises(settings.SettingsError, match=says):
        settings.parse(["--method=skipnet", flag])


def test_a_network_without_residual_blocks_is_told_of(tmp_path, capsys):
    assert run(tmp_path / "run", "--model=vgg8") == 1
    assert "'vgg8' has no residual block" in capsys.readouterr().err
