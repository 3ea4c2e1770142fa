"""What can happen to a `fit` with Survival while it runs, and what the next call makes of it."""

import contextlib
import json
import math
import os
import signal
import zipfile

import keras
import numpy as np
import pytest

from ptkeras.survival.callback import InterruptedTrainingError, NonFiniteLossError, Survival
from ptkeras.survival.finite import broken_loss, broken_variable
from ptkeras.survival.resume import keep_rows
from tests.helpers.digits_network import digits
from tests.helpers.forced import Forced
from tests.helpers.stopping import (
    BatchSize,
    Signal,
    StopAfter,
    StopAt,
    StoppedError,
    assert_same,
    compiled,
    new_process,
)
from tests.helpers.two_devices import mirrored_strategy

pytestmark = [pytest.mark.compiles_much, pytest.mark.thorough]


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
    x, y = digits(192)
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


class SignalsAtTheEnd(keras.callbacks.Callback):
    """A signal that comes while other callbacks are at their last work."""

    def on_train_end(self, logs=None):
        os.kill(os.getpid(), signal.SIGTERM)


def test_a_signal_behind_the_last_step_ends_the_program_too(tmp_path):
    whole, _ = run(tmp_path / "whole.keras", Forced())
    with pytest.raises(InterruptedTrainingError, match=r"SIGTERM; .* from epoch 4") as stop:
        run(tmp_path / "parts.keras", Forced(), first=[SignalsAtTheEnd()])
    assert stop.value.signal == signal.SIGTERM
    parts, _ = run(tmp_path / "parts.keras", Forced(), seed=1)
    assert_same(parts, whole)


@pytest.mark.parametrize("ends", ["fails", "is stopped"])
def test_behind_a_resumed_fit_that_did_not_end_a_plain_one_begins_at_its_beginning(tmp_path, ends):
    run(tmp_path / "a.keras", last=[StopAt(2)])
    x, y = digits(192)
    model = compiled("momentum")
    last = StopAt(3) if ends == "fails" else Signal(signal.SIGTERM, 2, 1)
    with pytest.raises((StoppedError, InterruptedTrainingError)):
        model.fit(x, y, epochs=4, verbose=0, callbacks=[Survival(tmp_path / "a.keras"), last])
    history = model.fit(x, y, epochs=2, verbose=0)
    assert history.epoch == [0, 1]


@pytest.mark.tensorflow
def test_all_replicas_go_on_where_those_of_a_whole_run_go_on(tmp_path):
    strategy = mirrored_strategy()

    def fit(path, *more):
        new_process(0)
        x, y = digits(192)
        with strategy.scope():
            model = compiled("momentum")
        with contextlib.suppress(StoppedError):
            model.fit(
                x,
                y,
                batch_size=64,
                epochs=2,
                shuffle=False,
                verbose=0,
                callbacks=[Survival(path), *more],
            )
        return model

    whole = fit(tmp_path / "whole.keras")
    fit(tmp_path / "parts.keras", StopAt(1))
    parts = fit(tmp_path / "parts.keras")
    pairs = zip(whole.variables, parts.variables, strict=True)
    slots = zip(whole.optimizer.variables, parts.optimizer.variables, strict=True)
    for a, b in [*pairs, *slots]:
        assert len(b.value.values) == 2
        for one, other in zip(a.value.values, b.value.values, strict=True):
            np.testing.assert_array_equal(one, other, err_msg=a.path)


class Breaks(keras.callbacks.Callback):
    """Breaks a number behind the last step of an epoch, as its own update might have done."""

    def __init__(self, epoch, find, value, hook="on_epoch_end"):
        super().__init__()
        self.epoch, self.find, self.value = epoch, find, value
        setattr(self, hook, self.act)

    def on_epoch_begin(self, epoch, logs=None):
        self.now = epoch

    def act(self, number, logs=None):
        if self.now == self.epoch:
            variable = self.find(self.model)
            variable.assign(np.full(variable.shape, self.value, "float32"))


def saved_epoch(path):
    with zipfile.ZipFile(path) as archive:
        return json.loads(archive.read("state.json"))["epoch"]


@pytest.mark.parametrize(
    ("find", "value", "named"),
    [
        (lambda model: model.get_layer("head").kernel, math.inf, "head/kernel"),
        (lambda model: model.get_layer("stem_bn").moving_mean, math.nan, "stem_bn/moving_mean"),
        (lambda model: model.optimizer.momentums[0], math.inf, "momentum"),
    ],
    ids=["weight", "statistics", "slot"],
)
def test_weights_that_the_last_step_broke_are_not_saved(tmp_path, find, value, named):
    path = tmp_path / "a.keras"
    with pytest.raises(NonFiniteLossError, match=rf"{named}' became .* epoch 3.* epoch 2 stays"):
        run(path, first=[Breaks(2, find, value)])
    assert saved_epoch(path) == 2
    assert run(path)[1].epoch[-1] == 3  # and the same call goes on


