import contextlib
import json
import math
import os
import pathlib
import pickle
import signal
import traceback
import zipfile

import keras
import numpy as np
import pytest
from keras import layers

import ptkeras
from ptkeras.prunetrain.lasso import AttachedLasso
from ptkeras.survival.callback import InterruptedTrainingError, NonFiniteLossError, Survival
from tests.helpers.digits_network import digits
from tests.helpers.forced import Forced
from tests.helpers.stopping import (
    BatchSize,
    FailIn,
    Signal,
    StopAfter,
    StopAt,
    StoppedError,
    array,
    assert_same,
    compiled,
    network,
    new_process,
)

pytestmark = pytest.mark.thorough


def fit(path, seed=0, stop_at=None, optimizer="adam", epochs=3, prune=None, l2=None, **options):
    """One process's part of a training; the seed makes what the file does not hold differ."""
    new_process(seed)
    x, y = digits(192)
    model = compiled(optimizer)
    if l2 is not None:
        for variable in model.trainable_variables:
            variable.regularizer = l2
    pruning = (prune or Forced)(**options)
    survival = Survival(path, [pruning])
    callbacks = [pruning, survival]
    if stop_at is not None:
        callbacks.append(StopAt(stop_at))
    with contextlib.suppress(StoppedError):
        model.fit(x, y, epochs=epochs, batch_size=64, shuffle=False, verbose=0, callbacks=callbacks)
    return model, pruning, survival


@pytest.mark.parametrize(
    ("optimizer", "stop_at"),
    [
        ("momentum", 1),
        pytest.param("adam", 3, marks=pytest.mark.compiles_much),
        pytest.param("ema", 2, marks=pytest.mark.compiles_much),
    ],
)
def test_a_stopped_fit_ends_where_one_that_was_not_stopped_ends(tmp_path, optimizer, stop_at):
    how = {"optimizer": optimizer, "epochs": 4}
    whole, pruning, _ = fit(tmp_path / "whole.keras", **how)
    fit(tmp_path / "parts.keras", stop_at=stop_at, **how)
    parts, resumed, survival = fit(tmp_path / "parts.keras", seed=1, **how)
    assert_same(parts, whole)
    assert whole.count_params() < network().count_params()
    assert survival.epoch == 4
    assert resumed.strength == pruning.strength
    assert resumed.training_flops == pruning.training_flops
    timeless = [
        [{k: v for k, v in one.items() if k != "seconds"} for one in callback.reconfigurations]
        for callback in (resumed, pruning)
    ]
    assert timeless[0] == timeless[1] and len(timeless[0]) == 4


@pytest.mark.compiles_much
def test_a_fit_that_failed_is_taken_up_in_the_same_process(tmp_path):
    whole, *_ = fit(tmp_path / "whole.keras")
    new_process(0)
    x, y = digits(192)
    model, pruning = compiled(), Forced()
    survival = Survival(tmp_path / "parts.keras", [pruning])
    how = {"epochs": 3, "batch_size": 64, "shuffle": False, "verbose": 0}
    with pytest.raises(StoppedError):
        model.fit(x, y, callbacks=[pruning, survival, FailIn(1)], **how)
    model.fit(x, y, callbacks=[pruning, survival], **how)
    assert_same(model, whole)


@pytest.mark.slow
def test_branches_that_died_stay_out(tmp_path):
    whole, *_ = fit(tmp_path / "whole.keras", share=0.8)
    assert "inner" not in {layer.name for layer in whole.layers}
    fit(tmp_path / "parts.keras", stop_at=2, share=0.8)
    parts, *_ = fit(tmp_path / "parts.keras", seed=1, share=0.8)
    assert_same(parts, whole)


@pytest.mark.slow
def test_a_grown_batch_stays_grown(tmp_path):
    whole, pruning, _ = fit(tmp_path / "whole.keras", batch_size=BatchSize(64))
    fit(tmp_path / "parts.keras", stop_at=2, batch_size=BatchSize(64))
    parts, resumed, _ = fit(tmp_path / "parts.keras", seed=1, batch_size=BatchSize(64))
    assert resumed.batch_scale == pruning.batch_scale > 1
    assert_same(parts, whole)


@pytest.mark.compiles_much
def test_regularizers_that_hang_on_variables_stay(tmp_path):
    l2 = keras.regularizers.L2(0.01)
    whole, *_ = fit(tmp_path / "whole.keras", l2=l2)
    fit(tmp_path / "parts.keras", stop_at=2, l2=l2)
    parts, *_ = fit(tmp_path / "parts.keras", seed=1, l2=l2)
    assert_same(parts, whole)
    assert all(v.regularizer is l2 for v in parts.trainable_variables)


