"""What is known to be zero where a channel is removed: merges of all kinds, broadcast or not."""

import hypothesis
import hypothesis.strategies as st
import keras
import numpy as np
import pytest
from keras import layers, ops

from ptkeras.channels import trace
from ptkeras.surgery.constants import DeadEndError
from tests.exactness import TRIES_FEW, assert_exact

WIDTH = 4

MERGES = {
    "add": ops.add,
    "subtract": ops.subtract,
    "multiply": ops.multiply,
    "divide": lambda a, b: ops.divide(a, ops.abs(b) + 0.5),
    "maximum": ops.maximum,
    "minimum": ops.minimum,
    "where": lambda a, b: ops.where(ops.greater(b, 0.0), a, b),
    "where_not": lambda a, b: ops.where(ops.greater(a, b), b, ops.multiply(a, b)),
    "select": lambda a, b: ops.select(
        [ops.greater(a, 0.0 * b + 0.1), ops.greater(b, 0.1)], [ops.multiply(a, b), ops.add(a, b)]
    ),
    "arctan2": ops.arctan2,
    "power": lambda a, b: ops.power(ops.abs(a), ops.minimum(ops.abs(b), 3.0)),
    "hypot": lambda a, b: ops.sqrt(ops.square(a) + ops.square(b)),
    "logaddexp": ops.logaddexp,
    "greater": lambda a, b: ops.cast(ops.greater(a, b), "float32"),
    "either": lambda a, b: ops.cast(
        ops.logical_or(ops.greater(a, 0), ops.greater(b, 0)), "float32"
    ),
    "layer_add": lambda a, b: layers.Add()([a, b]),
    "layer_maximum": lambda a, b: layers.Maximum()([a, b]),
    "layer_average": lambda a, b: layers.Average()([a, b]),
}
OPERANDS = {
    "made": lambda x: layers.Dense(WIDTH)(x),
    "negative": lambda x: -layers.Dense(WIDTH, activation="sigmoid")(x),
    "positive": lambda x: layers.Dense(WIDTH, activation="softplus")(x),
    "rectified": lambda x: layers.Dense(WIDTH, activation="relu")(x),
    "large": lambda x: 100.0 * layers.Dense(WIDTH)(x),
    "single": lambda x: layers.Dense(1)(x),
    "given": lambda x: x[..., :1],
    "given_wide": lambda x: x,
    "mean": lambda x: ops.mean(x, -1, keepdims=True),
    "constant": lambda x: np.linspace(-1, 1, WIDTH, dtype="float32"),
    "by_place": lambda x: np.linspace(-1, 1, 3, dtype="float32").reshape(3, 1),
}
AFTER = {
    "sum": lambda y: ops.sum(y, -1),
    "norm": lambda y: ops.sqrt(ops.sum(ops.square(y), -1) + 1.0),
    "product": lambda y: ops.einsum("btc,bsc->bts", y, y),
    "unit": lambda y: ops.sum(layers.UnitNormalization()(y), -1),
    "softmax": lambda y: layers.Dense(2)(ops.softmax(y, -1)),
    "dense": lambda y: layers.Dense(2)(y),
}


def network(merge, first, second, after):
    x = keras.Input((3, WIDTH))
    a, b = OPERANDS[first](x), OPERANDS[second](x)
    y = MERGES[merge](a, b)
    return keras.Model(x, AFTER[after](y + 0.0 * layers.Dense(1)(x) if y.shape[-1] == 1 else y))


def exact_or_dead(model, seed):
    channel_map = trace(model)
    keep = channel_map.frozen | (np.random.default_rng(seed).random(len(channel_map)) < 0.5)
    try:
        assert_exact(model, keep=lambda _: keep, seed=seed)
    except DeadEndError as error:
        assert channel_map.is_dead(keep, error.tensor)


