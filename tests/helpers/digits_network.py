"""The digits, and a residual network for them that is trained in a second."""

import pathlib

import keras
import numpy as np
from keras import layers

import ptkeras


def digits(n=256):
    # Not through ptkeras.data, which needs TensorFlow.
    with np.load(pathlib.Path(ptkeras.__file__).parent / "data" / "digits.npz") as file:
        images, labels = file["images"], file["labels"]
    return images[:n].reshape(-1, 8, 8, 1).astype("float32") / 16.0, labels[:n]


def network(width=8):
    inputs = keras.Input((8, 8, 1))
    x = layers.Conv2D(width, 3, padding="same", use_bias=False, name="stem")(inputs)
    x = layers.BatchNormalization()(x)
    x = layers.ReLU()(x)
    y = layers.Conv2D(width, 3, padding="same", use_bias=False, name="inner")(x)
    y = layers.BatchNormalization()(y)
    y = layers.ReLU()(y)
    y = layers.Conv2D(width, 3, padding="same", use_bias=False, name="outer")(y)
    y = layers.BatchNormalization()(y)
    x = layers.ReLU()(layers.Add()([x, y]))
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, layers.Dense(10, name="head")(x))


def compiled(model=None, optimizer=None, **kwargs):
    model = model or network()
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    optimizer = optimizer or keras.optimizers.SGD(0.05, momentum=0.9)
    model.compile(optimizer, loss, metrics=["accuracy"], **kwargs)
    return model
