"""The test that holds the library up: what is zero can go, and the outputs stay."""

import keras
import numpy as np

from ptkeras.channels import trace
from ptkeras.channels.graph import functional_of
from ptkeras.surgery import reconfigure

# JAX compiles every operation for every shape: there the tests of random graphs try fewer.
TRIES_FEW = keras.backend.backend() == "jax"


def randomise(model, seed=0):
    """Gives every weight a number that no initializer gives it: biases, batch-norm statistics."""
    rng = np.random.default_rng(seed)
    for weight in model.weights:
        if "variance" in weight.path or "gamma" in weight.path:
            weight.assign(rng.uniform(0.5, 1.5, weight.shape))
        elif weight.dtype.startswith("float") or weight.dtype.startswith("bfloat"):
            values = keras.ops.convert_to_numpy(weight.value).astype("float32")
            weight.assign(values + rng.normal(0, 0.1, weight.shape))


def random_keep(channel_map, seed=0, share=0.5):
    """A mask that drops about `share` of what is prunable."""
    rng = np.random.default_rng(seed)
    return channel_map.frozen | (rng.random(len(channel_map)) >= share)


def sparing_keep(channel_map, seed=0, share=0.5):
    """Like `random_keep`, but takes no tensor's last channel."""
    keep = random_keep(channel_map, seed, share)
    for channels in channel_map.tensors.values():
        channels = channels[channels >= 0]
        if channels.size and not keep[channels].any():
            keep[channels.flat[0]] = True
    return keep


def zero(channel_map, keep):
    """Sets every parameter slice of the channels that are to go to zero."""
    for row in channel_map.slices:
        values = keras.ops.convert_to_numpy(row.variable.value).copy()
        np.moveaxis(values, row.axis, 0)[~keep[row.channels]] = 0
        row.variable.assign(values)


def inputs_for(model, batch=3, seed=0):
    """Random numbers in the shapes of a model's graph.

    Keras takes what `ops.add` gets second for a bias if it has one axis longer than 1, of the size
    of axis 1 or of the last one of what it gets first: on TensorFlow a tensor of shape `(3, 1)` is
    added to one of `(3, 3)` along the wrong axis. A network that may add such tensors needs a
    `batch` that no other axis has.
    """
    rng = np.random.default_rng(seed)

    def values(x):
        shape = (batch, *(n or 6 for n in x.shape[1:]))
        if "int" in x.dtype:
            return rng.integers(0, 4, shape)
        return rng.normal(size=shape).astype("float32")

    return keras.tree.map_structure(values, functional_of(model)._inputs_struct)


def forget_draws(model):
    """Sets every seed of a model to the same one, so that it draws the same numbers again."""
    for variable in model.variables:
        if variable.name == "seed_generator_state":
            variable.assign(np.zeros(variable.shape, variable.dtype))


def outputs_of(model, inputs):
    forget_draws(model)
    outputs = keras.tree.flatten(model(inputs, training=False))
    return [keras.ops.convert_to_numpy(x).astype("float32") for x in outputs]


def assert_same(before, after, tolerance=1e-5):
    for a, b in zip(before, after, strict=True):
        assert a.shape == b.shape
        assert np.abs(a - b).max() <= tolerance * max(1.0, np.abs(a).max())


def assert_exact(model, keep=None, seed=0, tolerance=1e-5, inputs=None):
    """Zeroes the channels that `keep` drops, removes them, and compares the outputs.

    Args:
        model: what is pruned; without a graph of its own, it needs `inputs`.
        keep: `keep(channel_map)` returns the mask; None for a random one.
        seed: of the weights, the mask and the inputs.
        tolerance: how far the outputs may differ, over the largest.
        inputs: what the model is called on; None for random numbers in the shapes of its graph.

    Returns:
        The number of parameters before and after.
    """
    randomise(model, seed)
    channel_map = trace(model)
    keep = random_keep(channel_map, seed) if keep is None else keep(channel_map)
    zero(channel_map, keep)
    inputs = inputs_for(model, seed=seed) if inputs is None else inputs
    before, params = outputs_of(model, inputs), model.count_params()
    assert reconfigure(model, keep) is model
    assert_same(before, outputs_of(model, inputs), tolerance)
    return params, model.count_params()
