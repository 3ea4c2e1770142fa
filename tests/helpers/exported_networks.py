"""Small networks to export, with statistics that would show a mistake."""

import keras
import numpy as np
from keras import layers


def shaken(model):
    """The model, its vectors of weights and statistics at random, away from zero and one."""
    random = np.random.default_rng(0)
    for variable in model.variables:
        if len(variable.shape) == 1 and "float" in variable.dtype:
            variable.assign(random.uniform(0.5, 1.5, variable.shape))
    return model


def small(normalised=True):
    """A convolution, batch normalisation, a shortcut and a dense layer, for 8x8x3 images."""
    x = keras.Input((8, 8, 3), name="image")
    y = layers.Conv2D(6, 3, padding="same", use_bias=False)(x)
    if normalised:
        y = layers.BatchNormalization()(y)
    y = layers.Add()([y, layers.Conv2D(6, 1)(layers.ReLU()(y))])
    y = layers.Dropout(0.5)(layers.GlobalAveragePooling2D()(y))
    return shaken(keras.Model(x, layers.Dense(4, name="logits")(y), name="small"))


def of_dictionaries():
    image, vector = keras.Input((8, 8, 3), name="image"), keras.Input((5,), name="vector")
    y = layers.GlobalAveragePooling2D()(layers.Conv2D(6, 3)(image))
    y = layers.Add()([y, layers.Dense(6)(vector)])
    outputs = {"logits": layers.Dense(4)(y), "features": keras.ops.cast(y, "float32")}
    return shaken(keras.Model({"image": image, "vector": vector}, outputs))
