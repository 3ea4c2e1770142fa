"""Networks with a layer that no trace can see through; each has the name that a warning has."""

import keras
from keras import layers, ops


class RawRelu(layers.Layer):
    """An operation of TensorFlow, which knows nothing of symbolic tensors of Keras."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.dense = layers.Dense(10)

    def call(self, x):
        import tensorflow as tf

        return tf.nn.relu(self.dense(x))


class TwoFaced(layers.Layer):
    """Computes one thing in training and another in inference."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.coarse, self.fine = layers.Dense(10), layers.Dense(10)

    def build(self, input_shape):
        self.coarse.build(input_shape)
        self.fine.build(input_shape)

    def call(self, x, training=False):
        if training:
            return self.coarse(x)
        return ops.tanh(self.fine(x))


def with_a_hidden_layer(inputs, x):
    x = layers.Dense(12, activation="relu")(x)
    return keras.Model(inputs, layers.Dense(3)(layers.Dense(8, activation="relu")(x)))


def build_raw_tensorflow():
    inputs = keras.Input((6,))
    return with_a_hidden_layer(inputs, RawRelu(name="raw_relu")(layers.Dense(8)(inputs)))


def build_two_faced():
    inputs = keras.Input((6,))
    return with_a_hidden_layer(inputs, TwoFaced(name="two_faced")(layers.Dense(8)(inputs)))