def test_a_finished_fit_trains_no_more(tmp_path):
    whole, *_ = fit(tmp_path / "a.keras")
    saved = (tmp_path / "a.keras").read_bytes()
    again, pruning, _ = fit(tmp_path / "a.keras", seed=1)
    assert_same(again, whole)
    assert (tmp_path / "a.keras").read_bytes() == saved
    assert not any(isinstance(v.regularizer, AttachedLasso) for v in again.weights)
    assert len(pruning.reconfigurations) == 3


def test_a_further_fit_of_the_same_model_begins_at_its_own_first_epoch(tmp_path):
    model, *_ = fit(tmp_path / "a.keras", epochs=2)
    x, y = digits(192)
    history = model.fit(x, y, epochs=3, batch_size=64, verbose=0)
    assert history.epoch == [0, 1, 2]


def test_the_file_is_one_of_plain_keras(tmp_path):
    model, *_ = fit(tmp_path / "a.keras", stop_at=2)
    loaded = keras.models.load_model(tmp_path / "a.keras")
    x, _ = digits(192)
    np.testing.assert_array_equal(
        loaded.predict(x, verbose=0, batch_size=64), model.predict(x, verbose=0, batch_size=64)
    )
    with zipfile.ZipFile(tmp_path / "a.keras") as archive:
        assert b"ptkeras" not in archive.read("config.json")


def test_any_fit_survives_without_a_graph_that_changes(tmp_path):
    x, y = digits(192)

    def run(path, *others, seed=0):
        new_process(seed)
        model = compiled("momentum")
        callbacks = [*others, Survival(path)]
        model.fit(x, y, epochs=3, batch_size=64, shuffle=False, verbose=0, callbacks=callbacks)
        return model

    whole = run(tmp_path / "whole.keras")
    with pytest.raises(StoppedError):
        run(tmp_path / "parts.keras", StopAt(1))
    assert_same(run(tmp_path / "parts.keras", seed=1), whole)


def test_what_goes_wrong_while_saving_leaves_the_file(tmp_path, monkeypatch):
    fit(tmp_path / "a.keras", stop_at=1)
    saved = (tmp_path / "a.keras").read_bytes()

    def full(self, path, *args, **kwargs):
        pathlib.Path(path).write_bytes(b"half")
        raise OSError("No space left on device")

    monkeypatch.setattr(keras.Model, "save", full)
    with pytest.raises(OSError, match="No space left"):
        fit(tmp_path / "a.keras")
    assert (tmp_path / "a.keras").read_bytes() == saved
    assert [path.name for path in tmp_path.iterdir()] == ["a.keras"]


class Poison(keras.callbacks.Callback):
    """Breaks the weights at an epoch."""

    def __init__(self, epoch, hook):
        super().__init__()
        self.epoch = epoch
        setattr(self, hook, self.poison)

    def on_epoch_begin(self, epoch, logs=None):
        self.now = epoch

    def poison(self, batch=None, logs=None):
        if self.now == self.epoch:
            self.model.get_layer("head").bias.assign(np.full(10, math.nan, "float32"))


@pytest.mark.parametrize("hook", ["on_train_batch_begin", "on_test_begin"])
def test_a_loss_that_is_no_number_stops_before_the_file_is_replaced(tmp_path, hook):
    x, y = digits(192)
    model = compiled()
    survival = Survival(tmp_path / "a.keras")
    with pytest.raises(NonFiniteLossError, match=r"became nan in epoch 3.* after epoch 2 stays"):
        model.fit(
            x,
            y,
            validation_data=(x, y),
            epochs=5,
            batch_size=64,
            verbose=0,
            callbacks=[Poison(2, hook), survival],
        )
    with zipfile.ZipFile(tmp_path / "a.keras") as archive:
        assert json.loads(archive.read("state.json"))["epoch"] == 2
    loaded = keras.models.load_model(tmp_path / "a.keras")
    assert np.isfinite(array(loaded.get_layer("head").bias)).all()


def test_another_file_is_not_taken_for_a_checkpoint(tmp_path):
    (tmp_path / "text.keras").write_text("no archive")
    network().save(tmp_path / "plain.keras")
    for name in ("text", "plain"):
        with pytest.raises(ValueError, match="delete it"):
            Survival(tmp_path / f"{name}.keras").resume(compiled())


def test_the_path_has_to_end_in_keras(tmp_path):
    with pytest.raises(ValueError, match=r"must end in \.keras"):
        Survival(tmp_path / "a.h5")


