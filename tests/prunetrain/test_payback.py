"""Channels at zero are removed when that saves time: until then they stay at zero."""

import keras
import numpy as np
import pytest
from keras import layers

import ptkeras
from ptkeras import Survival, cost
from ptkeras.channels import trace
from ptkeras.prunetrain import callback as prunetrain
from ptkeras.prunetrain import payback
from ptkeras.prunetrain.payback import StepClock, kernel_seconds
from tests.helpers.digits_network import compiled, digits
from tests.helpers.stopping import StopAfter, StoppedError, assert_same, new_process


def network():
    inputs = x = keras.Input((8, 8, 1))
    for width in (24, 32):
        x = layers.Conv2D(width, 3, padding="same", use_bias=False)(x)
        x = layers.ReLU()(layers.BatchNormalization()(x))
    return keras.Model(inputs, layers.Dense(10)(layers.GlobalAveragePooling2D()(x)))


class Zeros(keras.callbacks.Callback):
    """Counts the γ that are zero after each epoch, and keeps the outputs."""

    def __init__(self, inputs):
        super().__init__()
        self.inputs, self.counts, self.outputs = inputs, [], []

    def on_epoch_end(self, epoch, logs=None):
        norms = [x for x in self.model.layers if isinstance(x, layers.BatchNormalization)]
        gammas = [keras.ops.convert_to_numpy(x.gamma) for x in norms]
        self.counts.append(sum(int((gamma == 0).sum()) for gamma in gammas))
        self.outputs.append(keras.ops.convert_to_numpy(self.model(self.inputs, training=False)))


@pytest.fixture
def saves(monkeypatch):
    """Sets the seconds that every removal saves."""

    def set_to(seconds):
        monkeypatch.setattr(prunetrain, "seconds_saved", lambda *_: seconds)
        monkeypatch.setattr(StepClock, "cost", 1.0)

    return set_to


@pytest.mark.compiles_much
@pytest.mark.parametrize("target", [0.5, 0.2])
def test_channels_stay_at_zero_until_the_end_where_nothing_pays(saves, target, capsys):
    saves(0.5)
    x, y = digits(256)
    model = compiled(network())
    dense, before, after = cost.inference_flops(model), Zeros(x[:32]), Zeros(x[:32])
    pruning = ptkeras.PruneTrain(target=target, interval="auto")
    model.fit(x, y, 32, epochs=20, verbose=0, callbacks=[before, pruning, after])
    assert [one["epoch"] for one in pruning.reconfigurations] == [20]
    assert "stay there for now" in capsys.readouterr().out
    first = next(epoch for epoch, count in enumerate(before.counts) if count)
    assert first < 8
    assert (np.diff(before.counts[first:]) >= 0).all()
    assert before.counts[-1] > 5
    assert cost.inference_flops(model) / dense == pytest.approx(target, rel=0.03)
    np.testing.assert_allclose(before.outputs[-1], after.outputs[-1], atol=1e-4)


@pytest.mark.compiles_much
def test_channels_go_as_soon_as_that_pays(saves):
    saves(3.0)
    x, y = digits(256)
    model = compiled(network())
    pruning = ptkeras.PruneTrain(target=0.5, interval="auto", verbose=0)
    model.fit(x, y, 32, epochs=10, verbose=0, callbacks=[pruning])
    assert [one["epoch"] for one in pruning.reconfigurations][-1] < 10


@pytest.mark.compiles_much
def test_the_lasso_waits_too(saves):
    x, y = digits(256)
    found = {}
    for seconds in (0.5, 3.0):
        saves(seconds)
        pruning = ptkeras.PruneTrain(ratio=0.9, threshold=0.1, interval="auto", verbose=0)
        compiled(network()).fit(x, y, 32, epochs=8, verbose=0, callbacks=[pruning])
        found[seconds] = [one["epoch"] for one in pruning.reconfigurations]
    assert found[0.5] == [8]
    assert found[3.0][0] < 8


@pytest.mark.compiles_much
def test_a_training_that_ends_early_ends_small(saves):
    saves(0.5)
    x, y = digits(256)
    model = compiled(network())
    dense = cost.inference_flops(model)
    stop = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: setattr(model, "stop_training", epoch == 7)
    )
    pruning = ptkeras.PruneTrain(target=0.5, interval="auto", verbose=0)
    model.fit(x, y, 32, epochs=20, verbose=0, callbacks=[stop, pruning])
    assert [one["epoch"] for one in pruning.reconfigurations] == [8]
    assert cost.inference_flops(model) / dense == pytest.approx(0.5, rel=0.02)


@pytest.mark.compiles_much
@pytest.mark.parametrize("epoch", [2, 4, 9])
def test_a_training_goes_on_with_what_it_holds_at_zero(saves, tmp_path, epoch):
    saves(0.5)
    x, y = digits(128)

    def train(path, *more):
        new_process(0)
        model = compiled(network())
        pruning = ptkeras.PruneTrain(target=0.4, interval="auto", verbose=0)
        callbacks = [pruning, Survival(path, [pruning]), *more]
        model.fit(x, y, 32, epochs=12, verbose=0, shuffle=False, callbacks=callbacks)
        return model

    whole = train(tmp_path / "whole.keras")
    with pytest.raises(StoppedError):
        train(tmp_path / "parts.keras", StopAfter(epoch))
    assert_same(whole, train(tmp_path / "parts.keras"))


