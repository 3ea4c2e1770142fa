"""Data whose channels come before its space; TensorFlow cannot run it on CPUs, but can trace it."""

import os

import keras
import pytest
from keras import layers

from ptkeras import reconfigure
from ptkeras.channels import trace
from tests.exactness import assert_exact, random_keep

FIRST = {"data_format": "channels_first"}


def network():
    inputs = keras.Input((2, 8, 8))
    x = layers.Conv2D(6, 3, padding="same", name="stem", **FIRST)(inputs)
    x = layers.BatchNormalization(axis=1)(x)
    y = layers.DepthwiseConv2D(3, padding="same", **FIRST)(x)
    y = layers.Conv2D(6, 1, activation="relu", **FIRST)(y)
    x = layers.Concatenate(axis=1)([layers.Add()([x, y]), y])
    x = layers.MaxPooling2D(**FIRST)(x)
    x = layers.ZeroPadding2D(1, **FIRST)(x)
    gate = layers.GlobalAveragePooling2D(keepdims=True, **FIRST)(x)
    x = layers.Multiply()([x, layers.Conv2D(12, 1, activation="sigmoid", **FIRST)(gate)])
    x = layers.Conv2D(5, 3, **FIRST)(x)
    return keras.Model(inputs, layers.Dense(3)(layers.Flatten(**FIRST)(x)))


def test_channels_are_found_and_go():
    model = network()
    channel_map = trace(model)
    inside = channel_map.produced()
    assert not channel_map.frozen[inside["stem"]].any()
    reconfigure(model, random_keep(channel_map))
    assert model.get_layer("stem").filters < 6


@pytest.mark.skipif(
    os.environ.get("KERAS_BACKEND", "tensorflow") == "tensorflow",
    reason="TensorFlow has no such convolutions on CPUs",
)
def test_exact():
    before, after = assert_exact(network())
    assert after < before
