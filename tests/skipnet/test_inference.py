from typing import ClassVar

import keras
import numpy as np
import onnx
import onnxruntime
import pytest
from keras import ops

from ptkeras import channels, cost, export, skipnet
from ptkeras.skipnet.blocks import gated_blocks
from tests.helpers.skipnet_networks import (
    images,
    nested,
    series,
    single_pixels,
    small,
    undecided,
    vectors,
)

pytestmark = [pytest.mark.compiles_much, pytest.mark.thorough]

X = images(40)
Y = np.arange(40) % 4


@keras.saving.register_keras_serializable("tests")
class Counted(keras.layers.Layer):
    """Counts how often it is called, and on how many images."""

    seen: ClassVar[list[int]] = []

    def call(self, x):
        Counted.seen.append(x.shape[0])
        return x


@channels.register(Counted)
def _(call):
    """A layer that is known as a whole is not opened up."""
    return call.inputs[0]


@pytest.fixture(scope="module")
def network():
    keras.utils.set_random_seed(0)
    return undecided(small())


def answers(model, x=X):
    return ops.convert_to_numpy(model(x))


@pytest.mark.parametrize("gate", ["ffgate1", "ffgate2", "rnn"])
def test_images_that_are_gathered_get_what_masks_would_give_them(gate):
    network = undecided(small(), gate)
    routing = skipnet.measure(network, X, Y)
    assert np.any((routing.by_block > 0) & (routing.by_block < 1))
    wanted = answers(network)
    fast = skipnet.skipping(network)
    np.testing.assert_allclose(answers(fast), wanted, atol=1e-5)
    np.testing.assert_allclose(fast.predict(X, verbose=0), wanted, atol=1e-5)
    for place in range(8):
        np.testing.assert_allclose(answers(fast, X[place : place + 1])[0], wanted[place], atol=1e-5)


def test_a_branch_that_is_skipped_is_not_computed():
    image = keras.Input((8, 8, 1))
    x = keras.layers.Conv2D(4, 3, padding="same")(image)
    y = Counted()(keras.layers.Conv2D(4, 3, padding="same")(x))
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.Add()([x, y]))
    network = undecided(keras.Model(image, keras.layers.Dense(4)(x)))
    taken = skipnet.measure(network, X, Y).decisions[:, 0]
    assert 0 < taken.sum() < 40
    fast = skipnet.skipping(network)
    Counted.seen.clear()
    fast(X)
    assert Counted.seen == [taken.sum()]
    Counted.seen.clear()
    for place in range(40):
        fast(X[place : place + 1])
    assert Counted.seen == [1] * taken.sum()
    Counted.seen.clear()
    fast(X[~taken])
    assert Counted.seen == []


def test_the_same_in_a_compiled_function(network):
    fast, wanted = skipnet.skipping(network), answers(network)
    alone = keras.Input(batch_shape=(1, 8, 8, 1))
    single = keras.Model(alone, fast(alone))
    for place in range(5):
        got = single.predict(X[place : place + 1], verbose=0)
        np.testing.assert_allclose(got[0], wanted[place], atol=1e-5)


def test_a_network_that_skips_does_not_train(network):
    fast = skipnet.skipping(network)
    fast.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    fast.evaluate(X, Y, verbose=0)
    with pytest.raises(ValueError, match=r"'block\d_add' skips branches, for inference only"):
        fast.fit(X, Y, verbose=0)


def test_files_of_all_forms_answer_alike(network, tmp_path):
    wanted = answers(network)
    for make in (skipnet.skipping, skipnet.plain):
        made = make(network)
        made.save(tmp_path / "network.keras")
        loaded = keras.models.load_model(tmp_path / "network.keras")
        np.testing.assert_allclose(answers(loaded), wanted, atol=1e-5)
    names = {type(layer).__module__.split(".")[0] for layer in loaded.layers}
    assert names == {"keras"} and "ptkeras" not in str(loaded.get_config())
    fast = skipnet.skipping(loaded)
    np.testing.assert_allclose(answers(fast), wanted, atol=1e-5)


def test_flops_are_those_of_what_an_image_takes(network):
    routing = skipnet.measure(network, X, Y)
    ungated = cost.inference_flops(skipnet.remove_gates(network))
    assert routing.base_flops + routing.block_flops.sum() == cost.inference_flops(network)
    np.testing.assert_array_equal(routing.block_flops, 2 * (2 * 64 * 9 * 8 * 8))
    gates = cost.inference_flops(network) - ungated
    for taken, flops in zip(routing.decisions, routing.flops, strict=True):
        assert flops == ungated + gates - (~taken).sum() * routing.block_flops[0]
    scores = answers(network)
    assert routing.accuracy == np.mean(scores.argmax(-1) == Y)
    assert routing.by_class[2] == routing.decisions[Y == 2].mean()
    assert routing.quantiles()[0] == routing.flops.min()
    assert f"blocks run {routing.blocks_run:.1%}" in str(routing)
    taken = routing.decisions.sum(axis=1)
    assert routing.images_by_blocks == {n: np.mean(taken == n) for n in sorted({*taken.tolist()})}
    assert f"of 3: {taken.min()}: {np.mean(taken == taken.min()):.1%}, " in str(routing)
    assert cost.inference_flops(skipnet.skipping(network)) == cost.inference_flops(network)
    with pytest.raises(ValueError, match=r"the network that .* was given"):
        skipnet.measure(skipnet.skipping(network), X, Y)
    hot = skipnet.measure(network, [(X[:25], np.eye(4)[Y[:25]]), (X[25:], np.eye(4)[Y[25:]])])
    np.testing.assert_array_equal(hot.decisions, routing.decisions)
    assert hot.accuracy == routing.accuracy


