"""ONNX: files that onnxruntime runs, with names, an open batch size and metadata."""

import json
import subprocess
import sys
from collections import Counter

import keras
import numpy as np
import onnx
import onnxruntime
import pytest
from keras import layers

from ptkeras import __version__, export
from tests.helpers import exported_networks as networks
from tests.helpers.zoo import ZOO

pytestmark = [pytest.mark.tensorflow, pytest.mark.thorough]


def session(path):
    return onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])


def operations(path):
    return Counter(node.op_type for node in onnx.load(path).graph.node)


def images(count=3):
    return np.random.default_rng(1).normal(size=(count, 8, 8, 3)).astype("float32")


def test_onnxruntime_answers_as_keras_does_at_any_batch_size(model, tmp_path):
    artifact = export.to_onnx(model, tmp_path / "small.onnx")
    run = session(artifact)
    for count in (1, 3, 7):
        [answer] = run.run(["logits"], {"image": images(count)})
        np.testing.assert_allclose(answer, model(images(count), training=False), rtol=1e-4)
    assert artifact.verification.passed
    assert artifact.verification.batch_sizes == (1, 3)
    assert artifact.size == (tmp_path / "small.onnx").stat().st_size
    assert "onnxruntime" in artifact.summary


def test_names_sizes_and_metadata(model, tmp_path):
    labels = ["a", "b", "ç", "d,e"]
    export.to_onnx(
        model,
        tmp_path / "a.onnx",
        labels=labels,
        metadata={"method": "prunetrain", "accuracy": 0.5},
    )
    proto = onnx.load(tmp_path / "a.onnx")
    onnx.checker.check_model(proto, full_check=True)
    [given], [got] = session(tmp_path / "a.onnx").get_inputs(), proto.graph.output
    assert (given.name, given.shape) == ("image", ["batch", 8, 8, 3])
    assert got.name == "logits"
    assert [d.dim_param or d.dim_value for d in got.type.tensor_type.shape.dim] == ["batch", 4]
    told = session(tmp_path / "a.onnx").get_modelmeta().custom_metadata_map
    assert json.loads(told["labels"]) == labels
    assert (told["method"], told["accuracy"]) == ("prunetrain", "0.5")
    assert told["ptkeras_version"] == __version__
    # 8·8·(6·27 + 6·6) + 6·4 multiply-accumulates
    assert told["inference_flops"] == str(2 * (64 * (6 * 27 + 36) + 24))
    assert (proto.producer_name, proto.graph.name) == ("ptkeras", "small")


def test_nothing_of_training_and_no_batch_norm_is_left(model, tmp_path):
    export.to_onnx(model, tmp_path / "a.onnx")
    found = operations(tmp_path / "a.onnx")
    assert found["Conv"] == 2
    assert not {"BatchNormalization", "Mul", "Dropout", "Identity"} & set(found)
    assert found["Add"] == 2  # the shortcut and the bias of the dense layer


def test_a_model_that_is_only_built_and_one_that_is_sequential(tmp_path):
    model = keras.Sequential([layers.Dense(3, activation="relu"), layers.Dense(2)])
    with pytest.raises(ValueError, match="is not built"):
        export.to_onnx(model, tmp_path / "a.onnx")
    model.build((None, 4))
    assert export.to_onnx(model, tmp_path / "a.onnx").verification.passed


def test_what_onnx_has_no_operations_for_is_rewritten(tmp_path):
    """Keras's exact GELU uses Erfc, and it compiles grouped convolutions with XLA."""
    x = keras.Input((6, 6, 4))
    y = layers.Conv2D(8, 3, groups=4, activation="gelu")(x)
    model = keras.Model(x, layers.Conv2D(8, 3, groups=8)(y))
    artifact = export.to_onnx(model, tmp_path / "a.onnx")
    assert artifact.verification.max_relative < 1e-5
    assert not {"Erfc", "StatefulPartitionedCall"} & set(operations(artifact.path))


def test_activations_that_onnx_has_no_operation_for(tmp_path):
    x = keras.Input((4,))
    model = keras.Model(x, layers.Activation("celu")(layers.Dense(3)(x)))
    artifact = export.to_onnx(model, tmp_path / "celu.onnx")
    assert "Exp" in operations(artifact.path)


def test_zeros_around_a_pool_stay_zeros(tmp_path):
    """onnxruntime takes padding with zeros into a max pool, which pads with -∞."""
    x = keras.Input((6, 6, 2), name="x")
    y = layers.MaxPooling2D(3, 2)(layers.ZeroPadding2D(1)(x))
    model = keras.Model(x, y)
    export.to_onnx(model, tmp_path / "a.onnx")
    values = np.full((1, 6, 6, 2), -1.0, "float32")
    [answer] = session(tmp_path / "a.onnx").run(None, {"x": values})
    assert (answer[0, 0, :, 0] == [0, 0, 0]).all()
    assert answer[0, 1, 1, 0] == -1


def test_dictionaries_in_and_out(tmp_path):
    model = networks.of_dictionaries()
    export.to_onnx(model, tmp_path / "a.onnx")
    feeds = {"image": images(2), "vector": np.ones((2, 5), "float32")}
    expected = model(feeds)
    for name in ("logits", "features"):
        [answer] = session(tmp_path / "a.onnx").run([name], feeds)
        np.testing.assert_allclose(answer, expected[name], rtol=1e-4, atol=1e-5)


