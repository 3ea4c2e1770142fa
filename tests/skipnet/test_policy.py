"""REINFORCE against a policy small enough that its expected reward can be added up."""

import itertools

import keras
import numpy as np
import pytest
from keras import ops

from ptkeras import skipnet
from ptkeras.fisher.gradients import gradients

COUNT = 3
ACTIONS = np.array(list(itertools.product([0, 1], repeat=COUNT)), "float32")
LOSSES = np.random.default_rng(0).uniform(0, 2, len(ACTIONS))


def logits_of(theta, weight):
    """A policy whose later actions depend on earlier ones; a row for each sequence of actions."""
    before = np.cumsum(ACTIONS, axis=1) - ACTIONS
    return theta + weight * before


def expected_reward(theta, weight, alpha):
    probability = 1 / (1 + np.exp(-logits_of(theta, weight)))
    likelihood = np.where(ACTIONS == 1, probability, 1 - probability).prod(axis=1)
    return np.sum(likelihood * (alpha * (1 - ACTIONS).mean(axis=1) - LOSSES))


def test_reinforce_is_the_gradient_of_the_expected_reward():
    theta, weight, alpha = np.array([0.3, -0.8, 0.5]), 0.7, 0.9
    variables = [keras.Variable(theta, dtype="float32"), keras.Variable(weight, dtype="float32")]

    def surrogate():
        logits = logits_of(*(ops.convert_to_tensor(v) for v in variables))
        probability = ops.sigmoid(logits)
        likelihood = ops.prod(ops.where(ACTIONS == 1, probability, 1 - probability), axis=1)
        losses = [
            skipnet.policy_loss(
                logits[i : i + 1], ACTIONS[i : i + 1], LOSSES[i : i + 1], alpha, 1.0
            )
            for i in range(len(ACTIONS))
        ]
        return ops.sum(ops.stop_gradient(likelihood) * ops.stack(losses))

    by_theta, by_weight = gradients(surrogate, variables)
    step = 1e-5
    for place in range(COUNT):
        more = theta + step * np.eye(COUNT)[place]
        less = theta - step * np.eye(COUNT)[place]
        slope = expected_reward(more, weight, alpha) - expected_reward(less, weight, alpha)
        assert -by_theta[place] == pytest.approx(slope / (2 * step), abs=1e-4)
    slope = expected_reward(theta, weight + step, alpha) - expected_reward(
        theta, weight - step, alpha
    )
    assert -by_weight == pytest.approx(slope / (2 * step), abs=1e-4)


def test_later_rewards_are_discounted():
    alpha, gamma, loss = 0.6, 0.5, 2.0
    logits, actions = np.array([[0.2, -0.4]], "float32"), np.array([[0, 1]], "float32")
    second = 0.0 + gamma * -loss
    first = alpha / 2 + gamma * second
    likelihoods = [np.log(1 - 1 / (1 + np.exp(-0.2))), np.log(1 / (1 + np.exp(0.4)))]
    wanted = -(first * likelihoods[0] + second * likelihoods[1])
    got = skipnet.policy_loss(logits, actions, np.array([loss], "float32"), alpha, gamma)
    assert float(got) == pytest.approx(wanted, rel=1e-5)


def test_what_a_network_draws_gives_the_gradient_in_mean():
    image = keras.Input((4,))
    x = keras.layers.Dense(3, name="stem")(image)
    y = keras.layers.Dense(3, name="branch")(x)
    model = keras.Model(image, keras.layers.Add()([x, y]))
    network = skipnet.add_gates(model, "rnn")
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    network.compile("sgd", loss)
    alpha, weight = 0.8, 0.5
    network.reinforce(alpha, 1.0, weight)
    x = np.ones((20000, 4), "float32")
    y = np.ones(20000, int)
    bias = network.get_layer("gates_logit").bias
    (slope,) = gradients(lambda: network.compute_loss(x, y, network(x, training=True)), [bias])
    stem = keras.Model(image, model.get_layer("stem").output)
    run, skipped = (float(loss(y[:1], part(x[:1]))) for part in (model, stem))
    probability = 1 / (1 + np.exp(-2))
    wanted = probability * (1 - probability) * (-run - (alpha - skipped))
    assert slope[0] == pytest.approx(-weight * wanted, abs=0.01)
