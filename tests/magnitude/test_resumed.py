"""A fit that broke off and goes on in the same process, on the same model, as in a notebook."""

import keras
import numpy as np
import pytest
from keras import layers

from ptkeras import MagnitudePruning, Survival, magnitude
from tests.helpers.stopping import FailIn, StoppedError, array
from tests.helpers.zeros import Zeros

RANDOM = np.random.default_rng(0)
X, Y = RANDOM.normal(size=(48, 12)).astype("float32"), RANDOM.integers(0, 3, 48)
STEPS = 6  # of an epoch

OPTIMIZERS = {
    "momentum": lambda: keras.optimizers.SGD(0.05, momentum=0.9),
    "loss scale": lambda: keras.optimizers.LossScaleOptimizer(
        keras.optimizers.SGD(0.05, momentum=0.9), initial_scale=2.0
    ),
    "average": lambda: keras.optimizers.SGD(0.05, use_ema=True, ema_momentum=0.9),
}


def compiled(optimizer):
    model = keras.Sequential(
        [
            keras.Input((12,)),
            layers.Dense(16, activation="relu", kernel_initializer=keras.initializers.HeNormal(1)),
            layers.Dense(3, kernel_initializer=keras.initializers.HeNormal(2)),
        ]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(OPTIMIZERS[optimizer](), loss)
    return model


def fit(model, pruning, path, others=()):
    model.fit(
        X,
        Y,
        batch_size=len(X) // STEPS,
        epochs=3,
        shuffle=False,
        verbose=0,
        callbacks=[pruning, *others, Survival(path, [pruning])],
    )


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_run_that_broke_off_goes_on_as_if_it_had_not(tmp_path, optimizer, recwarn):
    """Its last pruning, in the second step of the third epoch, counts no longer."""
    schedule = {2: 0.5, 9: 0.6, 14: 0.9, 16: 0.95}.get
    whole, behind_whole = compiled(optimizer), Zeros()
    fit(whole, MagnitudePruning(schedule), tmp_path / "whole.keras", [behind_whole])

    model, pruning, behind = compiled(optimizer), MagnitudePruning(schedule), Zeros()
    with pytest.raises(StoppedError):
        fit(model, pruning, tmp_path / "parts.keras", [FailIn(2)])
    fit(model, pruning, tmp_path / "parts.keras", [behind])
    assert behind.seen == behind_whole.seen[2 * STEPS :]
    for ours, theirs in zip(model.weights, whole.weights, strict=True):
        np.testing.assert_array_equal(array(ours), array(theirs))
    assert not any("pruned have been set" in str(w.message) for w in recwarn)
    assert not {"mask", "lifted"} & {v.name for v in model.optimizer.variables}


def test_what_is_pruned_after_a_fit_that_broke_off_is_held(tmp_path):
    """It has broken off in a step before masks change, which nothing holds."""
    model, pruning = compiled("momentum"), MagnitudePruning(lambda step: (True, 0.5))
    with pytest.raises(StoppedError):
        fit(model, pruning, tmp_path / "parts.keras", [FailIn(0)])
    if hasattr(model, "jax_state_sync"):
        model.jax_state_sync()
    magnitude.prune(model, 0.75)
    model.fit(X, Y, verbose=0)
    assert magnitude.report(model).sparsity == pytest.approx(0.75, abs=0.02)
