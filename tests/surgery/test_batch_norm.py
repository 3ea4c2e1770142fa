"""Batch normalisation by the fused kernel is Keras's, in fewer operations."""

import contextlib
import inspect

import keras
import numpy as np
import pytest
from keras.layers import BatchNormalization

import ptkeras
from tests.helpers.two_devices import mirrored_strategy

BACKEND = keras.backend.backend()
needs_tensorflow = pytest.mark.skipif(BACKEND != "tensorflow", reason="a kernel of TensorFlow's")
needs_renorm = pytest.mark.skipif(
    "renorm" not in inspect.signature(BatchNormalization).parameters, reason="an older Keras"
)


def network(jit_compile=False, **settings):
    """A small network whose batch norm has statistics and scales of its own."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((6, 6, 3)),
            keras.layers.Conv2D(8, 3, use_bias=False),  # whose gradient would be 0
            BatchNormalization(**settings),
            keras.layers.ReLU(),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(2),
        ]
    )
    random = np.random.default_rng(0)
    model.set_weights([w + random.uniform(0.1, 0.5, w.shape) for w in model.get_weights()])
    model.compile(keras.optimizers.SGD(0.1, momentum=0.9), "mse", jit_compile=jit_compile)
    return model


def data():
    random = np.random.default_rng(1)
    return random.normal(2.0, 3.0, (24, 6, 6, 3)), random.normal(size=(24, 2))


def kernels(layer, shape):
    """How many fused kernels compute the layer in training."""
    import tensorflow as tf

    layer.build(shape)
    function = tf.function(lambda x: layer(x, training=True))
    operations = function.get_concrete_function(tf.zeros(shape, layer.compute_dtype)).graph
    return [one.type for one in operations.get_operations()].count("FusedBatchNormV3")


@needs_tensorflow
@pytest.mark.parametrize(
    "settings",
    [{}, {"scale": False}, {"center": False, "momentum": 0.5}, {"jit_compile": True}],
)
def test_trains_to_the_same_weights(settings):
    """All variables, moving statistics among them, after some steps."""
    plain, fused = network(**settings), network(**settings)
    x, y = data()
    plain.fit(x, y, batch_size=8, epochs=2, shuffle=False, verbose=0)
    with ptkeras.fused_batch_norm():
        fused.fit(x, y, batch_size=8, epochs=2, shuffle=False, verbose=0)
    start = network(**settings).get_weights()
    for before, one, other in zip(start, plain.get_weights(), fused.get_weights(), strict=True):
        assert np.abs(one - before).max() > 1e-3
        np.testing.assert_allclose(other, one, rtol=2e-4, atol=2e-5)


@needs_tensorflow
def test_replicas_train_to_the_same_weights():
    x, y = data()
    found = []
    for context in (contextlib.nullcontext, ptkeras.fused_batch_norm):
        with mirrored_strategy().scope():
            model = network()
        with context():
            model.fit(x, y, batch_size=8, epochs=2, shuffle=False, verbose=0)
        found.append(model.get_weights())
    for one, other in zip(*found, strict=True):
        np.testing.assert_allclose(other, one, rtol=2e-4, atol=2e-5)


@needs_tensorflow
def test_the_kernel_is_there_within_with_alone():
    shape = (4, 5, 5, 8)
    assert kernels(BatchNormalization(), shape) == 0
    with ptkeras.fused_batch_norm():
        assert kernels(BatchNormalization(), shape) == 1
        assert kernels(BatchNormalization(dtype="mixed_bfloat16"), shape) == 1
    assert kernels(BatchNormalization(), shape) == 0


@needs_tensorflow
@pytest.mark.parametrize(
    ("settings", "shape"),
    [
        ({}, (4, 8)),
        ({"axis": 1}, (4, 8, 5, 5)),
        ({"dtype": "float64"}, (4, 5, 5, 8)),
        pytest.param({"renorm": True}, (4, 5, 5, 8), marks=needs_renorm),
        ({"synchronized": True}, (4, 5, 5, 8)),
        ({"trainable": False}, (4, 5, 5, 8)),
        ({}, (4, 5, 5, 7)),
    ],
)
def test_keras_computes_what_the_kernel_does_not_fit(settings, shape):
    with ptkeras.fused_batch_norm():
        assert kernels(BatchNormalization(**settings), shape) == 0


def test_keras_has_its_layer_back_after_an_error():
    before = BatchNormalization.call
    with pytest.raises(KeyError), ptkeras.fused_batch_norm():
        raise KeyError
    assert BatchNormalization.call is before


def test_keras_has_its_layer_back_whoever_leaves_first():
    """Threads may be within `with` at the same time."""
    before = BatchNormalization.call
    first, second = ptkeras.fused_batch_norm(), ptkeras.fused_batch_norm()
    first.__enter__()
    second.__enter__()
    within = BatchNormalization.call
    first.__exit__(None, None, None)
    assert BatchNormalization.call is within
    assert (within is before) == (BACKEND != "tensorflow")
    second.__exit__(None, None, None)
    assert BatchNormalization.call is before


@needs_tensorflow
def test_the_kernel_fits_inputs_whose_channels_are_unknown_in_the_trace():
    import tensorflow as tf

    layer = BatchNormalization()
    layer.build((4, 5, 5, 8))
    function = tf.function(lambda x: layer(x, training=True))
    with ptkeras.fused_batch_norm():
        traced = function.get_concrete_function(tf.TensorSpec([None] * 4))
    operations = [one.type for one in traced.graph.get_operations()]
    assert operations.count("FusedBatchNormV3") == 1
    x = np.random.default_rng(0).normal(size=(4, 5, 5, 8)).astype("float32")
    np.testing.assert_allclose(traced(tf.constant(x)).numpy().mean((0, 1, 2)), 0, atol=1e-5)


def test_saves_and_prunes_within_with(tmp_path):
    """A file names Keras's own layer; a reconfiguration keeps the answers."""
    model = network()
    x, y = data()
    with ptkeras.fused_batch_norm():
        model.fit(x, y, verbose=0)
        ptkeras.remove_channels(model, {model.layers[0].name: [0, 1, 2, 3]})
        model.fit(x, y, verbose=0)
        model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert type(loaded.layers[1]) is BatchNormalization
    assert loaded.layers[1].gamma.shape == (4,)
    np.testing.assert_allclose(loaded.predict(x, verbose=0), model.predict(x, verbose=0), atol=1e-5)
