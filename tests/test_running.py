"""What can happen to a `fit` with Survival while it runs, and what the next call makes of it."""

import contextlib

import keras
import pytest

from ptkeras.survival import Survival
from tests.forced import Forced
from tests.test_survival import (
    BatchSize,
    StoppedError,
    assert_same,
    compiled,
    digits,
    new_process,
)


class StopsEarly(keras.callbacks.EarlyStopping):
    """Stops behind an epoch, counted from 0 but not 0, whatever the figures are."""

    def __init__(self, epoch):
        super().__init__("figure", patience=1, mode="min")
        self.epoch = epoch

    def on_epoch_end(self, epoch, logs=None):
        super().on_epoch_end(epoch, {"figure": -epoch if epoch < self.epoch else 1})


class EndsBeforeTheEnd(keras.callbacks.Callback):
    """Ends the process behind the last epoch, ahead of what follows it."""

    def on_train_end(self, logs=None):
        raise StoppedError


def run(path, *stateful, first=(), last=(), seed=0, epochs=4):
    """A fit, in a new process so to speak.

    Args:
        stateful: callbacks that survive.
        first: callbacks ahead of them.
        last: callbacks behind Survival.

    Returns:
        The model, and what `fit` returned, if it did.
    """
    new_process(seed)
    x, y = digits()
    model, history = compiled("momentum"), None
    callbacks = [*first, *stateful, Survival(path, stateful), *last]
    with contextlib.suppress(StoppedError):
        history = model.fit(
            x, y, epochs=epochs, batch_size=64, shuffle=False, verbose=0, callbacks=callbacks
        )
    return model, history


@pytest.mark.parametrize("grows", [False, True])
def test_the_last_reconfiguration_outlasts_a_kill_behind_an_early_stop(tmp_path, grows):
    def fit(path, **how):
        pruning = Forced(interval=2, batch_size=BatchSize(64) if grows else None)
        model, _ = run(path, pruning, StopsEarly(2), **how)
        return model, [one["epoch"] for one in pruning.reconfigurations], pruning.batch_scale

    whole, epochs, scale = fit(tmp_path / "whole.keras")
    assert epochs == [2, 3]
    assert (scale > 1) == grows
    assert fit(tmp_path / "parts.keras", first=[EndsBeforeTheEnd()])[1] == [2]
    parts, *same = fit(tmp_path / "parts.keras", seed=1)
    assert same == [epochs, scale]
    assert_same(parts, whole)
