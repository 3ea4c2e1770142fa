"""Kronecker factors beside what is computed example by example, and by differentiation."""

import os

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import layers, losses

from ptkeras import fisher
from ptkeras.fisher import basis as basis_module
from ptkeras.fisher.basis import Moment
from ptkeras.fisher.gradients import gradients
from ptkeras.fisher.likelihood import likelihoods
from ptkeras.fisher.patches import channels_last, patches, uses
from tests.exactness import TRIES_FEW, randomise

LOGITS = losses.SparseCategoricalCrossentropy(from_logits=True)
LAYERS = {
    "dense": ((5,), layers.Dense(4)),
    "dense over time": ((3, 5), layers.Dense(4, use_bias=False)),
    "1d": ((9, 3), layers.Conv1D(4, 3, strides=2, padding="same")),
    "causal": ((9, 3), layers.Conv1D(4, 3, dilation_rate=2, padding="causal")),
    "2d": ((7, 8, 3), layers.Conv2D(4, 3)),
    "2d strides": ((7, 8, 3), layers.Conv2D(4, (2, 3), strides=2, padding="same")),
    "2d dilation": ((9, 8, 3), layers.Conv2D(4, 3, dilation_rate=2, padding="same")),
    "2d 1x1": ((6, 6, 3), layers.Conv2D(4, 1, strides=2)),
    "3d": ((4, 5, 6, 2), layers.Conv3D(3, 2, strides=(1, 2, 1), padding="same")),
    "channels first": ((3, 7, 8), layers.Conv2D(4, 3, data_format="channels_first")),
}


def fresh(name):
    shape, layer = LAYERS[name]
    if name == "channels first" and os.environ["KERAS_BACKEND"] == "tensorflow":
        pytest.skip("TensorFlow has no such convolutions on CPUs")
    return shape, type(layer).from_config(layer.get_config())


def examples(shape, count=4, seed=0):
    return np.random.default_rng(seed).normal(size=(count, *shape)).astype("float32")


def around(shape, layer):
    """A network of one layer and a softmax over what it makes."""
    inputs = keras.Input(shape)
    model = keras.Model(inputs, layers.Flatten()(layer(inputs)))
    randomise(model)
    model.compile("sgd", LOGITS)
    return model


@pytest.mark.parametrize("name", LAYERS)
def test_patches_times_the_kernel_are_what_a_layer_makes(name):
    shape, layer = fresh(name)
    x = examples(shape)
    made = channels_last(layer, keras.ops.convert_to_numpy(layer(x)))
    read = channels_last(layer, x)
    kernel = keras.ops.convert_to_numpy(layer.kernel)
    weights = kernel.reshape(-1, *kernel.shape[-2:])
    parts = list(patches(layer, read))
    assert len(parts) == len(weights)
    total = sum(part @ w for part, w in zip(parts, weights, strict=True))
    np.testing.assert_allclose(total.reshape(made.shape), made, atol=1e-5)
    # How often each position is read is what the sum over all patches has of it.
    counts = uses(layer, read.shape[1:-1])[..., None]
    summed = sum(part.sum(1) for part in parts)
    np.testing.assert_allclose(
        (read * counts).reshape(4, -1, read.shape[-1]).sum(1), summed, 1e-4, 1e-5
    )


def slopes_of(model, layer, x, seed):
    """For each example the gradient of `-log p(y)` by a layer's kernel, by differentiation."""
    outputs = keras.ops.convert_to_numpy(model(x, training=False))
    (likelihood,) = likelihoods(model)
    noise = likelihood.noise(np.random.default_rng(seed), outputs.shape)
    found = []
    for i in range(len(x)):
        part = slice(i, i + 1)
        (slope,) = gradients(
            lambda part=part: likelihood.surprise(model(x[part], training=False), noise[part]),
            [layer._kernel],
        )
        found.append(slope.reshape(-1, *slope.shape[-2:]))
    return np.stack(found)


@pytest.mark.parametrize("name", LAYERS)
def test_factors_are_those_of_single_examples(name):
    shape, layer = fresh(name)
    model, x = around(shape, layer), examples(shape)
    (found,) = fisher.factors(model, x, batch_size=4, seed=3)
    assert found.layer is layer
    parts = np.stack(list(patches(layer, channels_last(layer, x))))
    rows = parts.reshape(-1, parts.shape[-1]).astype("float64")
    np.testing.assert_allclose(found.inputs.matrix(), rows.T @ rows / len(rows), atol=1e-6)
    assert found.positions == (channels_last(layer, x)[0, ..., 0].size, parts.shape[2])
    # The gradient behind the layer: that of a number added to each of its outputs.
    (likelihood,) = likelihoods(model)
    made = keras.ops.convert_to_numpy(layer(x))
    noise = likelihood.noise(np.random.default_rng(3), (4, made[0].size))
    shift = keras.Variable(np.zeros_like(made))
    flat = layers.Flatten()
    (slopes,) = gradients(lambda: likelihood.surprise(flat(layer(x) + shift), noise), [shift])
    slopes = channels_last(layer, slopes)
    slopes = slopes.reshape(-1, slopes.shape[-1])
    np.testing.assert_allclose(found.gradients.matrix(), slopes.T @ slopes / 4, atol=1e-6)


