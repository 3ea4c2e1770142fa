"""SavedModel and LiteRT, each in its own runtime."""

import json
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers

from ptkeras import export
from ptkeras.export import runtimes
from tests.helpers import exported_networks as networks
from tests.helpers.two_devices import mirrored_strategy

pytestmark = pytest.mark.tensorflow

ROOT = Path(__file__).parents[2]


def images(count=3):
    return np.random.default_rng(1).normal(size=(count, 8, 8, 3)).astype("float32")


def test_a_saved_model_has_a_signature_with_names(model, tmp_path):
    import tensorflow as tf

    artifact = export.to_saved_model(model, tmp_path / "small", labels="abcd")
    assert artifact.verification.max_relative < 1e-5
    serve = tf.saved_model.load(artifact).signatures["serving_default"]
    answer = serve(image=tf.constant(images(5)))
    assert set(answer) == {"logits"}
    np.testing.assert_allclose(answer["logits"], model(images(5)), rtol=1e-5)
    told = json.loads((tmp_path / "small/assets.extra/metadata.json").read_text())
    assert json.loads(told["labels"]) == list("abcd")


def test_a_saved_model_holds_its_weights_once(tmp_path):
    model = keras.Sequential([keras.Input((500,)), layers.Dense(500)])
    artifact = export.to_saved_model(model, tmp_path / "a")
    weights = tmp_path / "a/variables/variables.data-00000-of-00001"
    assert weights.stat().st_size < 1.1 * 4 * model.count_params()
    assert artifact.size > weights.stat().st_size


