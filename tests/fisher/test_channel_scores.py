"""Kron-OBD and Kron-OBS beside the formulas of the paper, from factors gathered by hand."""

import keras
import numpy as np
import pytest
from keras import layers, losses

import ptkeras
from ptkeras import importance
from ptkeras.channels import trace
from ptkeras.fisher.channel_scores import DAMPING
from ptkeras.fisher.gradients import gradients
from ptkeras.fisher.likelihood import likelihoods
from ptkeras.fisher.patches import patches
from tests.exactness import randomise

LOGITS = losses.SparseCategoricalCrossentropy(from_logits=True)


def network():
    inputs = keras.Input((6, 6, 2))
    x = layers.Conv2D(4, 3, padding="same", name="a", activation="tanh")(inputs)
    x = layers.Conv2D(3, 2, strides=2, name="c")(x)
    model = keras.Model(inputs, layers.Dense(5, name="d")(layers.Flatten()(x)))
    randomise(model)
    model.compile("sgd", LOGITS)
    return model


def examples(count=6):
    return np.random.default_rng(0).normal(size=(count, 6, 6, 2)).astype("float32")


def by_hand(model, name, x, seed):
    """A with the row of the bias, S, and the filters with their biases, of one convolution."""
    layer = model.get_layer(name)
    reads = keras.Model(model.inputs, layer.input)(x)
    parts = list(patches(layer, keras.ops.convert_to_numpy(reads)))
    rows = np.concatenate([*parts, np.ones_like(parts[0][..., :1])], -1)
    rows = rows.reshape(-1, rows.shape[-1]).astype("float64")
    kernel = keras.ops.convert_to_numpy(layer.kernel).reshape(-1, layer.filters)
    theta = np.concatenate([kernel, keras.ops.convert_to_numpy(layer.bias)[None]])
    rest = keras.Model(layer.output, model.output)
    made = keras.Model(model.inputs, layer.output)(x)
    (likelihood,) = likelihoods(model)
    noise = likelihood.noise(np.random.default_rng(seed), (len(x), 5))
    made = keras.Variable(made)
    (slopes,) = gradients(lambda: likelihood.surprise(rest(made.value), noise), [made])
    slopes = slopes.reshape(-1, layer.filters)
    return rows.T @ rows / len(rows), slopes.T @ slopes / len(x), theta


@pytest.mark.parametrize("criterion", ["kron_obd", "kron_obs"])
def test_scores_are_those_of_the_paper(criterion):
    model, x = network(), examples()
    a, s, theta = by_hand(model, "c", x, seed=4)
    own = np.einsum("ic,ij,jc->c", theta, a, theta)
    if criterion == "kron_obd":
        wanted = 0.5 * np.diag(s) * own
    else:
        damped = s + DAMPING * np.trace(s) / len(s) * np.eye(len(s))
        wanted = 0.5 * own / np.diag(np.linalg.inv(damped))
    channel_map = trace(model)
    scores = getattr(importance, criterion)(x, seed=4)(channel_map)
    np.testing.assert_allclose(scores[channel_map.produced()["c"]], wanted, rtol=1e-3)


def test_others_that_make_up_for_a_filter_make_it_no_more_important():
    channel_map, x = trace(network()), examples()
    obd, obs = (getattr(importance, n)(x)(channel_map) for n in ("kron_obd", "kron_obs"))
    made = np.isfinite(obd)
    assert (obs[made] <= obd[made] * (1 + DAMPING * 10)).all()
    assert (obs[made] < obd[made] * 0.999).any()


def test_a_channel_that_several_layers_make_has_the_sum_of_their_scores():
    inputs = keras.Input((6, 6, 2))
    a, b = (layers.Conv2D(4, 3, name=name) for name in "ab")
    y = layers.Add()([a(inputs), b(inputs)])
    model = keras.Model(inputs, layers.Dense(3)(layers.GlobalAveragePooling2D()(y)))
    randomise(model)
    model.compile("sgd", LOGITS)
    channel_map, x = trace(model), examples()
    produced = channel_map.produced()
    np.testing.assert_array_equal(produced["a"], produced["b"])
    # With what both make handed on alone, the gradients behind them are the same ones, whatever
    # either of them makes: of a linear network and a normal distribution.
    model.compile("sgd", "mse")
    both = importance.kron_obd(x)(channel_map)[produced["a"]]
    parts = []
    for silent in (a, b):
        weights = silent.get_weights()
        silent.set_weights([np.zeros_like(w) for w in weights])
        parts.append(importance.kron_obd(x)(channel_map)[produced["a"]])
        silent.set_weights(weights)
    assert (parts[0] > 0).all() and (parts[1] > 0).all()
    np.testing.assert_allclose(both, sum(parts), rtol=1e-4)


@pytest.mark.parametrize("criterion", ["kron_obd", "kron_obs"])
def test_prune_takes_them(criterion):
    model, x = network(), examples()
    made = getattr(importance, criterion)(x)
    before = model.count_params()
    ptkeras.prune(model, 0.4, criterion=made)
    assert model.count_params() < before
    assert model.predict(x, verbose=0).shape == (6, 5)


def test_channels_that_no_convolution_or_dense_layer_makes_stay():
    inputs = keras.Input((4,), dtype="int32")
    x = layers.GlobalAveragePooling1D()(layers.Embedding(5, 3, name="e")(inputs))
    model = keras.Model(inputs, layers.Dense(2, name="d")(x))
    channel_map = trace(model)
    scores = importance.kron_obd(np.zeros((2, 4), "int32"), "mse")(channel_map)
    assert np.isinf(scores[channel_map.produced()["e"]]).all()
    assert np.isfinite(scores[channel_map.produced()["d"]]).all()


def test_a_model_without_a_loss_is_told_of():
    inputs = keras.Input((4,))
    model = keras.Model(inputs, layers.Dense(2)(layers.Dense(3)(inputs)))
    with pytest.raises(ValueError, match="not compiled with a loss"):
        ptkeras.prune(model, 0.5, criterion=importance.kron_obs(np.zeros((2, 4))))
