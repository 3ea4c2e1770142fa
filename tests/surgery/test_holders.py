"""Whoever else holds the layers that get smaller goes on with them, or nothing changes."""

import keras
import numpy as np
import pytest
from keras import layers, ops

import ptkeras
from ptkeras.channels import trace

pytestmark = pytest.mark.thorough

X = np.random.default_rng(0).normal(size=(8, 6, 6, 3)).astype("float32")
Y = np.random.default_rng(1).normal(size=(8, 2)).astype("float32")


def part():
    inputs = keras.Input((6, 6, 3))
    x = layers.Conv2D(8, 3, activation="relu", name="k1")(inputs)
    return keras.Model(inputs, layers.Conv2D(5, 3, name="k2")(x), name="part")


class Trainer(keras.Model):
    def __init__(self, net):
        super().__init__()
        self.net, self.pool, self.head = net, layers.GlobalAveragePooling2D(), layers.Dense(2)

    def call(self, x):
        return self.head(self.pool(self.net(x)))


def functional(net):
    inputs = keras.Input((6, 6, 3))
    return keras.Model(inputs, layers.Dense(2)(layers.GlobalAveragePooling2D()(net(inputs))))


def in_a_row(net):
    steps = [net, layers.GlobalAveragePooling2D(), layers.Dense(2)]
    return keras.Sequential([keras.Input((6, 6, 3)), *steps])


@pytest.mark.parametrize("outer", [Trainer, functional, in_a_row])
def test_an_outer_model_trains_and_predicts_with_the_small_part(outer):
    net = part()
    model = outer(net)
    model.compile(keras.optimizers.Adam(0.01), "mse")
    model.fit(X, Y, verbose=0)
    model.evaluate(X, Y, verbose=0)
    model.predict(X, verbose=0)
    ptkeras.prune(net, 0.5)
    assert net.get_layer("k1").filters == 4
    kernels = [ops.convert_to_numpy(v) for v in net.trainable_variables]
    loss = model.evaluate(X, Y, verbose=0)
    predicted = model.predict(X, verbose=0)
    np.testing.assert_allclose(predicted, ops.convert_to_numpy(model(X)), atol=1e-5)
    np.testing.assert_allclose(loss, np.mean((predicted - Y) ** 2), rtol=1e-4)
    model.fit(X, Y, verbose=0)
    for before, variable in zip(kernels, net.trainable_variables, strict=True):
        assert np.abs(before - ops.convert_to_numpy(variable)).max() > 0


def test_a_model_up_to_an_inner_layer_shows_what_is_left():
    inputs = keras.Input((6, 6, 3))
    code = layers.Conv2D(4, 3, padding="same", name="code")(
        layers.Conv2D(8, 3, padding="same", activation="relu", name="first")(inputs)
    )
    outputs = layers.Conv2D(3, 3, padding="same")(layers.Conv2D(8, 3, padding="same")(code))
    encoder, auto = keras.Model(inputs, code), keras.Model(inputs, outputs)
    auto.compile("adam", "mse")
    auto.fit(X, X, verbose=0)
    encoder.predict(X, verbose=0)
    ptkeras.prune(auto, 0.5)
    shown = keras.Model(auto.inputs, auto.get_layer("code").output).predict(X, verbose=0)
    np.testing.assert_array_equal(encoder.predict(X, verbose=0), shown)
    assert encoder.output_shape == (None, *shown.shape[1:])


def test_layers_of_another_model_that_read_what_is_removed_follow():
    net = part()
    dense = layers.Dense(3)
    outputs = dense(layers.GlobalAveragePooling2D()(net.get_layer("k1").output))
    other = keras.Model(net.inputs, outputs, name="other")
    other.compile(keras.optimizers.Adam(0.01), "mse")
    targets = np.zeros((8, 3), "float32")
    other.fit(X, targets, verbose=0)
    channel_map = trace(net)
    keep = np.ones(len(channel_map), bool)
    keep[channel_map.produced()[net.get_layer("k1").path][:3]] = False
    kernel = ops.convert_to_numpy(dense.kernel)
    ptkeras.reconfigure(net, keep, channel_map=channel_map)
    np.testing.assert_array_equal(ops.convert_to_numpy(dense.kernel), kernel[3:])
    predicted = ops.convert_to_numpy(other(X))
    np.testing.assert_allclose(other.predict(X, verbose=0), predicted, atol=1e-6)
    other.fit(X, targets, verbose=0)
    assert np.abs(ops.convert_to_numpy(dense.kernel) - kernel[3:]).max() > 0


def test_what_another_model_cannot_do_without_is_refused_and_nothing_changes():
    net = part()
    outputs = layers.Dense(3)(layers.Softmax(name="soft")(net.get_layer("k1").output))
    other = keras.Model(net.inputs, outputs, name="other")
    expected, before = other.predict(X, verbose=0), [v.shape for v in net.variables]
    with pytest.raises(ValueError, match=r"'other' holds layers of 'part'.*needed by 'soft'"):
        ptkeras.prune(net, 0.5)
    assert [v.shape for v in net.variables] == before
    np.testing.assert_array_equal(other.predict(X, verbose=0), expected)


class Reader(keras.Model):
    """Reads inside of a part by code of its own."""

    def __init__(self, net):
        super().__init__()
        self.inner = net.get_layer("k1")
        self.pool, self.head = layers.GlobalAveragePooling2D(), layers.Dense(2)

    def call(self, x):
        return self.head(self.pool(self.inner(x)))


def test_code_that_reads_by_itself_is_refused_too():
    net = part()
    reader = Reader(net)
    expected, before = reader.predict(X, verbose=0), [v.shape for v in net.variables]
    with pytest.raises(ValueError, match="'reader' holds layers of 'part'"):
        ptkeras.prune(net, 0.5)
    assert [v.shape for v in net.variables] == before
    np.testing.assert_array_equal(reader.predict(X, verbose=0), expected)


def test_a_model_that_nobody_holds_any_more_is_in_nobodys_way():
    net = part()
    head = layers.Dense(3)(layers.Softmax()(net.get_layer("k1").output))
    other = keras.Model(net.inputs, head, name="other")
    other.itself = other  # a circle, which waits for the garbage collector
    del other
    ptkeras.prune(net, 0.5)
    assert net.get_layer("k1").filters == 4


class TwoOptimizers(keras.Model):
    """As a GAN trains: each part by an optimizer of its own."""

    def __init__(self):
        super().__init__()
        self.nets = [part(), part()]
        self.own = [keras.optimizers.Adam(0.01), keras.optimizers.SGD(0.1, momentum=0.9)]


def test_optimizers_that_compile_does_not_know_follow():
    trainer = TwoOptimizers()
    for net, optimizer in zip(trainer.nets, trainer.own, strict=True):
        optimizer.build(net.trainable_variables)
        optimizer.apply([ops.ones(v.shape) for v in net.trainable_variables])
    for net, optimizer in zip(trainer.nets, trainer.own, strict=True):
        kept = list(map(id, optimizer.variables))
        ptkeras.prune(net, 0.5)
        assert list(map(id, optimizer.variables)) == kept
        shapes = {tuple(v.shape) for v in net.trainable_variables}
        assert {tuple(v.shape) for v in optimizer.variables if v.ndim} == shapes
        optimizer.apply([ops.ones(v.shape) for v in net.trainable_variables])


def test_a_map_of_before_is_refused():
    net = part()
    channel_map = trace(net)
    ptkeras.prune(net, 0.5)
    with pytest.raises(ValueError, match="was traced before that changed"):
        ptkeras.reconfigure(net, channel_map.frozen, channel_map=channel_map)