def test_a_saved_model_runs_in_a_process_without_ptkeras(model, tmp_path):
    export.to_saved_model(model, tmp_path / "small")
    code = (
        "import sys, tensorflow as tf\n"
        "serve = tf.saved_model.load('small').signatures['serving_default']\n"
        "print(serve(image=tf.zeros((2, 8, 8, 3)))['logits'].shape)\n"
        "assert 'ptkeras' not in sys.modules\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.stdout == "(2, 4)\n", done.stderr


def test_a_saved_model_computes_in_the_precision_of_the_model(tmp_path):
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = networks.of_dictionaries()
    finally:
        keras.config.set_dtype_policy("float32")
    artifact = export.to_saved_model(model, tmp_path / "a")
    feeds = {"image": images(), "vector": np.ones((3, 5), "float32")}
    answer = runtimes.load(artifact)(feeds)
    assert {name: str(value.dtype) for name, value in answer.items()} == {
        "logits": "bfloat16",
        "features": "float32",
    }


def test_a_saved_model_takes_the_place_of_another(model, tmp_path):
    export.to_saved_model(model, tmp_path / "a")
    (tmp_path / "a/stale").touch()
    export.to_saved_model(model, tmp_path / "a")
    assert not (tmp_path / "a/stale").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_litert_has_names_an_open_batch_size_and_metadata(model, tmp_path):
    artifact = export.to_litert(model, tmp_path / "small.tflite", labels="abcd")
    run = runtimes.load(artifact)
    assert run.inputs == {"image": ((None, 8, 8, 3), np.dtype("float32"))}
    for count in (2, 5):
        np.testing.assert_allclose(
            run({"image": images(count)})["logits"], model(images(count)), rtol=1e-4, atol=1e-5
        )
    assert b'"ptkeras_version"' in (tmp_path / "small.tflite").read_bytes()


def test_litert_runs_grouped_convolutions_gelu_and_dictionaries(tmp_path):
    x = keras.Input((6, 6, 4))
    model = keras.Model(x, layers.Conv2D(8, 3, groups=4, activation="gelu")(x))
    assert export.to_litert(model, tmp_path / "a.tflite").verification.passed
    artifact = export.to_litert(networks.of_dictionaries(), tmp_path / "b.tflite")
    assert set(runtimes.load(artifact).inputs) == {"image", "vector"}


def test_litert_runs_recurrent_layers_at_one_batch_size(tmp_path):
    x = keras.Input((2, 3))
    model = keras.Model(x, layers.SimpleRNN(2)(x))
    artifact = export.to_litert(model, tmp_path / "a.tflite", batch_size=2)
    assert artifact.verification.max_relative < 1e-5
    with pytest.raises(export.ExportError, match="at one batch size alone: give batch_size"):
        export.to_litert(model, tmp_path / "b.tflite")
    assert [path.name for path in tmp_path.iterdir()] == ["a.tflite"]


@pytest.mark.parametrize("name", ["a.onnx", "a", "a.tflite"])
def test_any_name_can_be_called_for_in_every_format(name, tmp_path):
    one, other = keras.Input((4,), name="1x"), keras.Input((4,), name="Image.A")
    model = keras.Model({"1x": one, "Image.A": other}, {"9": layers.Dense(2)(one + other)})
    kind = {"a.onnx": "onnx", "a": "saved_model", "a.tflite": "litert"}[name]
    run = runtimes.load(getattr(export, f"to_{kind}")(model, tmp_path / name))
    assert set(run.inputs) == {"tensor_1x", "Image_A"}
    feeds = dict.fromkeys(run.inputs, np.ones((2, 4), "float32"))
    assert run(feeds)["tensor_9"].shape == (2, 2)


@pytest.mark.slow
def test_a_model_under_a_mirrored_strategy(tmp_path):
    with mirrored_strategy().scope():
        model = networks.small()
        model.compile("sgd", "mse")
    model.fit(np.ones((4, 8, 8, 3)), np.ones((4, 4)), verbose=0)
    for name in ("a.onnx", "a", "a.tflite"):
        kind = {"a.onnx": "onnx", "a": "saved_model", "a.tflite": "litert"}[name]
        assert getattr(export, f"to_{kind}")(model, tmp_path / name).verification.passed


@pytest.mark.parametrize("name", ["a.onnx", "a.tflite"])
def test_calibration_examples_of_another_dtype_for_a_fixed_batch_size(model, name, tmp_path):
    write = {"a.onnx": export.to_onnx, "a.tflite": export.to_litert}[name]
    examples = images(6).astype("float64")  # the second batch of four is not full
    artifact = write(model, tmp_path / name, precision="int8", calibration=examples, batch_size=4)
    assert artifact.verification.batch_sizes == (4,)
    assert 0 < artifact.verification.max_relative < 0.1


@pytest.mark.parametrize("precision", ["float16", "int8"])
def test_litert_in_less_precision(precision, tmp_path):
    model = networks.shaken(
        keras.Sequential([keras.Input((8, 8, 3)), layers.Conv2D(64, 5), layers.Conv2D(64, 3)])
    )
    whole = export.to_litert(model, tmp_path / "a.tflite")
    less = export.to_litert(
        model,
        tmp_path / "b.tflite",
        precision=precision,
        calibration=images(32) if precision == "int8" else None,
    )
    assert less.size < (0.35 if precision == "int8" else 0.6) * whole.size
    assert 0 < less.verification.max_relative < 0.1


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["onnx", "saved_model", "litert"])
def test_a_model_of_another_backend_is_converted_with_tensorflow(kind, tmp_path):
    code = (
        "import keras, ptkeras.export\n"
        "from tests.helpers import exported_networks as networks\n"
        "assert keras.backend.backend() == 'jax'\n"
        f"artifact = ptkeras.export.to_{kind}(networks.small(), {str(tmp_path)!r} + '/NAME')\n"
        "print(artifact.verification.max_relative < 1e-4)\n"
    )
    name = {"onnx": "a.onnx", "saved_model": "a", "litert": "a.tflite"}[kind]
    done = subprocess.run(
        [sys.executable, "-c", code.replace("NAME", name)],
        env=os.environ | {"KERAS_BACKEND": "jax", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.endswith("True\n"), done.stderr[-2000:]
