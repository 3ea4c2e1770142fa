"""Layers at a network's inputs: what they were adapted to is still there in the pruned network."""

import keras
import numpy as np
import pytest
from keras import layers

from ptkeras import reconfigure
from ptkeras.channels import trace
from tests.exactness import assert_same, outputs_of, random_keep, zero


def pruned_behind(layer, inputs, example):
    """Prunes a network behind a layer and compares the outputs."""
    x = layer(inputs)
    x = keras.ops.cast(x, "float32")
    x = layers.Flatten()(x)
    x = layers.Dense(8, activation="relu", name="hidden")(x)
    model = keras.Model(inputs, layers.Dense(3)(x))
    channel_map = trace(model)
    keep = random_keep(channel_map)
    zero(channel_map, keep)
    before = outputs_of(model, example)
    reconfigure(model, keep)
    assert model.get_layer("hidden").units < 8
    assert_same(before, outputs_of(model, example))


@pytest.mark.filterwarnings("error:No rule says")
@pytest.mark.parametrize("mode", ["int", "one_hot"])
def test_bins_that_were_found(mode):
    layer = layers.Discretization(num_bins=4, output_mode=mode)
    layer.adapt(np.random.default_rng(0).normal(size=(64, 1)).astype("float32"))
    pruned_behind(layer, keras.Input((1,)), np.linspace(-2, 2, 9, dtype="float32")[:, None])


@pytest.mark.filterwarnings("error:No rule says")
def test_a_mean_and_a_variance_that_were_found():
    layer = layers.Normalization()
    numbers = np.random.default_rng(0).normal(3, 2, (64, 4)).astype("float32")
    layer.adapt(numbers)
    pruned_behind(layer, keras.Input((4,)), numbers[:5])


@pytest.mark.tensorflow
@pytest.mark.filterwarnings("error:No rule says")
@pytest.mark.parametrize("mode", ["int", "tf_idf"])
def test_words_that_were_found(mode):
    import tensorflow as tf

    texts = ["a dog and a cat", "a cat", "two dogs and two cats"]
    size = 4 if mode == "int" else None
    layer = layers.TextVectorization(output_mode=mode, output_sequence_length=size)
    layer.adapt(texts)
    inputs = keras.Input((1,), dtype="string")
    pruned_behind(layer, inputs, tf.constant([[text] for text in texts]))


@pytest.mark.tensorflow
@pytest.mark.filterwarnings("error:No rule says")
@pytest.mark.parametrize("given", [True, False])
def test_a_vocabulary(given):
    import tensorflow as tf

    words = ["north", "south", "east"]
    layer = layers.StringLookup(vocabulary=words if given else None, output_mode="one_hot")
    if not given:
        layer.adapt(words)
    inputs = keras.Input((1,), dtype="string")
    pruned_behind(layer, inputs, tf.constant([[word] for word in [*words, "west"]]))
    numbers = layers.IntegerLookup(vocabulary=[3, 5, 9] if given else None, output_mode="multi_hot")
    if not given:
        numbers.adapt([3, 5, 9])
    pruned_behind(numbers, keras.Input((2,), dtype="int64"), np.array([[3, 9], [5, 7]]))