def test_gates_that_are_always_alike_are_settled(network):
    decisions = skipnet.measure(network, X, Y).decisions
    chosen = decisions[:, 0] & ~decisions[:, 1]
    assert chosen.any() and len(set(decisions[chosen, 2])) == 2
    settled = skipnet.settle(network, X[chosen])
    assert isinstance(settled, skipnet.SkipNet) and len(settled.switches) == 1
    assert "block1_conv1" not in [layer.name for layer in settled.layers]
    np.testing.assert_allclose(answers(settled, X[chosen]), answers(network, X[chosen]), atol=1e-5)
    one = np.flatnonzero(chosen)[:1]
    alone = skipnet.settle(network, X[one])
    assert not gated_blocks(alone) and not isinstance(alone, skipnet.SkipNet)
    np.testing.assert_allclose(answers(alone, X[one]), answers(network, X[one]), atol=1e-5)
    routing = skipnet.measure(alone, X, Y)
    assert (routing.blocks, routing.blocks_run, routing.by_class) == ([], 1.0, {})
    np.testing.assert_array_equal(routing.flops, cost.inference_flops(alone))


def test_gates_are_settled_by_images_in_any_form(network):
    decisions = skipnet.measure(network, X, Y).decisions
    alike = X[(decisions == decisions[0]).all(axis=1)]
    pixels = np.zeros((len(alike), 8, 8), int)
    for given in (alike, [alike[:1], alike[1:]], [(alike, pixels)]):
        assert not gated_blocks(skipnet.settle(network, given))
    inner = keras.Model(network.inputs, [network.outputs[0], network.get_layer("stem").output])
    assert not gated_blocks(skipnet.settle(inner, alike))
    with pytest.raises(ValueError, match="must have one output"):
        skipnet.measure(inner, X, Y)


def test_accuracy_needs_labels(network):
    for given, says in ((X, r"an array of shape \(40, 8, 8, 1\)"), ([X[:3]], "received list")):
        with pytest.raises(ValueError, match=f"by labels, and there are none: .*{says}"):
            skipnet.measure(network, given)


@pytest.mark.parametrize("nothing", [[], X[:0]], ids=["batches", "array"])
def test_no_images_are_told_of(network, nothing):
    with pytest.raises(ValueError, match="There are no images to watch the gates of"):
        skipnet.settle(network, nothing)
    with pytest.raises(ValueError, match="There are no images to watch the gates of"):
        skipnet.measure(network, nothing, None if isinstance(nothing, list) else Y[:0])


def test_gates_that_are_held_open_have_nothing_to_skip(network):
    network = skipnet.add_gates(small())
    network.open_gates()
    for make in (skipnet.skipping, skipnet.plain):
        with pytest.raises(ValueError, match="gates of 'small' are held open"):
            make(network)


# ONNX.


def ifs(path):
    return [node for node in onnx.load(path).graph.node if node.op_type == "If"]


@pytest.mark.tensorflow
@pytest.mark.parametrize("gate", ["ffgate1", "rnn"])
@pytest.mark.parametrize("batch_size", [1, None])
def test_onnx_skips_and_answers_as_keras(gate, batch_size, tmp_path):
    network = undecided(small(), gate)
    for make in (skipnet.plain, lambda network: network):
        export.to_onnx(make(network), tmp_path / "a.onnx", batch_size=batch_size)
        conditionals = ifs(tmp_path / "a.onnx")
        assert len(conditionals) == 3
        for node in conditionals:
            graphs = {attribute.name: attribute.g for attribute in node.attribute}
            kinds = [inner.op_type for inner in graphs["then_branch"].node]
            assert kinds.count("Conv") == 2
            assert [inner.op_type for inner in graphs["else_branch"].node] == ["Identity"]
        session = onnxruntime.InferenceSession(tmp_path / "a.onnx")
        wanted = answers(network)
        for place in range(20):
            (got,) = session.run(None, {"image": X[place : place + 1]})
            np.testing.assert_allclose(got[0], wanted[place], atol=1e-4)
        if batch_size is None:
            (got,) = session.run(None, {"image": X})
            np.testing.assert_allclose(got, wanted, atol=1e-4)


