"""A channel whose group is zero goes, and the outputs stay, whatever its other weights are."""

import hypothesis.strategies as st
import keras
import numpy as np
import pytest
from keras import layers

from ptkeras.channels import trace
from ptkeras.channels.silencing import silenced_by_scale
from ptkeras.prunetrain.zeroing import zeroing_groups
from ptkeras.surgery import reconfigure
from ptkeras.surgery.constants import DeadEndError
from tests.exactness import (
    TRIES_FEW,
    assert_same,
    inputs_for,
    outputs_of,
    randomise,
    sparing_keep,
)
from tests.helpers.random_networks import BATCH, Images, Sequences, Vectors, check_networks
from tests.helpers.zoo import ZOO


def zero_groups(groups, keep):
    """Sets the groups of the channels that are to go to zero, and nothing else."""
    for row, used in groups.rows:
        values = keras.ops.convert_to_numpy(row.variable.value).copy()
        np.moveaxis(values, row.axis, 0)[~keep[row.channels] & used] = 0
        row.variable.assign(values)


def check(model, seed, share):
    randomise(model, seed)
    channel_map = trace(model)
    groups = zeroing_groups(channel_map)
    keep = sparing_keep(channel_map, seed, share) | ~groups.free
    assert not groups.zero().any()
    zero_groups(groups, keep)
    assert groups.zero()[~keep].all()
    inputs = inputs_for(model, BATCH, seed)
    before = outputs_of(model, inputs)
    try:
        reconfigure(model, keep, channel_map=channel_map)
    except DeadEndError:
        return
    assert_same(before, outputs_of(model, inputs), tolerance=1e-4)


DRAWN = (st.integers(0, 100), st.floats(0.1, 0.9))


@pytest.mark.compiles_much
@pytest.mark.filterwarnings("ignore:No rule says")
@pytest.mark.parametrize("kind", [Images, Sequences, Vectors])
def test_a_zero_group_of_any_network_goes_without_loss(kind):
    check_networks(kind, 5 if TRIES_FEW else 10, check, *DRAWN)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:No rule says")
@pytest.mark.parametrize("kind", [Images, Sequences, Vectors])
def test_a_zero_group_of_many_networks_goes_without_loss(kind):
    check_networks(kind, 300, check, *DRAWN)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:No rule says")
@pytest.mark.parametrize("name", ZOO)
def test_a_zero_group_of_the_zoo_goes_without_loss(name):
    check(ZOO[name](), seed=1, share=0.5)


def chain(*middle, scale=True):
    inputs = x = keras.Input((6, 6, 3))
    x = layers.Conv2D(4, 3, name="first")(x)
    for layer in (layers.BatchNormalization(scale=scale), *middle):
        x = layer(x)
    return keras.Model(inputs, layers.Dense(2)(layers.Flatten()(x)))


def is_silenced(model):
    channel_map = trace(model)
    return silenced_by_scale(channel_map)[channel_map.produced()["first"]].all()


@pytest.mark.parametrize(
    ("model", "wanted"),
    [
        (lambda: chain(), True),
        (lambda: chain(layers.ReLU()), True),
        (lambda: chain(layers.PReLU()), True),
        (lambda: chain(layers.DepthwiseConv2D(3, use_bias=False)), True),
        (lambda: chain(scale=False), False),  # a moving mean is left
        (lambda: chain(layers.Activation("sigmoid")), False),
        (lambda: chain(layers.DepthwiseConv2D(3, bias_initializer="ones")), False),
        (lambda: chain(layers.DepthwiseConv2D(3), layers.BatchNormalization()), True),
    ],
)
def test_what_batch_norm_silences(model, wanted):
    assert is_silenced(model()) == wanted


def shortcut(normed):
    inputs = keras.Input((6, 6, 3))
    x = layers.Conv2D(4, 3, padding="same", name="first")(inputs)
    y = layers.Conv2D(4, 3, padding="same")(layers.ReLU()(layers.BatchNormalization()(x)))
    x = layers.Add()([x, y])
    if normed:
        x = layers.BatchNormalization()(x)
    return keras.Model(inputs, layers.Dense(2)(layers.Flatten()(x)))


def test_each_path_of_a_shortcut_has_to_pass_a_batch_norm():
    assert is_silenced(shortcut(normed=True))
    assert not is_silenced(shortcut(normed=False))


def test_what_does_not_train_is_in_no_group():
    model = chain(layers.ReLU())
    for frozen in ("first", model.layers[2].name):
        model.trainable = True
        model.get_layer(frozen).trainable = False
        channel_map = trace(model)
        groups = zeroing_groups(channel_map)
        assert not groups.free[channel_map.produced()["first"]].any()
        assert all(row.variable.trainable for row, _ in groups.rows)
