"""Variables among the operands of `keras.ops`: networks that are written by hand.

Such a network is built again from smaller variables, which is what removing channels comes to.
"""

import hypothesis
import hypothesis.strategies as st
import keras
import numpy as np
import pytest
from keras import layers, ops

from ptkeras.channels import trace
from tests.exactness import TRIES_FEW, zero

# TIME is no possible number of channels: Keras 3.15 on TensorFlow adds (1, n, 1) to (1, m, n) as if
# it were a bias of n channels.
TIME, WIDTH, HIDDEN = 7, 4, 6


def perceptron(v, x):
    h = ops.relu(ops.matmul(x, v("w1", WIDTH, HIDDEN)) + v("b1", HIDDEN))
    return ops.matmul(h, v("w2", HIDDEN, 2)) + v("b2", 2)


def embedded(v, x):
    h = ops.matmul(x, v("w1", WIDTH, HIDDEN)) + v("position", TIME, HIDDEN)
    h = h * v("gamma", 1, HIDDEN) + ops.tanh(ops.matmul(x, v("w3", WIDTH, HIDDEN)))
    return ops.sum(h, -1)


def token_first(v, x):
    h = ops.matmul(x, v("w1", WIDTH, HIDDEN))
    h = ops.concatenate([v("token", 1, 1, HIDDEN), h], axis=1)
    return ops.einsum("btc,cd->btd", ops.relu(h), v("w2", HIDDEN, 2))


def prompt_beside(v, x):
    h = ops.matmul(x, v("w1", WIDTH, HIDDEN))
    h = ops.concatenate([h, v("prompt", 1, TIME, 5)], axis=-1)
    kernel = v("w2", HIDDEN + 5, 2) if v.full else v("w2")
    return ops.matmul(ops.relu(h), kernel)


def heads(v, x):
    q, k, u = (ops.einsum("btc,chd->bthd", x, v(n, WIDTH, 2, HIDDEN)) for n in "qku")
    scores = ops.softmax(ops.einsum("bthd,bshd->bhts", q + v("bias", 2, HIDDEN), k))
    joined = ops.einsum("bhts,bshd->bthd", scores, u)
    return ops.einsum("bthd,hdm->btm", joined, v("o", 2, HIDDEN, 3))


def mixed_over_time(v, x):
    h = ops.matmul(x, v("w1", WIDTH, HIDDEN))
    h = h + ops.matmul(v("over_time", TIME, TIME), h)
    h = ops.swapaxes(ops.matmul(ops.swapaxes(h, 1, 2), v("time", TIME, TIME)), 1, 2)
    return ops.tensordot(h, v("w2", HIDDEN, 2), axes=1)


def bounded(v, x):
    h = ops.matmul(x, v("w1", WIDTH, HIDDEN))
    h = ops.maximum(h, v("least", HIDDEN)) + ops.where(h > 0.2, v("step", HIDDEN), h * 0.5)
    return ops.dot(ops.abs(h), v("w2", HIDDEN, 1))


def scaled_by_one(v, x):
    h = ops.matmul(x, v("w1", WIDTH, HIDDEN)) / ops.exp(v("temperature", 1))
    h = ops.minimum(h, v("single", 1, 1)) + ops.sum(h, -1, keepdims=True)
    return ops.matmul(h, v("w2", HIDDEN, 2))


def spread_out(v, x):
    single = ops.sum(x, -1, keepdims=True)
    h = single * v("made", HIDDEN) + v("moved", HIDDEN)
    return ops.inner(ops.relu(h), v("w2", 3, HIDDEN))


def weighed(v, x):
    h = ops.matmul(x, v("w1", WIDTH, HIDDEN))
    return ops.matmul(ops.square(h), v("attention", HIDDEN)) + ops.einsum(
        "btc,c->bt", h, v("other", HIDDEN)
    )


def convolved(v, x):
    h = ops.relu(ops.conv(x, v("w1", 2, WIDTH, HIDDEN), padding="same") + v("b", HIDDEN))
    h = ops.depthwise_conv(h, v("depth", 2, HIDDEN, 2), padding="same")
    kernel = v("w2", 2, 2 * HIDDEN, 2) if v.full else v("w2")
    return ops.conv(h, kernel)


def batch_normed(v, x):
    h = ops.matmul(x, v("w1", WIDTH, HIDDEN))
    mean, variance, offset, scale = (v(n, HIDDEN) for n in ("mean", "variance", "b", "gamma"))
    h = ops.batch_normalization(h, mean, variance, -1, offset, scale)
    return ops.sum(h, -1)


def looked_up(v, x):
    h = ops.take(v("table", 5, HIDDEN), ops.cast(ops.abs(x[..., 0]) * 0, "int32") + 2, axis=0)
    return ops.sum(h * v("gain", HIDDEN), -1)


def shared(v, x):
    bias = v("b", HIDDEN)
    a = ops.matmul(x, v("w1", WIDTH, HIDDEN)) + bias
    b = ops.matmul(x, v("w3", WIDTH, HIDDEN)) * bias
    return ops.matmul(a, v("w2", HIDDEN, 2)) + ops.matmul(b, v("w4", HIDDEN, 2))


def also_over_time(v, x):
    square = v("square", TIME, TIME)
    h = ops.matmul(ops.matmul(x, v("w1", WIDTH, TIME)), square)
    over_time = ops.matmul(square, ops.matmul(x, v("w3", WIDTH, HIDDEN)))
    return ops.matmul(h, v("w2", TIME, 2)) + ops.matmul(over_time, v("w4", HIDDEN, 2))


