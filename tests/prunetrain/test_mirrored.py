"""PruneTrain under tf.distribute.MirroredStrategy, on two logical CPU devices."""

import keras
import numpy as np
import pytest

from tests.helpers.forced import Forced
from tests.helpers.two_devices import mirrored_strategy

pytestmark = [pytest.mark.tensorflow, pytest.mark.thorough]


def network():
    layers = keras.layers
    inputs = keras.Input((8, 8, 1))
    x = layers.Conv2D(8, 3, padding="same", use_bias=False)(inputs)
    y = layers.Conv2D(8, 3, padding="same", activation="relu")(x)
    y = layers.Conv2D(8, 3, padding="same")(y)
    x = layers.ReLU()(layers.Add()([x, y]))
    x = layers.Conv2D(12, 3, strides=2, activation="relu")(x)
    return keras.Model(inputs, layers.Dense(10)(layers.Flatten()(x)))


def train(scope, optimizer):
    """Trains with three reconfigurations; returns the model and the callback."""
    from ptkeras.data.digits import load

    keras.utils.set_random_seed(3)
    digits = load()
    x, y = digits.train_images[:256] / np.float32(16.0), digits.train_labels[:256]
    with scope:
        model = network()
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(optimizer(), loss)
    callback = Forced(share=0.15)
    history = model.fit(
        x, y, epochs=4, batch_size=64, shuffle=False, callbacks=[callback], verbose=0
    )
    return model, callback, history.history


@pytest.mark.parametrize(
    "optimizer",
    [
        lambda: keras.optimizers.SGD(0.05, momentum=0.9),
        lambda: keras.optimizers.Adam(0.002),
    ],
    ids=["sgd", "adam"],
)
def test_replicas_stay_equal_and_agree_with_one_device(optimizer):
    import contextlib

    mirrored, callback, history = train(mirrored_strategy().scope(), optimizer)
    single, other, expected = train(contextlib.nullcontext(), optimizer)
    assert len(callback.reconfigurations) >= 3
    for variable in mirrored.variables + mirrored.optimizer.variables:
        replicas = variable.value.values if hasattr(variable.value, "values") else [variable.value]
        assert len(replicas) == 2
        np.testing.assert_array_equal(*[r.numpy() for r in replicas])
    for a, b in zip(callback.reconfigurations, other.reconfigurations, strict=True):
        assert list(a["layers"].values()) == list(b["layers"].values())
    assert callback.strength == pytest.approx(other.strength, rel=1e-4)
    for a, b in zip(mirrored.get_weights(), single.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4)
    assert history["training_flops"] == expected["training_flops"]
    np.testing.assert_allclose(history["loss"], expected["loss"], rtol=1e-3)


def test_moving_statistics_are_the_mean_of_those_of_the_replicas():
    from ptkeras.multi_worker.replicas import average_statistics

    with mirrored_strategy().scope():
        model = keras.Sequential([keras.Input((3,)), keras.layers.BatchNormalization(momentum=0.5)])
        model.compile("sgd", "mse")
    x = np.random.default_rng(0).normal(size=(8, 3)).astype("float32")
    model.fit(x, x, batch_size=8, epochs=1, shuffle=False, verbose=0)
    [norm] = model.layers
    halves = [half.numpy() for half in norm.moving_mean.value.values]
    assert not np.array_equal(*halves)  # Keras gives each replica its own
    for _ in range(2):  # the second time changes nothing
        average_statistics(model)
        for half in norm.moving_mean.value.values:
            np.testing.assert_array_equal(half, np.mean(halves, 0, "float64").astype("float32"))
        np.testing.assert_allclose(norm.moving_mean.numpy(), x.mean(0) / 2, rtol=1e-5)


def test_replicas_with_batch_norm_end_equal():
    x = np.random.default_rng(0).normal(size=(64, 8, 8, 1)).astype("float32")
    layers = keras.layers
    with mirrored_strategy().scope():
        model = keras.Sequential(
            [
                keras.Input((8, 8, 1)),
                layers.Conv2D(8, 3),
                layers.BatchNormalization(),
                layers.ReLU(),
                layers.Conv2D(8, 3),
                layers.BatchNormalization(),
                layers.Flatten(),
                layers.Dense(10),
            ]
        )
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(keras.optimizers.SGD(0.05, momentum=0.9), loss)
    y = np.arange(64) % 10
    model.fit(x, y, epochs=2, batch_size=32, callbacks=[Forced(share=0.2)], verbose=0)
    for variable in model.variables + model.optimizer.variables:
        np.testing.assert_array_equal(*[r.numpy() for r in variable.value.values])