def fit_pipeline(path, seed=0, others=(), **how):
    """A fit whose data can leave out the beginning of an epoch."""
    from ptkeras.data import EpochSeed, load

    new_process(seed)
    dataset = load("digits", batch_size=256, seed=3)
    model = compiled("momentum")
    model.compile(model.optimizer, model.loss, metrics=["accuracy"])
    pruning, history = Forced(), keras.callbacks.History()
    plateau = keras.callbacks.ReduceLROnPlateau("loss", patience=0, min_delta=9.0)
    survival = Survival(path, [pruning, plateau], dataset)
    model.fit(
        dataset.train,
        epochs=3,
        shuffle=False,
        verbose=0,
        validation_data=dataset.test,
        callbacks=[EpochSeed(dataset), pruning, history, plateau, *others, survival],
        **how,
    )
    return model, history.history


def fit_early(path, stop_at=None, seed=0, best=1, patience=2, prune=True):
    """A fit that early stopping ends, with the weights of its best epoch: `best`, from 0."""
    new_process(seed)
    x, y = digits(192)
    model, pruning = compiled("momentum"), Forced(share=0.2)

    class Figure(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            logs["figure"] = float(abs(epoch - best))

    early = keras.callbacks.EarlyStopping(
        "figure", patience=patience, mode="min", restore_best_weights=True
    )
    callbacks = [Figure(), early, Survival(path, [*[pruning][:prune], early])]
    if prune:
        callbacks.insert(0, pruning)
    if stop_at is not None:
        callbacks.append(stop_at)
    how = {"epochs": 6, "batch_size": 64, "shuffle": False, "verbose": 0}
    with contextlib.suppress(StoppedError):
        model.fit(x, y, callbacks=callbacks, **how)
    return model, early


@pytest.mark.compiles_much
@pytest.mark.parametrize("prune", [True, False])
@pytest.mark.parametrize("stop", [StopAt(2), StopAfter(1), StopAfter(3)], ids=["2", "1e", "3e"])
def test_the_best_weights_of_early_stopping_outlast_a_kill(tmp_path, stop, prune):
    whole, early = fit_early(tmp_path / "whole.keras", prune=prune)
    assert (early.stopped_epoch, early.best_epoch) == (3, 1)
    fit_early(tmp_path / "parts.keras", stop, prune=prune)
    parts, again = fit_early(tmp_path / "parts.keras", seed=1, prune=prune)
    assert (again.stopped_epoch, again.best_epoch, again.best) == (3, 1, 0.0)
    for a, b in zip(whole.get_weights(), parts.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    assert [v.path for v in whole.weights] == [v.path for v in parts.weights]


@pytest.mark.compiles_much
def test_best_weights_of_an_earlier_network_outlast_two_kills(tmp_path):
    whole, _ = fit_early(tmp_path / "whole.keras", best=0, patience=4)
    for epoch in (1, 3):
        fit_early(tmp_path / "parts.keras", StopAt(epoch), best=0, patience=4)
    parts, _ = fit_early(tmp_path / "parts.keras", seed=1, best=0, patience=4)
    assert (
        parts.count_params() == whole.count_params() > fit(tmp_path / "c.keras")[0].count_params()
    )
    for a, b in zip(whole.get_weights(), parts.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.tensorflow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_the_epoch_so_far(tmp_path, number):
    handlers = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    whole, logs = fit_pipeline(tmp_path / "whole.keras")
    with pytest.raises(InterruptedTrainingError, match="from step 3 of epoch 2") as stop:
        fit_pipeline(tmp_path / "parts.keras", others=[Signal(number, 1, 2)])
    assert stop.value.signal == number
    with pytest.raises(InterruptedTrainingError, match="from step 5 of epoch 2"):
        fit_pipeline(tmp_path / "parts.keras", seed=1, others=[Signal(number, 1, 1)])
    parts, rest = fit_pipeline(tmp_path / "parts.keras", seed=2)
    assert_same(parts, whole)
    assert logs == rest  # the metrics went on too
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == handlers


@pytest.mark.tensorflow
@pytest.mark.parametrize("step", [5, None], ids=["the last step", "the validation"])
def test_a_signal_near_the_end_of_an_epoch_lets_it_end(tmp_path, step):
    whole, logs = fit_pipeline(tmp_path / "whole.keras")
    with pytest.raises(InterruptedTrainingError, match=r"SIGTERM; .* from epoch 2"):
        fit_pipeline(tmp_path / "parts.keras", others=[Signal(signal.SIGTERM, 1, step)])
    parts, rest = fit_pipeline(tmp_path / "parts.keras", seed=1)
    assert_same(parts, whole)
    assert logs == rest


def test_without_a_pipeline_that_can_skip_the_epoch_begins_anew(tmp_path):
    x, y = digits(192)
    model = compiled()
    stop = Signal(signal.SIGTERM, 0, 1)
    with pytest.raises(InterruptedTrainingError, match="goes on from the beginning"):
        model.fit(x, y, batch_size=64, verbose=0, callbacks=[stop, Survival(tmp_path / "a.keras")])
    assert not list(tmp_path.iterdir())


def test_the_error_of_a_signal_goes_from_process_to_process():
    error = InterruptedTrainingError(signal.SIGTERM, "; the same call goes on from epoch 3.")
    twin = pickle.loads(pickle.dumps(error))
    assert (type(twin), str(twin), twin.signal) == (type(error), str(error), signal.SIGTERM)
    assert str(error) == "Stopped by SIGTERM; the same call goes on from epoch 3."
    assert "ptkeras.survival.InterruptedTrainingError" in traceback.format_exception_only(error)[0]


def test_behind_a_fit_that_failed_ctrl_c_is_what_it_was(tmp_path):
    x, y = digits(192)
    # A shell has processes in the background ignore it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with pytest.raises(StoppedError):
        compiled().fit(x, y, verbose=0, callbacks=[Survival(tmp_path / "a.keras"), StopAt(0)])
    with pytest.raises(KeyboardInterrupt) as stop:
        os.kill(os.getpid(), signal.SIGINT)
    assert not isinstance(stop.value, InterruptedTrainingError)


def test_a_model_that_keras_would_not_load_is_refused_before_the_training(tmp_path):
    inputs = keras.Input((8, 8, 1))
    x = layers.Lambda(lambda x: x * 2)(layers.Flatten()(inputs))
    model = compiled(model=keras.Model(inputs, layers.Dense(10)(x)))
    x, y = digits(192)
    with pytest.raises(ValueError, match=r"safe mode .* write a Lambda as a layer"):
        model.fit(x, y, verbose=0, callbacks=[Survival(tmp_path / "a.keras")])


@pytest.mark.compiles_much
def test_a_damaged_file_costs_an_epoch_and_nothing_else(tmp_path):
    whole, *_ = fit(tmp_path / "whole.keras")
    fit(tmp_path / "parts.keras", stop_at=2)
    content = bytearray((tmp_path / "parts.keras").read_bytes())
    content[len(content) // 2] ^= 4
    (tmp_path / "parts.keras").write_bytes(content)
    with pytest.warns(UserWarning, match="goes on from the checkpoint before it"):
        parts, *_ = fit(tmp_path / "parts.keras", seed=1)
    assert_same(parts, whole)


def in_rows():
    """Layers in a row, and some of them in a row of their own: the rows name what they build."""
    inner = keras.Sequential([layers.Dense(12, name="dense"), layers.ReLU()], name="inner")
    twin = keras.Sequential([layers.Dense(12, name="dense"), layers.ReLU()], name="twin")
    return keras.Sequential(
        [keras.Input((64,)), layers.Dense(16, name="first"), inner, twin, layers.Dense(10)]
    )


def test_layers_in_rows_go_on_too(tmp_path):
    def fit(epochs, *others):
        keras.utils.clear_session()
        keras.utils.set_random_seed(0)
        model = in_rows()
        for variable in model.trainable_variables:
            variable.regularizer = keras.regularizers.L2(0.01)
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(keras.optimizers.Adam(0.01), loss)
        images, labels = digits(192)
        x = images.reshape(len(images), -1).astype("float32") / 16
        model.fit(x, labels, epochs=epochs, shuffle=False, verbose=0, callbacks=list(others))
        return model

    whole = fit(3)
    path = tmp_path / "last.keras"
    fit(1, Survival(path))
    fit(2, Survival(path))
    for expected, actual in zip(
        whole.get_weights(), fit(3, Survival(path)).get_weights(), strict=True
    ):
        np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-6)


def test_zeros_that_are_held_stay_so(tmp_path):
    """Who prunes before `fit` does it again in the next process, before the file is read."""

    def fit(epochs, *others):
        keras.utils.clear_session()
        keras.utils.set_random_seed(0)
        model = in_rows()
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(keras.optimizers.Adam(0.01), loss)
        ptkeras.magnitude.prune(model, 0.5)
        images, labels = digits(192)
        x = images.reshape(len(images), -1).astype("float32") / 16
        survival = Survival(tmp_path / "last.keras")
        with contextlib.suppress(StoppedError):
            model.fit(x, labels, epochs=epochs, verbose=0, callbacks=[*others, survival])
        return model

    fit(3, StopAt(1))
    model = fit(3)
    assert ptkeras.magnitude.report(model).sparsity == pytest.approx(0.5, abs=0.01)