@pytest.mark.parametrize("name", LAYERS)
def test_second_moments_in_the_eigenbasis_are_those_of_a_direct_computation(name):
    shape, layer = fresh(name)
    model, x = around(shape, layer), examples(shape)
    check_second_moments(model, x)


def check_second_moments(model, x, **options):
    known = fisher.factors(model, x, **options)
    bases = {id(f.layer): (f.inputs.basis(), f.gradients.basis()) for f in known}
    of = [f.layer for f in known]
    moments = fisher.second_moments(model, x, bases, of=of, seed=5, batch_size=len(x))
    for each in known:
        reads, makes = bases[id(each.layer)]
        slopes = slopes_of(model, each.layer, x, 5)
        turned = reads.columns(np.arange(reads.size)).T @ slopes
        turned = turned @ makes.columns(np.arange(makes.size))
        wanted = np.square(turned).mean(0)
        np.testing.assert_allclose(moments[id(each.layer)], wanted, rtol=1e-3, atol=1e-7)


@pytest.mark.compiles_much
def test_second_moments_of_a_small_dense_network_are_those_of_autodiff():
    inputs = keras.Input((6,))
    x = layers.Dense(7, activation="tanh")(inputs)
    x = layers.Dense(5, activation="relu")(x)
    model = keras.Model(inputs, layers.Dense(4, activation="softmax")(x))
    randomise(model)
    model.compile("sgd", "sparse_categorical_crossentropy")
    check_second_moments(model, examples((6,), 16))


def test_second_moments_do_not_depend_on_the_size_of_the_batch():
    shape, layer = fresh("2d")
    model, x = around(shape, layer), examples(shape, 5)
    found = []
    for size in (5, 2):
        (known,) = fisher.factors(model, x, batch_size=size)
        bases = {id(layer): (known.inputs.basis(), known.gradients.basis())}
        found.append(fisher.second_moments(model, x, bases, of=[layer], batch_size=size)[id(layer)])
    np.testing.assert_allclose(*found, rtol=1e-3, atol=1e-8)


def test_a_layer_that_is_called_twice_has_one_gradient_from_both_calls():
    inputs = keras.Input((6, 6, 3))
    layer = layers.Conv2D(3, 3, padding="same", activation="tanh")
    x = layers.GlobalAveragePooling2D()(layer(layers.MaxPooling2D()(layer(inputs))))
    model = keras.Model(inputs, x)
    randomise(model)
    model.compile("sgd", LOGITS)
    x = examples((6, 6, 3))
    (known,) = fisher.factors(model, x)
    assert known.positions == (36 + 9, 36 + 9)
    check_second_moments(model, x)


def test_windows_in_the_axis_of_the_batch_are_those_of_their_example():
    inputs = keras.Input((6, 3))
    x = keras.ops.reshape(inputs, (-1, 2, 3))
    x = layers.Dense(4, activation="tanh")(x)
    x = keras.ops.reshape(x, (-1, 24))
    model = keras.Model(inputs, x)
    model.compile("sgd", LOGITS)
    check_second_moments(model, examples((6, 3)))


def test_layers_keep_their_own_call_and_activation():
    shape, layer = fresh("2d")
    model = around(shape, layer)
    before = dict(vars(layer))
    fisher.factors(model, examples(shape))
    assert dict(vars(layer)) == before
    x = examples(shape)
    x[0] = np.nan
    with pytest.raises(ValueError, match="not finite"):
        fisher.factors(model, x)
    assert dict(vars(layer)) == before


