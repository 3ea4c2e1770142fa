"""Arrays among the operands and in the settings of operations, and what is filled in."""

import hypothesis
import hypothesis.strategies as st
import keras
import numpy as np
import pytest
from keras import layers, ops

from ptkeras.channels import trace
from tests.exactness import TRIES_FEW, assert_exact, sparing_keep


def array(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def made_may_go(outputs_of_made, shape=(3, 4)):
    """Whether the channels of a layer may be removed that something reads; removes some of them."""
    x = keras.Input(shape)
    made = layers.Dense(6, name="made")(x)
    model = keras.Model(x, outputs_of_made(made))
    channel_map = trace(model)
    frozen = channel_map.frozen[channel_map.produced()["made"]]
    assert_exact(model)
    return not frozen.any()


def test_a_table_that_is_an_array_is_a_constant():
    i = keras.Input((), dtype="int32")
    for table in (array(30, 8), ops.convert_to_tensor(array(30, 8))):
        x = ops.take(table, i, axis=0)
        model = keras.Model(i, layers.Dense(3)(layers.Dense(16, name="made")(x)))
        channel_map = trace(model)
        assert not channel_map.frozen[channel_map.produced()["made"]].any()
        assert_exact(model)


def test_arrays_as_data_of_any_operation_are_constants():
    i = keras.Input((3,), dtype="int32")
    x = keras.Input((3, 4))
    made = layers.Dense(4)(x)
    parts = [
        ops.take(array(5, 6), i, axis=0),
        ops.take_along_axis(array(1, 5, 6), ops.expand_dims(i, -1), axis=1),
        ops.where(ops.expand_dims(i, -1) > 1, array(3, 6), array(6)),
        ops.einsum("tc,btd->btcd", array(3, 6), made)[..., 0],
        ops.matmul(array(3, 3), layers.Dense(6)(x)),
        ops.concatenate([made, 0 * made[..., :1] + ops.zeros((1, 3, 2))], axis=-1),
        ops.add(array(1, 3, 1), layers.Dense(6)(x)),
    ]
    parts = [layers.Dense(5)(layers.Dense(7)(part)) for part in parts]
    assert_exact(keras.Model([i, x], layers.Dense(2)(layers.Add()(parts))))


def test_a_softmax_mask_or_index_does_not_stand_for_the_data():
    x = keras.Input((3, 4))
    i = keras.Input((2,), dtype="int32")
    y = layers.Dense(6, name="made")(x)
    model = keras.Model(
        [x, i], layers.Dense(2)(ops.take_along_axis(y, (i // 2)[..., None], axis=1))
    )
    channel_map = trace(model)
    assert not channel_map.frozen[channel_map.produced()["made"]].any()
    assert_exact(model)


@pytest.mark.parametrize("shape", [(1, 2, 6), (1, 3, 2)])
def test_arrays_are_joined_to_channels(shape):
    x = keras.Input(batch_shape=(1, 3, 4))
    made = layers.Dense(6, name="made")(x)
    axis = 1 if shape[1] != 3 else 2
    y = ops.concatenate([array(*shape), made], axis=axis)
    channel_map = trace(keras.Model(x, layers.Dense(2)(y)))
    frozen = channel_map.frozen[channel_map.produced()["made"]]
    assert frozen.all() == (axis == 1) and frozen.any() == (axis == 1)


FILLS = {
    "resizing": lambda f: layers.Resizing(4, 8, pad_to_aspect_ratio=True, fill_value=f),
    "resize": lambda f: (
        lambda y: ops.image.resize(y, (4, 8), pad_to_aspect_ratio=True, fill_value=f)
    ),
    "stretched": lambda f: layers.Resizing(4, 8, fill_value=1.0),
    "pad": lambda f: (
        lambda y: ops.pad(y, [[0, 0], [1, 0], [0, 2], [0, 0]], constant_values=f if f else None)
    ),
    "pad_op": lambda f: lambda y: ops.numpy.pad(y, [[0, 0], [0, 1], [0, 0], [0, 0]], "constant", f),
    "reflected": lambda f: lambda y: ops.pad(y, [[0, 0], [1, 0], [0, 2], [0, 0]], "reflect"),
    "rotation": lambda f: layers.RandomRotation(0.1, fill_mode="constant", fill_value=f),
    "translation": lambda f: layers.RandomTranslation(0.1, 0.1, "constant", fill_value=f),
    "zoom": lambda f: layers.RandomZoom(0.1, fill_mode="constant", fill_value=f),
    "zero padding": lambda f: layers.ZeroPadding2D(1),
    "pad images": lambda f: lambda y: ops.image.pad_images(y, 1, 1, 1, 1),
    "threshold": lambda f: lambda y: ops.threshold(y, -1e9 if f else 0.1, f),
    "clipped": lambda f: lambda y: ops.clip(y, f, 2.0),
    "largest": lambda f: lambda y: ops.max(y, axis=1, keepdims=True, initial=f),
    "like": lambda f: lambda y: y * ops.full_like(y, f) if f else ops.zeros_like(y) + y,
}
FREE = ("stretched", "reflected", "zero padding", "pad images", "threshold", "like")


@pytest.mark.parametrize("fill", [0.0, 1.5])
@pytest.mark.parametrize("kind", FILLS)
def test_what_is_filled_in_is_zero_only_if_it_is_0(kind, fill):
    def summed(y):
        return layers.Dense(2)(layers.Flatten()(ops.sum(FILLS[kind](fill)(y), -1)))

    # The initial value of a maximum is more than 0 even where that is all there is.
    expected = (fill == 0 or kind in FREE) and kind != "largest"
    assert made_may_go(summed, (6, 6, 3)) == expected


@hypothesis.settings(max_examples=6 if TRIES_FEW else 12, deadline=None)
@hypothesis.given(
    st.sampled_from([*FILLS]),
    st.sampled_from([0.0, 1.0, -2.0]),
    st.sampled_from(["sum", "mean", "norm"]),
    st.integers(0, 50),
)
def test_any_fill_is_exact(kind, fill, after, seed):
    x = keras.Input((6, 6, 3))
    y = FILLS[kind](fill)(layers.Conv2D(6, 3, padding="same")(x))
    y = {
        "sum": lambda: ops.sum(y, -1),
        "mean": lambda: layers.Conv2D(2, 1)(y),
        "norm": lambda: ops.sum(layers.UnitNormalization()(y), -1),
    }[after]()

    def every_other(channel_map):
        return channel_map.frozen | (np.arange(len(channel_map)) % 2 == seed % 2)

    model = keras.Model(x, layers.Dense(2)(layers.Flatten()(y)))
    assert_exact(model, keep=every_other, seed=seed)


def test_scales_by_place_leave_the_channels():
    x = keras.Input((5, 4))
    y = layers.Rescaling(np.linspace(1, 2, 5).reshape(5, 1))(layers.Dense(6, name="made")(x))
    channel_map = trace(keras.Model(x, layers.Dense(2)(y)))
    assert not channel_map.frozen[channel_map.produced()["made"]].any()


@pytest.mark.parametrize(
    "norm",
    [
        lambda: layers.GroupNormalization(5),
        lambda: layers.GroupNormalization(1),
        lambda: layers.BatchNormalization(),
    ],
)
def test_a_norm_of_places_keeps_the_channels_that_it_mixes(norm):
    x = keras.Input((5, 4))
    y = norm()(layers.Permute((2, 1))(layers.Dense(6, name="made")(x)))
    model = keras.Model(x, layers.Dense(2)(layers.Dense(7, name="after")(layers.Flatten()(y))))
    for exact in (True, False):
        channel_map = trace(model, exact=exact)
        assert (channel_map.frozen[channel_map.produced()["made"]] == exact).all()
        assert not channel_map.frozen[channel_map.produced()["after"]].any()


def test_a_layer_norm_of_places_is_one_of_each_channel():
    def outputs(made):
        return layers.Dense(2)(layers.Flatten()(layers.LayerNormalization(axis=1)(made)))

    assert made_may_go(outputs)


@pytest.mark.parametrize("at", [0, 3, 6])
def test_an_empty_part_of_a_split_is_no_channel(at):
    def outputs(made):
        return layers.Dense(2)(layers.Concatenate()(ops.split(made, [at], axis=-1)))

    assert made_may_go(outputs)


@pytest.mark.parametrize("repeats", [[0, 2, 0], [1, 0, 3], [2, 2, 2]])
def test_repeats_by_channel_show_the_channel(repeats):
    x = keras.Input((4,))
    y = ops.repeat(layers.Dense(3, name="made")(x), repeats, axis=-1)
    channel_map = trace(keras.Model(x, layers.Dense(2)(y)))
    made = channel_map.produced()["made"]
    shown = np.broadcast_to(channel_map.channels_of(y), (1, sum(repeats))).reshape(-1)
    assert shown.tolist() == np.repeat(made, repeats).tolist()
    alone = sum(count > 0 for count in repeats) == 1  # the model needs it
    assert channel_map.frozen[made].tolist() == [alone and count > 0 for count in repeats]


@keras.saving.register_keras_serializable("tests")
class Weighed(layers.Layer):
    """Has a tensor with a number per channel in its code."""

    def __init__(self):
        super().__init__()
        self.made, self.read = layers.Dense(6), layers.Dense(5)

    def call(self, x):
        return self.read(self.made(x) * ops.convert_to_tensor(np.arange(6, dtype="float32")))


def test_a_tensor_in_code_is_an_array():
    x = keras.Input((4,))
    layer = Weighed()
    model = keras.Model(x, layers.Dense(2)(layer(x)))
    channel_map = trace(model)
    made = channel_map.produced()
    assert channel_map.frozen[made[layer.made.path]].all()
    assert not channel_map.frozen[made[layer.read.path]].any()
    assert_exact(model, keep=sparing_keep)