@pytest.mark.tensorflow
@pytest.mark.parametrize("batch_size", [1, None])
@pytest.mark.parametrize(
    ("build", "count"), [(vectors, 2), (series, 1), (nested, 2), (single_pixels, 1)]
)
def test_onnx_skips_in_blocks_of_any_shape(build, count, batch_size, tmp_path):
    network = undecided(build(), "rnn")
    x = images(24, 1, network.input_shape[1:])
    assert len({tuple(row) for row in skipnet.measure(network, x, np.zeros(24)).decisions}) > 1
    export.to_onnx(network, tmp_path / "a.onnx", batch_size=batch_size)
    assert len(ifs(tmp_path / "a.onnx")) == count
    session = onnxruntime.InferenceSession(tmp_path / "a.onnx")
    (name,) = (each.name for each in session.get_inputs())
    for one, wanted in zip(x, answers(network, x), strict=True):
        (got,) = session.run(None, {name: one[None]})
        assert got.shape == (1, *wanted.shape)
        np.testing.assert_allclose(got[0], wanted, atol=1e-4)


@pytest.mark.tensorflow
def test_an_export_that_would_not_skip_is_refused(network, tmp_path, monkeypatch):
    monkeypatch.setattr("ptkeras.export.conditional.branch_off", lambda proto: 1)
    with pytest.raises(export.ExportError, match="'small' has 3 gates, of which 2 would skip"):
        export.to_onnx(network, tmp_path / "a.onnx", batch_size=1)
    opened = skipnet.add_gates(small())
    opened.open_gates()
    export.to_onnx(opened, tmp_path / "a.onnx")


@pytest.mark.tensorflow
def test_onnx_does_not_run_what_is_skipped(tmp_path):
    """A branch of NaNs is harmless where nobody takes it."""
    network = undecided(small())
    closed = next(layer for layer in network.layers if layer.name == "block1_add_gate_logit")
    closed.kernel.assign(ops.zeros_like(closed.kernel))
    closed.bias.assign([-1.0])
    export.to_onnx(network, tmp_path / "a.onnx", batch_size=1)
    proto = onnx.load(tmp_path / "a.onnx")
    (wanted,) = onnxruntime.InferenceSession(tmp_path / "a.onnx").run(None, {"image": X[:1]})
    for node in proto.graph.node:
        for attribute in node.attribute:
            if attribute.name == "then_branch" and "block1" in attribute.g.name:
                for tensor in attribute.g.initializer:
                    values = onnx.numpy_helper.to_array(tensor)
                    tensor.CopyFrom(
                        onnx.numpy_helper.from_array(np.full_like(values, np.nan), tensor.name)
                    )
    session = onnxruntime.InferenceSession(proto.SerializeToString())
    (got,) = session.run(None, {"image": X[:1]})
    np.testing.assert_array_equal(got, wanted)


@pytest.mark.tensorflow
def test_onnx_in_float16_skips_too(network, tmp_path):
    export.to_onnx(network, tmp_path / "a.onnx", precision="float16", check=False)
    assert len(ifs(tmp_path / "a.onnx")) == 3
    session = onnxruntime.InferenceSession(tmp_path / "a.onnx")
    (got,) = session.run(None, {"image": X[:1]})
    np.testing.assert_allclose(got, answers(network)[:1], atol=0.05, rtol=0.02)


@pytest.mark.tensorflow
def test_int8_would_compute_what_is_skipped(network, tmp_path):
    with pytest.raises(export.ExportError, match="'small' has gates, and in int8"):
        export.to_onnx(network, tmp_path / "a.onnx", precision="int8", calibration=X)
    ungated = skipnet.remove_gates(network)
    export.to_onnx(ungated, tmp_path / "a.onnx", precision="int8", calibration=X, check=False)


@pytest.mark.tensorflow
def test_latency_is_told_for_each_network(network):
    times = export.onnx_latency([network, small(1)], X[:5], rounds=2)
    assert len(times) == 2 and all(0 < each < 1e3 for each in times)
    assert export.onnx_latency([small(1)], np.zeros((2, 8, 8, 1), "uint8"), rounds=1)[0] > 0


def test_latency_in_keras_is_that_of_each_network():
    network = skipnet.add_gates(small(), "ffgate2")
    models = [skipnet.remove_gates(network), skipnet.skipping(network)]
    times = skipnet.keras_latency(models, X[:4], rounds=3)
    assert len(times) == 2 and all(0 < time < 1e4 for time in times)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"rounds": 0}, "rounds must be a whole number from 1; received 0"),
        ({"threads": 0.5}, "threads must be a whole number from 1; received 0.5"),
        ({"images": X[:0]}, "number of images .* received 0"),
    ],
)
def test_latency_of_nothing_is_refused(options, says):
    with pytest.raises(ValueError, match=says):
        export.onnx_latency([small(1)], **{"images": X[:2]} | options)
    if "threads" not in options:
        with pytest.raises(ValueError, match=says):
            skipnet.keras_latency([small(1)], **{"images": X[:2]} | options)