NETWORKS = [
    also_over_time,
    batch_normed,
    perceptron,
    embedded,
    token_first,
    prompt_beside,
    heads,
    mixed_over_time,
    bounded,
    scaled_by_one,
    spread_out,
    weighed,
    convolved,
    looked_up,
    shared,
]
if keras.backend.backend() == "jax":
    NETWORKS.remove(bounded)  # JAX takes no variable for an operand of where


class Variables:
    """Makes the variables of a network, or hands out those that are given."""

    def __init__(self, seed, given=None):
        self.rng = np.random.default_rng(seed)
        self.full = given is None
        self.given = given or {}
        self.made = {}

    def __call__(self, name, *shape):
        values = self.given[name] if self.given else self.rng.normal(size=shape)
        values = abs(values) if name == "variance" else values
        self.made[name] = keras.Variable(values.astype("float32"), name=name)
        return self.made[name]


def built(network, variables):
    x = keras.Input(batch_shape=(1, TIME, WIDTH))
    return keras.Model(x, network(variables, x))


def smaller(channel_map, keep, made):
    values = {name: keras.ops.convert_to_numpy(v.value) for name, v in made.items()}
    for row in channel_map.slices:
        name = next(n for n, v in made.items() if v is row.variable)
        values[name] = values[name].compress(keep[row.channels], row.axis)
    return values


def assert_exact_when_built_again(network, seed):
    variables = Variables(seed)
    model = built(network, variables)
    channel_map = trace(model)
    keep = channel_map.frozen | (np.random.default_rng(seed).random(len(channel_map)) < 0.5)
    for tensor in channel_map.tensors.values():  # one of each is left
        if not keep[tensor].any():
            keep[tensor.reshape(-1)[0]] = True
    zero(channel_map, keep)
    x = np.random.default_rng(seed).normal(size=(1, TIME, WIDTH)).astype("float32")
    before = keras.ops.convert_to_numpy(model(x))
    small = Variables(seed, smaller(channel_map, keep, variables.made))
    after = keras.ops.convert_to_numpy(built(network, small)(x))
    assert before.shape == after.shape
    assert np.abs(before - after).max() <= 1e-5 * max(1.0, np.abs(before).max())
    return keep


@pytest.mark.parametrize("network", NETWORKS)
def test_channels_of_variables_are_removed_exactly(network):
    assert not assert_exact_when_built_again(network, 0).all()


@hypothesis.settings(max_examples=10 if TRIES_FEW else 40, deadline=None)
@hypothesis.given(st.sampled_from(NETWORKS), st.integers(1, 1000))
def test_any_mask_of_variables_is_exact(network, seed):
    assert_exact_when_built_again(network, seed)


def frozen(network, name, axis):
    """Which positions of an axis may not be removed; all if no row of it is known."""
    variables = Variables(0)
    channel_map = trace(built(network, variables))
    row = channel_map.slice_of.get((id(variables.made[name]), axis))
    return np.ones(1, bool) if row is None else channel_map.frozen[row.channels]


def test_the_other_axes_of_a_variable_are_no_channels():
    assert not frozen(embedded, "position", 1).any()
    assert frozen(embedded, "position", 0).all()
    assert frozen(mixed_over_time, "over_time", 0).all()
    assert not frozen(heads, "q", 2).any() and frozen(heads, "q", 1).all()


def test_a_variable_that_something_else_needs_whole_stays_whole():
    for axis in (0, 1):
        assert frozen(also_over_time, "square", axis).all()
    assert frozen(also_over_time, "w1", 1).all() and not frozen(also_over_time, "w3", 1).any()


def test_what_a_scale_by_place_multiplies_keeps_its_zeros():
    assert not frozen(
        lambda v, x: ops.sum(ops.matmul(x, v("w1", WIDTH, HIDDEN)) * v("scale", TIME, 1), -1),
        "w1",
        1,
    ).any()
    assert frozen(
        lambda v, x: ops.sum(ops.matmul(x, v("w1", WIDTH, HIDDEN)) + v("scale", TIME, 1), -1),
        "w1",
        1,
    ).all()


@pytest.mark.parametrize("norm", ["layer", "rms", "by_hand", "moments"])
def test_a_norm_over_channels_keeps_them_unless_a_small_change_is_allowed(norm):
    def network(v, x):
        h = ops.matmul(x, v("w1", WIDTH, HIDDEN))
        if norm == "layer":
            h = ops.layer_normalization(h, v("gamma", HIDDEN), v("beta", HIDDEN))
        elif norm == "rms":
            h = ops.rms_normalization(h, v("gamma", HIDDEN))
        elif norm == "by_hand":
            h = h * ops.rsqrt(ops.mean(ops.square(h), -1, keepdims=True) + 1e-6)
            h = h * v("gamma", HIDDEN)
        else:
            mean, variance = ops.moments(h, -1, keepdims=True)
            h = (h - mean) / ops.sqrt(variance + 1e-6) * v("gamma", HIDDEN)
        return ops.matmul(h, v("w2", HIDDEN, 2))

    for exact in (True, False):
        model = built(network, variables := Variables(0))
        channel_map = trace(model, exact=exact)
        for name, axis in (("w1", 1), ("gamma", 0), ("w2", 0)):
            row = channel_map.slice_of[id(variables.made[name]), axis]
            assert (channel_map.frozen[row.channels] == exact).all()


def test_softmax_over_channels_keeps_them_even_then():
    x = keras.Input((TIME, WIDTH))
    y = ops.softmax(layers.Dense(HIDDEN, name="made")(x))
    channel_map = trace(keras.Model(x, layers.Dense(2)(y)), exact=False)
    assert channel_map.frozen[channel_map.produced()["made"]].all()
