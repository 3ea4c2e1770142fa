"""Variables that only other calls of a layer read than those that `trace` sees."""

import keras
import numpy as np
from keras import layers, ops

import ptkeras
from ptkeras.channels import trace


class Masked(layers.Layer):
    """Puts a token of its own in the place of what is masked."""

    def __init__(self, width):
        super().__init__()
        self.dense = layers.Dense(width, name="dense")
        self.after = layers.Dense(3, name="after")

    def build(self, shape):
        self.dense.build(shape)
        self.after.build((*shape[:-1], self.dense.units))
        self.token = self.add_weight(shape=(1, self.dense.units), name="token")

    def call(self, x, masked=None):
        x = self.dense(x)
        if masked is not None:
            x = ops.where(masked, ops.convert_to_tensor(self.token), x)
        return self.after(x)


def test_what_only_another_call_reads_keeps_what_it_fits():
    inputs = keras.Input((4,))
    layer = Masked(6)
    model = keras.Model(inputs, layers.Dense(2)(layer(layers.Dense(5, name="free")(inputs))))
    channel_map = trace(model)
    made = channel_map.produced()
    assert channel_map.frozen[made[layer.dense.path]].all()
    assert not channel_map.frozen[made["free"]].any()
    ptkeras.prune(model, 0.4)
    masked = np.array([[True], [False]])
    answers = layer(np.ones((2, layer.dense.kernel.shape[0])), masked=masked)
    assert answers.shape == (2, layer.after.units)
