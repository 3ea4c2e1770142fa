"""A network for runs of the command line, `--model=tests.helpers.small_network:build`.

It has what the methods look for: convolutions with and without batch norm, and two residual blocks.
"""

import keras
from keras import layers


def build(input_shape, num_classes):
    inputs = keras.Input(input_shape, name="image")
    x = _convolution(inputs, 16, "stem")
    for number, width in enumerate((16, 16), 1):
        y = _convolution(x, width, f"block{number}_conv1")
        y = layers.Conv2D(width, 3, padding="same", use_bias=False, name=f"block{number}_conv2")(y)
        y = layers.BatchNormalization(name=f"block{number}_bn2")(y)
        x = layers.ReLU(name=f"block{number}_relu2")(layers.Add(name=f"block{number}_add")([x, y]))
    x = layers.Conv2D(32, 3, strides=2, activation="relu", name="last")(x)
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    return keras.Model(inputs, layers.Dense(num_classes, name="predictions")(x))


def _convolution(x, width, name):
    x = layers.Conv2D(width, 3, padding="same", use_bias=False, name=name)(x)
    x = layers.BatchNormalization(name=f"{name}_bn")(x)
    return layers.ReLU(name=f"{name}_relu")(x)
