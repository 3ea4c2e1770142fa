"""What a resumed model is to have that a `.keras` file does not say."""

import keras
import numpy as np
import pytest
from keras import layers

from ptkeras.survival import Survival
from tests.forced import Forced


class StoppedError(Exception):
    """Stands for whatever ends a process."""


class StopAt(keras.callbacks.Callback):
    def __init__(self, epoch):
        super().__init__()
        self.epoch = epoch

    def on_epoch_begin(self, epoch, logs=None):
        if epoch == self.epoch:
            raise StoppedError


RANDOM = np.random.default_rng(0)
X, Y = RANDOM.normal(size=(64, 6)).astype("float32"), RANDOM.integers(0, 3, 64)


def network(width=8, cls=keras.Model):
    inputs = keras.Input((6,))
    x = layers.Dense(width, activation="relu", name="first")(inputs)
    x = layers.Dense(width, activation="relu", name="second")(x)
    return cls(inputs, layers.Dense(3, name="last")(x))


def compiled(model, optimizer=None):
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer or keras.optimizers.SGD(0.05, momentum=0.9), loss)
    return model


def fit(make, path, *others, seed=0, prune=False, epochs=3):
    """One process's part of a training; the seed makes what the file does not hold differ."""
    keras.utils.clear_session(free_memory=False)
    keras.utils.set_random_seed(seed)
    model = make()
    pruning = [Forced()] if prune else []
    callbacks = [*pruning, Survival(path, pruning), *others]
    model.fit(X, Y, epochs=epochs, batch_size=16, shuffle=False, verbose=0, callbacks=callbacks)
    return model


def fit_in_parts(make, folder, **how):
    """A training that was not stopped, and one that was."""
    whole = fit(make, folder / "whole.keras", **how)
    with pytest.raises(StoppedError):
        fit(make, folder / "parts.keras", StopAt(1), **how)
    return whole, fit(make, folder / "parts.keras", seed=1, **how)


def assert_same(one, other):
    assert [v.path for v in one.weights] == [v.path for v in other.weights]
    for a, b in zip(one.weights, other.weights, strict=True):
        np.testing.assert_array_equal(array(a), array(b), err_msg=a.path)


def array(variable):
    return keras.ops.convert_to_numpy(variable)


class Own(keras.Model):
    """A graph with a class of the user's, which nobody has registered."""

    def train_step(self, *args):
        return super().train_step(*args)


class OwnConfig(Own):
    """One whose config says how to build the first network only."""

    def __init__(self, width):
        inner = network(width)
        super().__init__(inner.inputs, inner.outputs)
        self.width = width

    def get_config(self):
        return {"width": self.width}


@pytest.mark.parametrize("make", [lambda: network(cls=Own), lambda: OwnConfig(8)])
def test_the_class_of_a_graph_need_not_be_registered(tmp_path, make):
    cls = type(make())
    whole, parts = fit_in_parts(lambda: compiled(make()), tmp_path)
    assert_same(parts, whole)
    assert isinstance(parts, cls) and type(whole) is cls
    assert keras.models.load_model(tmp_path / "whole.keras").count_params() == whole.count_params()


def adamw():
    optimizer = keras.optimizers.AdamW(0.01, weight_decay=0.5)
    optimizer.exclude_from_weight_decay(var_names=["bias"])
    return optimizer


def adamw_of(model):
    optimizer = keras.optimizers.AdamW(0.01, weight_decay=0.5)
    optimizer.exclude_from_weight_decay(var_list=[model.get_layer("first").kernel])
    optimizer.figure = 7
    return optimizer


def scaled():
    return keras.optimizers.LossScaleOptimizer(adamw(), initial_scale=2.0)


@pytest.mark.parametrize(
    "of",
    [lambda model: adamw(), adamw_of, lambda model: scaled()],
    ids=["names", "variables", "scaled"],
)
def test_weights_without_decay_stay_so(tmp_path, of):
    def make():
        model = network()
        return compiled(model, of(model))

    whole, parts = fit_in_parts(make, tmp_path, prune=True)
    assert whole.count_params() < network().count_params()
    assert_same(parts, whole)
    assert getattr(parts.optimizer, "figure", None) == getattr(make().optimizer, "figure", None)


def test_early_stopping_that_brings_a_network_back_brings_what_its_optimizer_leaves_out(tmp_path):
    model = network()
    compiled(model, adamw_of(model))
    best = keras.callbacks.EarlyStopping("loss", start_from_epoch=0, restore_best_weights=True)
    best.on_epoch_end = lambda epoch, logs=None: (
        epoch or vars(best).update(best_weights=model.get_weights(), best_epoch=0)
    )
    model.fit(X, Y, epochs=2, batch_size=16, verbose=0, callbacks=[best, Forced(interval=1)])
    model.set_weights(best.best_weights)
    assert model.count_params() == network().count_params()
    decays = {v.path: model.optimizer._use_weight_decay(v) for v in model.trainable_variables}
    assert not decays.pop("first/kernel") and all(decays.values())
    assert model.optimizer.figure == 7


