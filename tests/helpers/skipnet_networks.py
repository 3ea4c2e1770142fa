"""Networks and data for the tests of SkipNet."""

import keras
import numpy as np

from ptkeras import skipnet


def small(blocks=3, width=8):
    """Residual blocks behind a stem, at two resolutions, the last without a relu behind it."""
    image = keras.Input((8, 8, 1), name="image")
    x = keras.layers.Conv2D(width, 3, padding="same", activation="relu", name="stem")(image)
    for number in range(blocks):
        y = keras.layers.Conv2D(width, 3, padding="same", name=f"block{number}_conv1")(x)
        y = keras.layers.BatchNormalization(name=f"block{number}_bn")(y)
        y = keras.layers.ReLU(name=f"block{number}_inner")(y)
        y = keras.layers.Conv2D(width, 3, padding="same", name=f"block{number}_conv2")(y)
        x = keras.layers.Add(name=f"block{number}_add")([x, y])
        if number < blocks - 1:
            x = keras.layers.ReLU(name=f"block{number}_relu")(x)
    x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
    return keras.Model(image, keras.layers.Dense(4, name="scores")(x), name="small")


def nested():
    """A residual network around another one that it calls twice."""
    inner = small(1, 4)
    body = keras.Model(inner.get_layer("stem").output, inner.get_layer("block0_add").output)
    image = keras.Input((8, 8, 1))
    x = keras.layers.Conv2D(4, 3, padding="same", name="block0_conv1")(image)
    x = body(body(x))
    return keras.Sequential([keras.Model(image, x), keras.layers.Flatten(), keras.layers.Dense(4)])


def vectors():
    """Blocks of dense layers; the sum of the second has its branch first."""
    x = start = keras.Input((6,))
    x = x + keras.layers.Dense(6)(keras.layers.Dense(9, activation="relu")(x))
    x = keras.layers.Dense(6)(keras.layers.Dense(9, activation="relu")(x)) + x
    return keras.Model(start, keras.layers.Dense(3)(x))


def series():
    """A block of one axis beside the channels'."""
    x = start = keras.Input((12, 5))
    y = keras.layers.Conv1D(5, 3, padding="same")(x)
    return keras.Model(start, keras.layers.Flatten()(x + y))


def single_pixels():
    """A block that reads, adds and makes one number a channel."""
    x = start = keras.Input((1, 1, 4))
    y = keras.layers.Conv2D(4, 1)(x)
    return keras.Model(start, keras.layers.Conv2D(2, 1)(keras.layers.Add()([y, x])))


def undecided(model, gate="ffgate2", seed=0):
    """A network whose gates decide otherwise for one image than for another."""
    random = np.random.default_rng(seed)
    network = skipnet.add_gates(model, gate)
    x = images(256, shape=model.input_shape[1:])
    for layer in network.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.moving_mean.assign(random.normal(0, 0.1, layer.moving_mean.shape))
    for block in skipnet.blocks.gated_blocks(network):
        node = block.decision._keras_history.operation._inbound_nodes[-1]
        last = node.input_tensors[0]._keras_history.operation
        last.kernel.assign(random.normal(0, 1, last.kernel.shape))
        logits = keras.Model(network.inputs, node.input_tensors[0]).predict(x, verbose=0)
        last.bias.assign(last.bias - np.median(logits))
    return network


def images(count, seed=0, shape=(8, 8, 1)):
    """Images of standard normal numbers, of very different strength."""
    random = np.random.default_rng(seed)
    strength = random.uniform(0.1, 3, (count, *[1] * len(shape)))
    return (random.normal(size=(count, *shape)) * strength).astype("float32")