def test_a_checkpoint_that_nothing_good_follows_names_the_one_before_it(tmp_path):
    path = tmp_path / "a.keras"
    run(path, last=[StopAt(3)])

    def fails():
        return run(
            path,
            first=[Breaks(3, lambda m: m.get_layer("head").bias, math.nan, "on_train_batch_begin")],
        )

    remedy = r"delete '.*a\.keras' and go on from 'a\.previous\.keras'"
    with pytest.raises(NonFiniteLossError, match=rf"loss became nan in epoch 4.*; .* {remedy}"):
        fails()
    path.unlink()
    with pytest.raises(NonFiniteLossError) as told:  # an epoch has been saved since
        fails()
    assert "delete" not in str(told.value)


def test_a_loss_of_any_name_counts_and_a_metric_does_not():
    assert broken_loss({"loss": 1.0, "correlation": math.nan}) is None
    assert broken_loss({"generator_loss": math.inf, "x": 1.0}) == ("generator_loss", math.inf)
    assert broken_loss({"energy": math.nan}) is not None
    assert broken_loss(None) is None


class Mask(keras.layers.Layer):
    def build(self, shape):
        self.mask = self.add_weight(shape=(2,), trainable=False)


def test_a_mask_of_infinities_is_no_broken_weight():
    model = keras.Sequential([keras.Input((2,)), Mask()])
    mask = model.layers[0].mask
    mask.assign([0.0, -math.inf])
    assert broken_variable(model) is None
    mask.assign([0.0, math.nan])
    assert broken_variable(model) == mask.path


class TimeIsUp(keras.callbacks.Callback):
    """Stops behind an epoch, for this time."""

    def __init__(self, epoch):
        super().__init__()
        self.epoch = epoch

    def on_epoch_end(self, epoch, logs=None):
        self.model.stop_training = epoch == self.epoch


def test_a_training_whose_time_was_up_goes_on(tmp_path, capsys):
    whole, _ = run(tmp_path / "whole.keras", Forced(), epochs=3)
    _, history = run(tmp_path / "parts.keras", Forced(), first=[TimeIsUp(1)], epochs=3)
    assert history.epoch == [0, 1]
    assert "stopped" not in capsys.readouterr().out
    parts, _ = run(tmp_path / "parts.keras", Forced(), seed=1, first=[TimeIsUp(3)], epochs=3)
    assert_same(parts, whole)
    told = [line for line in capsys.readouterr().out.splitlines() if "stopped" in line]
    assert told == ["The training was stopped after epoch 2, and not by EarlyStopping: it goes on."]


@pytest.mark.parametrize("survives", [True, False])
def test_a_training_that_early_stopping_ended_is_over(tmp_path, capsys, survives):
    """Whether or not its own state is kept too."""
    path, early = tmp_path / "a.keras", [StopsEarly(1)]
    how = {"first": [] if survives else early}
    run(path, *early * survives, **how)
    content = path.read_bytes()
    run(path, *early * survives, **how, seed=1)
    assert path.read_bytes() == content
    assert f"after epoch 2, for good, by StopsEarly: to train on, delete '{path}'." in (
        capsys.readouterr().out
    )


class Adds(keras.callbacks.Callback):
    """Adds figures of other types than Keras's own to the logs."""

    def on_epoch_end(self, epoch, logs=None):
        logs["number"] = np.float32(epoch / 3)
        logs["list"] = np.array([epoch, 1])


@pytest.mark.parametrize("stop", [StopAt(2), StopAfter(1)], ids=["next", "same"])
def test_history_and_csv_have_all_epochs_once(tmp_path, stop):
    def fit(name, **how):
        log = tmp_path / f"{name}.csv"
        first = [Adds(), keras.callbacks.CSVLogger(log, separator=";")]
        _, history = run(tmp_path / f"{name}.keras", Forced(), first=first, **how)
        return log, history

    log, history = fit("whole")
    fit("parts", last=[stop])
    with (tmp_path / "parts.csv").open("a") as file:
        file.write("2;0.5")  # a row of the epoch that a kill cut short
    parts_log, parts = fit("parts", seed=1)
    assert parts_log.read_bytes() == log.read_bytes()
    for one in (parts, fit("parts", seed=2)[1]):  # one that has no epoch left, too
        assert one.epoch == [0, 1, 2, 3]
        assert one.history.keys() == history.history.keys() >= {"loss", "number", "list"}
        for name, values in history.history.items():
            np.testing.assert_array_equal(one.history[name], values)
    assert parts_log.read_bytes() == log.read_bytes()


def test_rows_of_another_training_stay(tmp_path):
    log = tmp_path / "log.csv"
    log.write_text("epoch,loss\n0,1.0\n1,0.5\n0,2.0\n1,1.5\n")
    logger = keras.callbacks.CSVLogger(log)
    content = log.read_text()
    keep_rows([logger], 0)  # there is nothing to go on from
    assert not logger.append
    keep_rows([logger], 5)
    assert logger.append and log.read_text() == content
    keep_rows([logger], 1)
    assert log.read_text().splitlines() == content.splitlines()[:-1]
