"""The networks of `keras.applications`, built fast and small enough to try."""

import contextlib

import keras
import numpy as np

NAMES = sorted(name for name in dir(keras.applications) if name[0].isupper())
SMALLEST = {"InceptionV3": 75, "InceptionResNetV2": 75, "Xception": 71}  # all others: 32


@contextlib.contextmanager
def no_initial_values():
    """Variables start at zero: to draw random numbers for 40 networks takes minutes."""
    add_weight = keras.layers.Layer.add_weight

    def zeros(self, *args, **kwargs):
        kwargs.update(zip(("shape", "initializer"), args, strict=False))
        return add_weight(self, **kwargs | {"initializer": "zeros"})

    keras.layers.Layer.add_weight = zeros
    try:
        yield
    finally:
        keras.layers.Layer.add_weight = add_weight


def build(name):
    """A network with its classifier, at the smallest size of images that it accepts."""
    size = SMALLEST.get(name, 32)
    network = getattr(keras.applications, name)
    with no_initial_values():
        return network(weights=None, input_shape=(size, size, 3), classifier_activation=None)


def randomise(model, seed=0):
    """Random kernels that keep the size of what passes through them."""
    rng = np.random.default_rng(seed)
    for weight in model.weights:
        if not weight.dtype.startswith("float"):
            continue
        values = rng.standard_normal(weight.shape, dtype="float32")
        if weight.name in ("moving_variance", "variance"):
            values = 1 + 0.1 * np.tanh(values)
        elif weight.name == "gamma":  # small: in deep residual networks rounding errors stay so
            values = 0.3 + 0.03 * np.tanh(values)
        elif len(weight.shape) > 1:
            values *= np.sqrt(2 / max(1, np.prod(weight.shape[:-1])))
        else:
            values *= 0.1
        weight.assign(values)
    for layer in model.layers:
        if hasattr(layer, "finalize_state"):
            layer.finalize_state()


def calibrate(model, images):
    """Sets the statistics of batch norm to those of `images`: nothing vanishes or grows.

    No variance is left below the mean of its layer: a channel that hardly changes between
    the few images would be divided by next to nothing, and rounding errors would grow.
    """
    norms = [x for x in model.layers if isinstance(x, keras.layers.BatchNormalization)]
    if not norms:
        return
    momenta = [layer.momentum for layer in norms]
    for layer in norms:
        layer.momentum = 0.0
    model(images, training=True)
    for layer, momentum in zip(norms, momenta, strict=True):
        layer.momentum = momentum
        variance = keras.ops.convert_to_numpy(layer.moving_variance.value)
        layer.moving_variance.assign(np.maximum(variance, variance.mean() + 1e-3))


def inner_channels(channel_map):
    """A bool per channel: whether it is in neither the network's inputs nor its outputs."""
    inner = np.ones(len(channel_map), bool)
    for tensor in (*channel_map.model.inputs, *channel_map.model.outputs):
        inner[channel_map.tensors[id(tensor)]] = False
    return inner