def test_names_are_told_apart(tmp_path):
    x = keras.Input((4,), name="x")
    y = layers.Dense(2, name="y")
    model = keras.Model([x, keras.Input((4,), name="x-x")], [x, y(x), y(x)])
    export.to_onnx(model, tmp_path / "a.onnx")
    run = session(tmp_path / "a.onnx")
    assert [port.name for port in run.get_inputs()] == ["x", "x_x"]
    assert [port.name for port in run.get_outputs()] == ["x_1", "y", "y_1"]


@pytest.mark.parametrize(
    "policy",
    [
        "mixed_bfloat16",
        "float16",
        pytest.param("mixed_float16", marks=pytest.mark.slow),
        pytest.param("bfloat16", marks=pytest.mark.slow),
    ],
)
def test_half_precision_models_are_written_in_float32(policy, tmp_path):
    keras.config.set_dtype_policy(policy)
    try:
        model = networks.of_dictionaries()
    finally:
        keras.config.set_dtype_policy("float32")
    artifact = export.to_onnx(model, tmp_path / "a.onnx")
    assert artifact.verification.passed
    assert {port.type for port in session(artifact).get_inputs()} == {"tensor(float)"}
    twins = {tensor.name: tensor.data_type for tensor in onnx.load(artifact).graph.initializer}
    assert onnx.TensorProto.FLOAT in twins.values()
    assert not {onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16} & set(twins.values())


def test_scaling_and_softmax_become_part_of_it(model, tmp_path):
    mean, std = (10.0, 20.0, 30.0), (2.0, 3.0, 4.0)
    artifact = export.to_onnx(model, tmp_path / "a.onnx", mean=mean, std=std, softmax=True)
    pixels = 50 * images()
    [answer] = session(artifact).run(None, {"image": pixels})
    expected = keras.ops.softmax(model((pixels - np.array(mean, "f")) / np.array(std, "f")))
    np.testing.assert_allclose(answer, expected, atol=1e-5)
    report = export.verify(artifact, model, mean=mean, std=std, softmax=True, inputs=pixels)
    assert report.passed
    assert not export.verify(artifact, model, inputs=pixels).passed


def test_sizes_may_be_fixed(tmp_path):
    x = keras.Input((None, None, 3), name="image")
    model = keras.Model(x, layers.GlobalAveragePooling2D()(layers.Conv2D(2, 3, strides=2)(x)))
    export.to_onnx(model, tmp_path / "open.onnx")
    assert session(tmp_path / "open.onnx").get_inputs()[0].shape == [
        "batch",
        "image_1",
        "image_2",
        3,
    ]
    artifact = export.to_onnx(model, tmp_path / "a.onnx", input_shape=(9, 7, 3), batch_size=2)
    assert session(artifact).get_inputs()[0].shape == [2, 9, 7, 3]
    assert artifact.verification.batch_sizes == (2,)


@pytest.mark.parametrize("opset", [13, 18])
def test_versions_of_the_operations(opset, model, tmp_path):
    artifact = export.to_onnx(model, tmp_path / "a.onnx", opset=opset)
    assert [(one.domain, one.version) for one in onnx.load(artifact).opset_import] == [("", opset)]


def test_float16_halves_the_weights(tmp_path):
    model = keras.Sequential([keras.Input((64,)), layers.Dense(64, "relu"), layers.Dense(4)])
    whole = export.to_onnx(model, tmp_path / "a.onnx")
    half = export.to_onnx(model, tmp_path / "b.onnx", precision="float16")
    assert half.size < 0.6 * whole.size
    assert session(half).get_inputs()[0].type == "tensor(float)"
    onnx.checker.check_model(onnx.load(half), full_check=True)


def test_int8_is_calibrated_and_quantised_by_channel(model, tmp_path):
    artifact = export.to_onnx(
        model, tmp_path / "a.onnx", precision="int8", calibration=images(64), labels="abcd"
    )
    assert artifact.verification.batch_sizes == (64,)
    assert artifact.verification.max_relative < 0.1
    proto = onnx.load(artifact)
    kinds = {tensor.data_type for tensor in proto.graph.initializer if len(tensor.dims) == 4}
    assert kinds == {onnx.TensorProto.INT8}
    assert operations(artifact)["QuantizeLinear"] > 3
    scales = [tensor for tensor in proto.graph.initializer if tensor.name.endswith("_scale")]
    assert any(list(tensor.dims) == [6] for tensor in scales)
    assert "labels" in session(artifact).get_modelmeta().custom_metadata_map


def test_it_runs_in_a_process_with_neither_ptkeras_nor_tensorflow(model, tmp_path):
    export.to_onnx(model, tmp_path / "a.onnx")
    code = (
        "import sys, numpy, onnxruntime\n"
        "run = onnxruntime.InferenceSession('a.onnx', providers=['CPUExecutionProvider'])\n"
        "print(run.run(None, {'image': numpy.zeros((2, 8, 8, 3), 'float32')})[0].shape)\n"
        "assert not {'tensorflow', 'keras', 'ptkeras'} & set(sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.stdout == "(2, 4)\n", done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(set(ZOO) - {"squeezed_to_one_channel"}))
def test_the_zoo(name, tmp_path):
    model = networks.shaken(ZOO[name]())
    assert export.to_onnx(model, tmp_path / "a.onnx").verification.passed


def test_one_of_the_zoo(tmp_path):
    model = networks.shaken(ZOO["inverted_residual"]())
    assert export.to_onnx(model, tmp_path / "a.onnx").verification.passed