@pytest.mark.parametrize(
    "loss, outputs, mean",
    [
        (LOGITS, [0.5, -1.0, 2.0], None),
        (losses.CategoricalCrossentropy(), [0.2, 0.7, 0.1], [0.2, 0.7, 0.1]),
        (losses.BinaryCrossentropy(from_logits=True), [0.5, -1.0, 2.0], None),
        ("binary_crossentropy", [0.2, 0.7, 0.1], [0.2, 0.7, 0.1]),
        ("mean_squared_error", [0.5, -1.0, 2.0], [0.5, -1.0, 2.0]),
    ],
)
def test_targets_are_drawn_from_what_the_model_predicts(loss, outputs, mean):
    inputs = keras.Input((3,))
    model = keras.Model(inputs, layers.Identity()(inputs))
    (likelihood,) = likelihoods(model, loss)
    count = 20_000
    y = np.tile(np.float32(outputs), (count, 1))
    noise = likelihood.noise(np.random.default_rng(0), y.shape)
    shift = keras.Variable(np.zeros(y.shape, "float32"))
    (slopes,) = gradients(
        lambda: likelihood.surprise(keras.ops.convert_to_tensor(y) + shift, noise), [shift]
    )
    # The score of the true distribution is zero on average; its variance is the Fisher information.
    p = np.float64(mean if mean is not None else 0)
    if loss is LOGITS:
        p = np.exp(outputs) / np.exp(outputs).sum()
        fisher_of = p * (1 - p)
    elif mean is None:
        p = 1 / (1 + np.exp(-np.float64(outputs)))
        fisher_of = p * (1 - p)
    elif loss == "mean_squared_error":
        fisher_of = np.ones(3)
    elif loss == "binary_crossentropy":
        fisher_of = 1 / (p * (1 - p))
    else:
        fisher_of = 1 / p - 1
    np.testing.assert_allclose(slopes.mean(0), 0, atol=4 * np.sqrt(fisher_of / count).max())
    np.testing.assert_allclose(np.square(slopes).mean(0), fisher_of, rtol=0.1)


def two_outputs():
    inputs = keras.Input((4,))
    x = layers.Dense(5, activation="relu")(inputs)
    a, b = layers.Dense(3, name="a")(x), layers.Dense(2, name="b")(x)
    return keras.Model(inputs, [a, b])


def test_outputs_may_have_losses_of_their_own():
    model, x = two_outputs(), examples((4,))
    for loss in ({"a": LOGITS, "b": "mse"}, [LOGITS, "mse"], [LOGITS, None], "mse"):
        model.compile("sgd", loss)
        found = {f.layer.name: f.gradients.matrix() for f in fisher.factors(model, x)}
        assert (found["a"] != 0).any()
        assert (found["b"] != 0).any() == (loss != [LOGITS, None])


@pytest.mark.parametrize(
    "options, says",
    [
        ({"loss": "mae"}, "'mean_absolute_error' is not known"),
        ({"loss": None}, "not compiled with a loss"),
        ({"loss": [LOGITS]}, "does not fit the 2 outputs"),
        ({"loss": "mse", "batch_size": 0}, "batch_size must be a whole number from 1; received 0"),
        ({"loss": "mse", "x": np.zeros((0, 4))}, "x must be an array of examples"),
    ],
)
def test_what_cannot_be_followed_is_said(options, says):
    options = {"x": examples((4,))} | options
    with pytest.raises(ValueError, match=says):
        fisher.factors(two_outputs(), options.pop("x"), **options)


def test_layers_that_are_left_out():
    inputs = keras.Input((8, 8, 4))
    x = layers.Conv2D(4, 3, groups=2)(inputs)
    x = layers.DepthwiseConv2D(3)(x)
    x = layers.SeparableConv2D(4, 1)(x)
    x = keras.Sequential([layers.Conv2D(4, 1, name="in"), layers.ReLU()])(x)
    x = layers.Conv2DTranspose(4, 1)(x)
    both = layers.Dense(3, name="both")  # a wrapper calls it too
    x = both(layers.TimeDistributed(both)(layers.Conv2D(3, 1, name="next")(x)))
    model = keras.Model(inputs, layers.Dense(2, name="out")(x))
    assert [layer.name for layer in fisher.layers(model)] == ["in", "next", "out"]


@settings(max_examples=5 if TRIES_FEW else 30)
@given(size=st.integers(1, 12), block=st.integers(1, 12), seed=st.integers(0, 99))
def test_a_basis_in_blocks_is_orthonormal_and_rotates(size, block, seed):
    rows = np.random.default_rng(seed).normal(size=(7, size))
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(basis_module, "BLOCK", block)
        moment = Moment(size)
    moment.add(rows, 1 / 7)
    basis = moment.basis()
    everything = basis.columns(np.arange(size))
    np.testing.assert_allclose(everything.T @ everything, np.eye(size), atol=1e-9)
    np.testing.assert_allclose(basis.rotate(rows), rows @ everything, atol=1e-9)
    diagonal = everything.T @ moment.matrix() @ everything
    np.testing.assert_allclose(diagonal, np.diag(basis.values), atol=1e-9)
    kept = np.flatnonzero(np.random.default_rng(seed).random(size) < 0.5)
    np.testing.assert_array_equal(basis.columns(kept), everything[:, kept])
