import keras
import numpy as np
from keras import layers

from ptkeras import reconfigure
from ptkeras.channels import trace
from ptkeras.prunetrain.gating import shortcut_gates


def test_layers_with_several_kernels_or_in_a_row_are_left_to_channel_union():
    inputs = keras.Input((5, 4))
    x = layers.Dense(8, name="dense")(inputs)
    x = layers.Add()([x, layers.MultiHeadAttention(2, 4)(x, x)])
    x = layers.Add()([x, layers.LSTM(8, return_sequences=True)(x)])
    x = layers.Add()([x, layers.TimeDistributed(layers.Dense(8), name="frames")(x)])
    row = keras.Sequential([keras.Input((5, 8)), layers.Dense(8, name="in_a_row")])
    x = layers.Add()([x, row(x)])
    model = keras.Model(inputs, layers.Dense(2, name="head")(layers.Flatten()(x)))
    rng = np.random.default_rng(0)
    for weight in model.weights:
        weight.assign(rng.normal(size=weight.shape))
    channel_map = trace(model)
    keep = np.ones(len(channel_map), bool)
    gates = shortcut_gates(channel_map, keep, threshold=0.9, measure="mean")
    names = {row.layer.name for row in channel_map.slices if id(row.layer) in gates}
    assert names and names <= {"dense", "frames", "head"}
    params = model.count_params()
    reconfigure(model, keep, channel_map=channel_map, gates=gates)
    assert model.count_params() < params
