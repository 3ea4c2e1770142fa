"""Parts of a split that are empty, and repeats that leave copies of one channel alone."""

import keras
import numpy as np
import pytest
from keras import layers, ops

from tests.exactness import assert_exact, sparing_keep


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    "move",
    [
        lambda x: layers.Concatenate()(ops.split(x, [6], axis=-1)),
        lambda x: layers.Concatenate()(ops.split(x, [0], axis=-1)),
        lambda x: layers.Concatenate()(ops.split(x, [2, 2], axis=-1)),
        lambda x: ops.repeat(x, np.array([0, 2, 0, 0, 0, 0]), axis=-1),
        lambda x: ops.repeat(x, np.array([1, 2, 3, 0, 0, 1]), axis=-1),
    ],
)
def test_what_is_left_goes_on(move, seed):
    inputs = keras.Input((5, 4))
    x = layers.Flatten()(move(layers.Dense(6)(inputs)))
    model = keras.Model(inputs, layers.Dense(2)(layers.Dense(7)(x)))
    assert_exact(model, keep=lambda found: sparing_keep(found, seed), seed=seed)
