"""Which functions work on each element alone, whatever the numbers are."""

import gc
import weakref

import hypothesis
import hypothesis.strategies as st
import keras
import numpy as np
import pytest
from keras import layers, ops

import ptkeras
from ptkeras.channels import trace
from ptkeras.channels.elementwise import nature
from tests.exactness import assert_exact, sparing_keep

ELEMENTWISE = [
    keras.activations.relu,
    keras.activations.gelu,
    keras.activations.softplus,
    ops.log,  # not a number for the negative
    ops.sign,
    lambda v: ops.where(v > 3.0, v * 2.0, ops.sin(v)),
    lambda v: ops.clip(v, -6.0, 6.0),
    layers.LeakyReLU(),
    layers.Dropout(0.5),
]
MIXING = {
    "softmax": keras.activations.softmax,
    "glu": keras.activations.glu,
    "negative mean": lambda v: ops.relu(v) + ops.mean(ops.minimum(v, 0.0), -1, keepdims=True),
    "large maximum": lambda v: v - ops.relu(ops.max(v, -1, keepdims=True) - 60.0),
    "of the batch": lambda v: v - ops.relu(ops.max(v) - 6.0),
    "sign of the sum": lambda v: v * ops.sign(ops.sum(v, -1, keepdims=True)),
    "largest alone": lambda v: ops.where(v >= ops.max(v, -1, keepdims=True), v, 0.0),
    "sorted": lambda v: ops.sort(v, -1),
    "array of the tried width": lambda v: v * np.arange(6, dtype="float32"),
    "equal array of the tried width": lambda v: v * np.full(6, 2.0, "float32"),
    "array of another width": lambda v: v * np.full(5, 2.0, "float32"),
    "random": lambda v: v * keras.random.uniform(ops.shape(v)),
    "weights": layers.PReLU(),
}


@pytest.mark.parametrize("function", ELEMENTWISE)
def test_a_function_of_each_element_is_known_as_one(function):
    assert nature(function).elementwise


@pytest.mark.parametrize("name", MIXING)
def test_a_function_of_several_elements_is_known_as_one(name):
    assert not nature(MIXING[name], 3).elementwise


@hypothesis.settings(max_examples=15, deadline=None)
@hypothesis.given(
    st.sampled_from([1e-3, 0.1, 1.0, 5.0, 50.0, 2000.0]),
    st.sampled_from(["mean", "max", "min", "sum"]),
    st.booleans(),
)
def test_a_threshold_does_not_hide_that_channels_are_mixed(threshold, of, negative):
    sign = -1.0 if negative else 1.0

    def function(v):
        mixed = sign * getattr(ops, of)(v, axis=-1, keepdims=True)
        return v + ops.relu(mixed - threshold)

    assert not nature(function).elementwise


def test_zeros_stay_zeros():
    kept = {f: nature(f).keeps_zero for f in (ops.sigmoid, ops.relu, ops.cos, ops.tanh, ops.exp)}
    assert [*kept.values()] == [False, True, False, True, False]


def test_numbers_that_may_change_are_no_part_of_a_function():
    offset = keras.Variable(0.0)
    assert not nature(lambda v: v + offset).elementwise


def test_a_closure_is_not_kept_alive():
    class Numbers:
        array = np.zeros(3)

    numbers = Numbers()
    here = weakref.ref(numbers)

    def activation(v, numbers=numbers):
        return ops.relu(v)

    x = keras.Input((4,))
    model = keras.Model(x, layers.Dense(2)(layers.Dense(6, activation=activation)(x)))
    assert not trace(model).frozen.all()
    del activation, numbers, model, x
    keras.backend.clear_session()
    gc.collect()
    assert here() is None


def test_an_activation_layer_is_not_built_by_tracing():
    x = keras.Input((4,))
    activation = layers.PReLU()
    model = keras.Model(x, layers.Dense(2)(layers.Dense(5, activation=activation)(x)))
    built = activation.built
    trace(model)
    assert activation.built == built and model(np.ones((1, 4))).shape == (1, 2)


@pytest.mark.parametrize("bounds", [(-0.1, 6), (6, 0.5), (6, 6), (-0.2, 0.3)])
@pytest.mark.parametrize(
    "as_list", [False] if keras.backend.backend() == "jax" else [True, False]
)  # JAX clips by no list
def test_bounds_by_channel_go_with_their_channels(bounds, as_list):
    def bound(value, sign):
        array = sign * np.linspace(0.1, 0.6, value).astype("float32") if value == 6 else value
        return array.tolist() if as_list and value == 6 else array

    x = keras.Input((4,))
    y = ops.clip(layers.Dense(6, name="made")(x), bound(bounds[0], -1), bound(bounds[1], 1))
    model = keras.Model(x, layers.Dense(2)(layers.Dense(5)(y)))
    channel_map = trace(model)
    assert not channel_map.frozen[channel_map.produced()["made"]].any()
    for seed in range(3):
        assert_exact(model, keep=lambda m, seed=seed: sparing_keep(m, seed), seed=seed)
    ptkeras.remove_channels(model, {"made": [1]})
    assert model(np.ones((2, 4))).shape == (2, 2)


@keras.saving.register_keras_serializable("tests")
class Bounded(layers.Layer):
    """Has bounds in its code, which nobody can slice."""

    def __init__(self):
        super().__init__()
        self.made, self.read = layers.Dense(6), layers.Dense(5)

    def call(self, x):
        bounds = np.linspace(0.1, 0.6, 6).astype("float32")
        return self.read(ops.clip(self.made(x), -bounds, 1.0))


def test_bounds_in_code_keep_their_channels():
    x = keras.Input((4,))
    layer = Bounded()
    model = keras.Model(x, layers.Dense(2)(layer(x)))
    channel_map = trace(model)
    frozen = [channel_map.frozen[channel_map.produced()[part.path]] for part in (layer.made,)]
    assert np.all(frozen)
    assert_exact(model)


def test_bounds_by_place_leave_the_channels():
    x = keras.Input((3, 4))
    bounds = np.linspace(0.1, 0.6, 3).reshape(3, 1).astype("float32")
    y = ops.clip(layers.Dense(6, name="made")(x), -bounds, bounds)
    model = keras.Model(x, layers.Dense(2)(ops.sum(y, -1)))
    channel_map = trace(model)
    assert not channel_map.frozen[channel_map.produced()["made"]].any()
    assert_exact(model)