def test_steps_are_measured_without_the_first_one_of_a_new_function(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(payback.time, "perf_counter", lambda: now[0])
    clock = StepClock()

    def epoch(size, *seconds):
        clock.begin_epoch()
        for step in seconds:
            now[0] += step
            clock.end_step()
        clock.end_epoch(size, 30)

    epoch(100, 7.0, 0.5, 0.5)
    assert (clock.step, clock.cost, clock.slope()) == (0.5, 6.5, None)
    epoch(100, 1.5, 0.5, 0.5)  # a second of it is the data's
    assert (clock.step, clock.steps, clock.cost) == (0.5, 3, 5.5)
    clock.renew()
    epoch(60, 5.25, 0.25, 0.25)
    assert (clock.step, clock.cost) == (0.25, 4.0)
    assert clock.slope() == pytest.approx((0.05 - 0.025) / 40)  # of an example, of 30
    epoch(60, 1.0)  # one step alone says nothing
    assert clock.step == 0.25


def test_kernels_are_timed_at_both_widths(monkeypatch):
    timed = []
    monkeypatch.setattr(
        payback, "_seconds", lambda function, *shapes: timed.append(shapes) or float(len(timed))
    )
    inputs = keras.Input((8, 8, 2))
    x = layers.Conv2D(6, 3, padding="same")(inputs)
    x = layers.DepthwiseConv2D(3, padding="same")(x)
    x = layers.Conv2D(8, 1)(x)
    model = keras.Model(inputs, layers.Dense(3)(layers.GlobalAveragePooling2D()(x)))
    channel_map = trace(model)
    keep = np.ones(len(channel_map), bool)
    keep[channel_map.produced()["conv2d"][:2]] = False
    kernel_seconds(channel_map, keep, 16)
    assert timed == [
        ((16, 8, 8, 2), (3, 3, 2, 6)),
        ((16, 8, 8, 6), (3, 3, 6, 1)),
        ((16, 8, 8, 6), (1, 1, 6, 8)),
        ((16, 8), (8, 3)),
        ((16, 8, 8, 2), (3, 3, 2, 4)),
        ((16, 8, 8, 4), (3, 3, 4, 1)),
        ((16, 8, 8, 4), (1, 1, 4, 8)),
    ]


@pytest.mark.compiles_much
def test_kernels_take_time():
    model = network()
    channel_map = trace(model)
    keep = channel_map.frozen.copy()
    for channels in channel_map.produced().values():
        keep[channels[:3]] = True
    now, after = kernel_seconds(channel_map, keep, 128)
    assert 0 < after < now


@pytest.mark.parametrize("interval", ["often", 0, 1.5])
def test_other_intervals_are_refused(interval):
    with pytest.raises(ValueError, match='whole number of epochs from 1, or "auto"; received'):
        ptkeras.PruneTrain(interval=interval)


@pytest.mark.compiles_much
def test_best_weights_of_the_network_that_held_zeros_end_small(saves):
    saves(0.5)
    x, y = digits(256)
    model = compiled(network())
    dense = cost.inference_flops(model)
    pruning = ptkeras.PruneTrain(target=0.5, interval="auto", verbose=0)
    best = keras.callbacks.EarlyStopping(
        "best", mode="max", patience=20, restore_best_weights=True, start_from_epoch=4
    )
    scored = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: logs.update(best=-abs(epoch - 8))
    )
    model.fit(x, y, 32, epochs=12, verbose=0, callbacks=[pruning, scored, best])
    assert cost.inference_flops(model) / dense == pytest.approx(0.5, rel=0.02)
    assert "apply" not in vars(model.optimizer)
    model.fit(x, y, 32, verbose=0)


@pytest.mark.compiles_much
def test_averages_of_weights_do_not_keep_what_is_held(saves):
    saves(0.5)
    x, y = digits(256)
    model = network()
    optimizer = keras.optimizers.SGD(0.05, momentum=0.9, use_ema=True, ema_momentum=0.9)
    model.compile(optimizer, keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    dense = cost.inference_flops(model)
    stop = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: setattr(model, "stop_training", epoch == 7)
    )
    pruning = ptkeras.PruneTrain(target=0.5, interval="auto", verbose=0)
    model.fit(x, y, 32, epochs=20, verbose=0, callbacks=[pruning, stop])
    assert cost.inference_flops(model) / dense == pytest.approx(0.5, rel=0.02)


@pytest.mark.compiles_much
def test_other_weights_between_two_fits_are_chosen_from_anew(saves):
    saves(0.5)
    x, y = digits(256)
    model = compiled(network())
    dense = cost.inference_flops(model)
    pruning = ptkeras.PruneTrain(target=0.3, interval="auto", epochs=40, verbose=0)
    best = keras.callbacks.EarlyStopping("best", mode="max", patience=20, restore_best_weights=True)
    scored = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: logs.update(best=-epoch)
    )
    model.fit(x, y, 32, epochs=8, verbose=0, callbacks=[scored, best, pruning])
    zeros = Zeros(x[:8])
    model.fit(x, y, 32, epochs=32, verbose=0, callbacks=[pruning, zeros])
    assert zeros.counts[0] == 0
    assert cost.inference_flops(model) / dense == pytest.approx(0.3, rel=0.05)


def test_a_loop_of_ones_own_is_told_that_nobody_times_it():
    for more in ({"target": 0.5}, {"ratio": 0.5}):
        pruning = ptkeras.PruneTrain(interval="auto", **more)
        with pytest.raises(ValueError, match="is for fit, whose steps it can time"):
            pruning.bind(network(), keras.optimizers.SGD())