def test_any_merge_of_any_operands_is_exact():
    @hypothesis.settings(
        max_examples=8 if TRIES_FEW else 60,
        suppress_health_check=list(hypothesis.HealthCheck),
        deadline=None,
    )
    @hypothesis.given(
        st.sampled_from([*MERGES]),
        st.sampled_from(["made", "negative", "rectified", "large"]),
        st.sampled_from([*OPERANDS]),
        st.booleans(),
        st.sampled_from([*AFTER]),
        st.integers(0, 50),
    )
    def check(merge, first, second, turned, after, seed):
        hypothesis.assume(not (merge.startswith("layer") and second in ("constant", "by_place")))
        pair = (second, first) if turned else (first, second)
        exact_or_dead(network(merge, *pair, after), seed)

    check()


@pytest.mark.parametrize(
    "merge, second, may_go",
    [
        ("add", "made", True),  # zero and zero
        ("add", "single", False),  # what is stretched over the channels stays
        ("add", "given", False),
        ("multiply", "given", True),
        ("multiply", "mean", True),
        ("maximum", "given", False),
        ("maximum", "made", True),
        ("minimum", "negative", False),  # -0.5 where the other is 0
        ("arctan2", "negative", False),
        ("power", "given", False),  # 0 ** 0
        ("where", "given", False),
    ],
)
def test_a_sum_does_without_channels_only_if_they_are_zero(merge, second, may_go):
    x = keras.Input((3, WIDTH))
    made = layers.Dense(WIDTH, name="made")(x)
    y = MERGES[merge](made, OPERANDS[second](x))
    channel_map = trace(keras.Model(x, ops.sum(y, -1)))
    assert (~channel_map.frozen[channel_map.produced()["made"]]).all() == may_go


def test_a_norm_that_all_channels_are_divided_by_leaves_zeros():
    x = keras.Input((3, WIDTH))
    y = layers.Dense(6, name="made", activation="relu")(x)
    y = y / ops.sqrt(ops.sum(ops.square(y), -1, keepdims=True))
    channel_map = trace(keras.Model(x, ops.sum(y, -1)))
    assert not channel_map.frozen[channel_map.produced()["made"]].any()


def test_the_scores_of_a_head_are_not_zero_with_it():
    x = keras.Input((3, 4))
    layer = layers.MultiHeadAttention(3, 2)
    _, scores = layer(x, x, return_attention_scores=True)
    assert_exact(keras.Model(x, layers.Dense(2)(ops.sum(scores, axis=1))))


@pytest.mark.parametrize("axes, may_go", [("d", True), ("t", False), ("td", True), (None, True)])
def test_a_bias_by_place_is_no_part_of_a_channel(axes, may_go):
    x = keras.Input((3, 4))
    dense = layers.EinsumDense("btc,cd->btd", (3, 6), bias_axes=axes, name="made")
    model = keras.Model(x, ops.sum(dense(x), -1))
    channel_map = trace(model)
    assert (~channel_map.frozen[channel_map.produced()["made"]]).all() == may_go
    assert_exact(model)


@pytest.mark.parametrize(
    "options, may_go",
    [
        ({"threshold": 0.5}, True),
        ({"threshold": 0.5, "negative_slope": 0.3}, False),  # -0.15 at 0
        ({"negative_slope": 0.3, "max_value": 0.5}, True),
    ],
)
def test_a_rectifier_with_a_threshold_and_a_slope_makes_numbers_of_zeros(options, may_go):
    x = keras.Input((3, 4))
    made = layers.Dense(6, name="made")(x)
    model = keras.Model(x, ops.sum(layers.ReLU(**options)(made), -1))
    channel_map = trace(model)
    assert (~channel_map.frozen[channel_map.produced()["made"]]).all() == may_go
    assert_exact(model)


def test_a_reduction_of_no_numbers_leaves_the_channels_that_it_is_of():
    x = keras.Input((3, 4))
    y = ops.prod(layers.Dense(6)(x)[:, :0], axis=1)
    model = keras.Model(x, layers.Dense(2)(layers.Dense(5)(y)))
    assert_exact(model)
