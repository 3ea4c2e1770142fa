"""Networks of layers that hold layers, and with a `call` of their own: one net in four makes."""

import keras
import numpy as np
from keras import layers, ops


@keras.saving.register_keras_serializable("tests")
class Block(layers.Layer):
    """A residual block."""

    def __init__(self, inner=12, **kwargs):
        super().__init__(**kwargs)
        self.inner = inner
        self.first = layers.Conv2D(inner, 3, padding="same", use_bias=False, name="first")
        self.norm = layers.BatchNormalization(name="norm")

    def build(self, shape):
        self.second = layers.Conv2D(shape[-1], 3, padding="same", name="second")
        self.first.build(shape)
        inner = self.first.compute_output_shape(shape)
        self.norm.build(inner)
        self.second.build(inner)

    def call(self, x, training=None):
        return x + self.second(ops.relu(self.norm(self.first(x), training=training)))

    def get_config(self):
        return {**super().get_config(), "inner": self.inner}


@keras.saving.register_keras_serializable("tests")
class Stage(layers.Layer):
    """Two blocks in a list: layers of layers of layers."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.blocks = [Block(name="one"), Block(16, name="two")]

    def build(self, shape):
        for block in self.blocks:
            block.build(shape)

    def call(self, x, training=None):
        for block in self.blocks:
            x = block(x, training=training)
        return x


@keras.saving.register_keras_serializable("tests")
class Net(keras.Model):
    """A `call` of Python code."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.stem = layers.Conv2D(8, 3, padding="same", name="stem")
        self.stage = Stage(name="stage")
        self.parts = {"pool": layers.GlobalAveragePooling2D(), "drop": layers.Dropout(0.2, seed=1)}
        self.head = layers.Dense(4, activation="softmax", name="head")

    def call(self, x, training=None):
        x = self.parts["pool"](self.stage(self.stem(x), training=training))
        return self.head(self.parts["drop"](x, training=training))


class Pair(keras.Model):
    """A dict of inputs, and of outputs."""

    def __init__(self):
        super().__init__(name="pair")
        self.block = Block(name="block")
        self.heads = [layers.Dense(2, name="first_head"), layers.Dense(3, name="second_head")]
        self.stems = [layers.Conv2D(6, 3, padding="same", name=f"stem{i}") for i in (0, 1)]

    def call(self, inputs):
        x = self.block(self.stems[0](inputs["left"]) + self.stems[1](inputs["right"]))
        x = ops.mean(x, (1, 2))
        return {"a": self.heads[0](x), "b": self.heads[1](x)}


def subclassed():
    model = Net(name="net")
    model(np.zeros((2, 8, 8, 3), "float32"))
    return model


def composite():
    inputs = keras.Input((8, 8, 3))
    x = layers.Conv2D(8, 3, padding="same", name="stem")(inputs)
    x = layers.GlobalAveragePooling2D()(Stage(name="stage")(x))
    x = layers.Dropout(0.2, seed=1)(x)
    return keras.Model(inputs, layers.Dense(4, activation="softmax", name="head")(x), name="net")


def in_a_row():
    return keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            layers.Conv2D(8, 3, padding="same", name="stem"),
            Stage(name="stage"),
            layers.GlobalAveragePooling2D(),
            layers.Dropout(0.2, seed=1),
            layers.Dense(4, activation="softmax", name="head"),
        ],
        name="net",
    )


def flat():
    """The same without layers of layers: plain Keras, a nested model, a layer that is shared."""
    inputs = keras.Input((8, 8, 3))
    x = layers.Conv2D(8, 3, padding="same", name="stem")(inputs)
    for name, inner in (("one", 12), ("two", 16)):
        y = layers.Conv2D(inner, 3, padding="same", use_bias=False, name=f"{name}_first")(x)
        y = layers.BatchNormalization(name=f"{name}_norm")(y)
        y = layers.ReLU()(y)
        y = layers.Conv2D(8, 3, padding="same", name=f"{name}_second")(y)
        x = layers.Add(name=f"{name}_add")([x, y])
    x = layers.GlobalAveragePooling2D()(x)
    x = layers.Dropout(0.2, seed=1)(x)
    return keras.Model(inputs, layers.Dense(4, activation="softmax", name="head")(x), name="net")


NETS = {"flat": flat, "composite": composite, "in a row": in_a_row, "subclassed": subclassed}


def data(size=16):
    rng = np.random.default_rng(0)
    return rng.normal(size=(size, 8, 8, 3)).astype("float32"), np.arange(size) % 4


def pair():
    model = Pair()
    model({name: np.zeros((2, 8, 8, 3), "float32") for name in ("left", "right")})
    return model
