"""Regularizers, constraints and initializers that are made for one width."""

import keras
import numpy as np
import pytest
from keras import layers, ops

from ptkeras.channels import trace

ARRAY = np.ones(6, "float32")


def weighted(values):
    return ops.sum(values * ARRAY)


def in_sixes(values):
    return ops.sum(ops.reshape(values, (-1, 6)))


LAYERS = {
    "regularizer": lambda: layers.Dense(6, kernel_regularizer=weighted),
    "constraint": lambda: layers.Dense(6, kernel_constraint=lambda v: v * ARRAY),
    "of a bias": lambda: layers.Dense(6, bias_constraint=lambda v: v * ARRAY),
    "activity": lambda: layers.Dense(6, activity_regularizer=weighted),
    "activity in sixes": lambda: layers.Dense(6, activity_regularizer=in_sixes),
    "activity of one step": lambda: layers.TimeDistributed(
        layers.Dense(6, activity_regularizer=weighted)
    ),
}


@pytest.mark.parametrize("name", LAYERS)
def test_what_is_made_for_a_width_keeps_it(name):
    x = keras.Input((3, 4))
    y = LAYERS[name]()(x)
    channel_map = trace(keras.Model(x, layers.Dense(2)(layers.Dense(5)(y))))
    assert channel_map.prunable.sum() == 5


def test_an_array_for_two_channels_is_not_stretched_over_one():
    x = keras.Input((4,))
    y = layers.Dense(2, kernel_constraint=lambda v: v * ARRAY[:2])(x)
    channel_map = trace(keras.Model(x, layers.Dense(3)(layers.Dense(5)(y))))
    assert channel_map.prunable.sum() == 5


def test_an_initializer_of_depthwise_kernels_that_holds_an_array_keeps_the_channels():
    x = keras.Input((4, 4, 2))
    y = layers.Conv2D(6, 1)(x)
    start = keras.initializers.Constant(np.ones((3, 3, 6, 1), "float32"))
    y = layers.DepthwiseConv2D(3, depthwise_initializer=start)(y)
    channel_map = trace(keras.Model(x, layers.Conv2D(3, 1)(layers.Conv2D(5, 1)(y))))
    assert channel_map.prunable.sum() == 5