@pytest.mark.parametrize("prune", [True, False])
def test_a_variable_that_is_frozen_by_itself_stays_so(tmp_path, prune):
    def make():
        model = network()
        model.get_layer("last").bias.trainable = False
        model.get_layer("first").kernel.constraint = keras.constraints.MaxNorm(0.5)
        return compiled(model)

    whole, parts = fit_in_parts(make, tmp_path, prune=prune)
    assert_same(parts, whole)
    assert not parts.get_layer("last").bias.trainable
    assert np.all(array(parts.get_layer("last").bias) == 0)


class Thaw(keras.callbacks.Callback):
    """Freezes or thaws a layer in the middle of a training, as fine-tuning does."""

    def on_epoch_begin(self, epoch, logs=None):
        if epoch == 0:
            self.model.get_layer("first").trainable = True
            self.model.make_train_function(force=True)


def test_a_layer_that_was_thawed_in_the_training_stays_so(tmp_path):
    def make():
        model = network()
        optimizer = keras.optimizers.SGD(0.05, momentum=0.9)
        optimizer.build(model.trainable_variables)
        model.get_layer("first").trainable = False
        return compiled(model, optimizer)

    with pytest.raises(StoppedError):
        fit(make, tmp_path / "a.keras", Thaw(), StopAt(1))
    model = make()
    Survival(tmp_path / "a.keras").resume(model)
    assert model.get_layer("first").kernel.trainable


class Settings:
    """What Keras cannot write into a config."""

    width = 8


class Subclassed(keras.Model):
    """A model without a graph, and names that count on."""

    def __init__(self, settings=Settings):
        super().__init__()
        self.rows = [layers.Dense(settings.width, activation="relu"), layers.Dropout(0.2, seed=3)]
        self.last = layers.Dense(3)

    def call(self, x, training=None):
        for layer in self.rows:
            x = layer(x, training=training)
        return self.last(x)


@pytest.mark.parametrize("optimizer", ["adam", None])  # None: with momentum
@pytest.mark.parametrize("make", [Subclassed, lambda: Subclassed(Settings())])
def test_a_model_without_a_graph_survives_by_its_weights(tmp_path, make, optimizer):
    def built():
        model = make()
        model(X)
        return compiled(model, optimizer and keras.optimizers.get(optimizer))

    whole, parts = fit_in_parts(built, tmp_path)
    assert type(whole) is type(parts) is Subclassed
    for a, b in zip(whole.variables, parts.variables, strict=True):
        np.testing.assert_array_equal(array(a), array(b), err_msg=a.path)


def test_a_model_without_a_graph_is_to_be_built_before(tmp_path):
    with pytest.raises(ValueError, match="call it on a batch of data"):
        Survival(tmp_path / "a.keras").resume(compiled(Subclassed()))
    assert not list(tmp_path.iterdir())


class ByHand(keras.Model):
    """A model that trains itself, without an optimiser."""

    def train_step(self, *args):
        bias = self.get_layer("last").bias
        bias.assign_add(keras.ops.ones_like(bias))
        return {"loss": 0.5}


@pytest.mark.tensorflow
def test_a_model_without_an_optimizer_survives(tmp_path):
    def make():
        model = network(cls=ByHand)
        model.compile(optimizer=None)
        return model

    whole, parts = fit_in_parts(make, tmp_path)
    assert_same(parts, whole)
    np.testing.assert_array_equal(array(parts.get_layer("last").bias), np.full(3, 12.0))


def test_a_weight_outside_the_model_is_refused_before_the_training(tmp_path):
    model, stray = network(), keras.Variable([1.0], name="temperature")
    optimizer = keras.optimizers.SGD(0.05)
    optimizer.build([*model.trainable_variables, stray])
    with pytest.raises(ValueError, match="trains 'temperature', which is in no layer"):
        fit(lambda: compiled(model, optimizer), tmp_path / "a.keras")
    assert not list(tmp_path.iterdir())


def test_an_optimizer_that_is_not_built_is_not_begun_anew_without_a_word(tmp_path):
    def make(build):
        model = network(cls=Own)
        model.second_optimizer = keras.optimizers.Adam()
        if build:
            model.second_optimizer.build(model.trainable_variables)
        return compiled(model)

    fit(lambda: make(True), tmp_path / "a.keras", epochs=1)
    with pytest.raises(ValueError, match="does not fit the one in"):
        fit(lambda: make(False), tmp_path / "a.keras")
