"""Code that reads the batch size: written out for any batch, or refused, never for one batch."""

import keras
import numpy as np
import pytest
from keras import layers, ops

import ptkeras


class Computed(keras.Model):
    def __init__(self, function):
        super().__init__()
        self.first, self.last = layers.Dense(8), layers.Dense(3)
        self.function = function

    def call(self, x):
        return self.last(self.function(self.first(x)))


def batch(x):
    return ops.shape(x)[0]


SHAPES = {
    "mean": lambda x: x - ops.mean(x, axis=0, keepdims=True),
    "reshape": lambda x: ops.reshape(ops.reshape(x, (batch(x), 2, 4)), (batch(x), 8)),
    "ones": lambda x: x + ops.ones((batch(x), 8)),
    "tile": lambda x: x + ops.tile(ops.ones((1, 8)), (batch(x), 1)),
}
NUMBERS = {
    "quotient": lambda x: x / batch(x),
    "product": lambda x: x * ops.cast(batch(x), "float32"),
    "fill": lambda x: x + ops.full((batch(x), 8), batch(x)),
    "shifted": lambda x: x + (batch(x) - 3.0),
}


def called(function):
    model = Computed(function)
    images = np.random.default_rng(0).normal(size=(6, 5)).astype("float32")
    model(images[:4])
    return model, images


@pytest.mark.parametrize("kind", SHAPES)
def test_shapes_are_written_out_for_any_batch(kind):
    model, images = called(SHAPES[kind])
    functional = ptkeras.as_functional(model)
    for count in (3, 6):
        given = images[:count]
        np.testing.assert_allclose(functional(given), model(given), atol=1e-6)


@pytest.mark.parametrize("kind", NUMBERS)
def test_a_batch_size_that_is_computed_with_is_refused(kind):
    model, _ = called(NUMBERS[kind])
    with pytest.raises(ValueError, match=r"computes with the batch size"):
        ptkeras.as_functional(model)


def test_an_inner_layer_that_computes_with_the_batch_size_stays_closed():
    inner = Computed(NUMBERS["product"])
    inputs = keras.Input((5,))
    model = keras.Model(inputs, layers.Dense(2)(inner(inputs)))
    functional = ptkeras.as_functional(model)
    images = np.ones((6, 5), "float32")
    for count in (3, 6):
        np.testing.assert_allclose(functional(images[:count]), model(images[:count]), atol=1e-6)
