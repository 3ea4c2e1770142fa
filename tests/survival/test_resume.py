"""What a resumed model is to have that a `.keras` file does not say."""

import json
import os
import signal
import zipfile

import keras
import numpy as np
import pytest
from keras import layers

import ptkeras
from ptkeras.survival.callback import InterruptedTrainingError, Survival
from ptkeras.survival.checkpoint import Checkpoints, read_arrays, read_state
from tests.helpers.forced import Forced
from tests.helpers.same_run import resealed
from tests.helpers.stopping import StopAt, StoppedError

pytestmark = pytest.mark.thorough

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


def left_out(model):
    """The weights that do not decay."""
    optimizer = getattr(model.optimizer, "inner_optimizer", model.optimizer)
    return [v.path for v in model.trainable_variables if not optimizer._use_weight_decay(v)]


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
    assert left_out(parts) == left_out(whole) == left_out(make()) != []
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
    assert left_out(model) == ["first/kernel"]
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


def wide_of_nested():
    """Names that Keras makes up, in a nested model and in operations too."""
    inputs = keras.Input((6,))
    x = layers.Dense(8)(inputs)
    x = keras.Sequential([layers.Dense(8, activation="relu"), layers.Dropout(0.1)])(x)
    x = keras.ops.add(x, layers.Dense(8)(x))
    return keras.Model(inputs, layers.Dense(3)(x))


def of_size(size):
    inputs = keras.Input((size,))
    return keras.Model(inputs, layers.Dense(3)(inputs))


def longer():
    inner = network()
    return keras.Model(inner.inputs, layers.ReLU()(inner.outputs[0]))


def begin(model, path, stateful=()):
    """Trains for an epoch, as the process did that was killed."""
    callbacks = [*stateful, Survival(path, stateful)]
    model.fit(X[:, : model.input_shape[1]], Y, verbose=0, callbacks=callbacks)


def early():
    return keras.callbacks.EarlyStopping("loss", patience=9)


@pytest.mark.parametrize(
    ("model", "stateful", "difference"),
    [
        (lambda: compiled(network(width=9)), [], "part 2 of its network, a Dense, has other"),
        (lambda: compiled(of_size(5)), [], "part 1 of its network, an InputLayer, has other"),
        (lambda: compiled(longer()), [], "part 5 of its network is an output, here it is a ReLU"),
        (
            lambda: compiled(network(), "adam"),
            [],
            r"its optimizer was SGD \(.*weight_momentum\), not Adam",
        ),
        (
            lambda: compiled(network(), keras.optimizers.SGD(0.05)),
            [],
            r"not SGD \(iteration, learning_rate\)",
        ),
        (lambda: compiled(network()), [early], "its stateful objects were none, not EarlyStopping"),
    ],
    ids=["width", "input", "layer", "optimizer", "slots", "stateful"],
)
def test_a_checkpoint_of_another_training_is_refused(tmp_path, model, stateful, difference):
    path = tmp_path / "a.keras"
    begin(compiled(network()), path)
    saved = path.read_bytes()
    with pytest.raises(ValueError, match=f"holds another training: .*{difference}.*delete"):
        begin(model(), path, [make() for make in stateful])
    assert path.read_bytes() == saved


def test_a_checkpoint_of_other_settings_is_refused(tmp_path):
    path = tmp_path / "a.keras"
    begin(compiled(network()), path, [ptkeras.PruneTrain(0.2, interval=1, verbose=0)])
    with pytest.raises(ValueError, match=r"the ratio of its PruneTrain was 0\.2, not 0\.3"):
        begin(compiled(network()), path, [ptkeras.PruneTrain(0.3, interval=1, verbose=0)])
    with pytest.raises(ValueError, match="stateful objects were PruneTrain, not EarlyStopping"):
        begin(compiled(network()), path, [early()])


def test_a_checkpoint_of_another_backend_is_refused(tmp_path):
    path, model = tmp_path / "a.keras", compiled(network())
    begin(model, path)
    state, arrays = read_state(path), read_arrays(path)
    here = state["origin"].pop("backend")
    Checkpoints(path).write(model, state, arrays)  # as older versions did
    fit(lambda: compiled(network()), path, epochs=2)
    assert read_state(path)["origin"]["backend"] == here
    state["origin"]["backend"] = "numpy"
    Checkpoints(path).write(model, state, arrays)
    with pytest.raises(ValueError, match=f"begun with KERAS_BACKEND=numpy, not {here}. Go on as"):
        begin(compiled(network()), path)


def test_a_checkpoint_of_the_first_format_is_taken_up(tmp_path):
    """By what it held and how it was sealed then, and neither by the code that writes it now."""

    def make():
        return compiled(network())

    whole = fit(make, tmp_path / "whole.keras")
    path = tmp_path / "parts.keras"
    with pytest.raises(StoppedError):
        fit(make, path, StopAt(1))

    def as_it_was(state):
        del state["origin"]["backend"], state["removals"]
        assert state.keys() == {
            *("epoch", "stopped", "stopped_by", "states", "origin", "history"),
            *("optimizer", "switched", "seeds"),
        }
        assert state["origin"].keys() == {"names", "network", "optimizer", "stateful", "settings"}

    resealed(path, as_it_was)
    assert_same(fit(make, path, seed=1), whole)


class Around(keras.Model):
    """A model without a graph around one with a graph, a part of which is frozen."""

    def __init__(self):
        super().__init__()
        self.inner = wide_of_nested()
        self.inner.layers[1].kernel.trainable = False

    def call(self, x, training=None):
        return self.inner(x, training=training)


def test_names_may_be_others_in_a_model_without_a_graph_too(tmp_path):
    def make():
        model = Around()
        model(X)
        return compiled(model)

    path = tmp_path / "a.keras"
    keras.utils.set_random_seed(0)
    first, second = make(), make()
    names = [first.inner.layers[1].name, second.inner.layers[1].name]
    assert names[0] != names[1]
    first.fit(X, Y, verbose=0, callbacks=[Survival(path)])
    Survival(path).resume(second)
    for a, b in zip(first.variables, second.variables, strict=True):
        np.testing.assert_array_equal(array(a), array(b), err_msg=a.path)
        assert a.trainable == b.trainable
    assert second.inner.layers[1].name == names[0]


def test_other_weights_of_a_model_without_a_graph_are_refused(tmp_path):
    path = tmp_path / "a.keras"
    for width in (8, 9):
        model = Subclassed(type("Wide", (), {"width": width}))
        model(X)
        if width == 8:
            fit(lambda: compiled(model), path, epochs=1)  # noqa: B023
    with pytest.raises(ValueError, match="part 1 of its network, a weight, has other settings"):
        fit(lambda: compiled(model), path)


def test_a_checkpoint_that_does_not_say_its_origin_is_refused(tmp_path):
    Checkpoints(tmp_path / "a.keras").write(compiled(network()), {"epoch": 1})
    with pytest.raises(ValueError, match="nothing says what it was begun with"):
        fit(lambda: compiled(network()), tmp_path / "a.keras")


def test_names_that_keras_makes_up_may_be_others(tmp_path):
    """As in a notebook, where the cell that builds the model is run twice."""

    def make():
        model = wide_of_nested()
        model.layers[1].kernel.regularizer = keras.regularizers.L2(0.1)
        return compiled(model)

    path = tmp_path / "a.keras"
    fit(make, path, epochs=1)
    names = [layer.name for layer in make().layers]
    model = make()
    assert [layer.name for layer in model.layers] != names
    Survival(path).resume(model)
    assert model.layers[1].kernel.regularizer is not None
    with zipfile.ZipFile(path) as archive:
        saved = json.loads(archive.read("state.json"))["origin"]["names"]
    assert [layer.name for layer in model.layers] == [name for name in saved if "/" not in name]


def test_a_pruned_model_goes_on_with_callbacks_made_anew(tmp_path):
    """As in a notebook, where the cell that trains is run twice."""
    path = tmp_path / "a.keras"
    model = compiled(network())
    for epochs in (1, 2):
        begin_to = [Forced()]
        how = {"epochs": epochs, "verbose": 0, "callbacks": [*begin_to, Survival(path, begin_to)]}
        model.fit(X, Y, **how)
    assert len(begin_to[0].reconfigurations) == 2


@keras.saving.register_keras_serializable("tests")
class Noise(layers.Layer):
    """Draws without a seed of its own."""

    def call(self, x, training=None):
        return x + keras.random.normal((6,)) if training else x


def noisy():
    inputs = keras.Input((6,))
    return compiled(keras.Model(inputs, layers.Dense(3, name="last")(Noise()(inputs))))


@pytest.mark.skipif(keras.backend.backend() == "jax", reason="JAX draws with a seed only")
def test_what_keras_draws_without_a_seed_goes_on(tmp_path):
    whole, parts = fit_in_parts(noisy, tmp_path)
    assert_same(parts, whole)
    third = fit(noisy, tmp_path / "other.keras", seed=1)
    assert not np.array_equal(array(third.weights[0]), array(whole.weights[0]))


class InTheMiddle(keras.callbacks.Callback):
    """A preempted instance, in the second epoch; each epoch begins with a draw."""

    def __init__(self, stops):
        super().__init__()
        self.stops = stops

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch
        keras.random.normal((1,))

    def on_train_batch_end(self, batch, logs=None):
        if self.stops and (self.epoch, batch) == (1, 1):
            os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.tensorflow
def test_what_keras_draws_goes_on_in_the_middle_of_an_epoch(tmp_path):
    from ptkeras.data import EpochSeed, load

    def run(path, seed=0, stops=False):
        keras.utils.clear_session(free_memory=False)
        keras.utils.set_random_seed(seed)
        dataset = load("digits", batch_size=512, seed=3)
        inputs = keras.Input(dataset.input_shape)
        x = Noise()(layers.Dense(6)(layers.Flatten()(inputs)))
        model = compiled(keras.Model(inputs, layers.Dense(10)(x)))
        callbacks = [EpochSeed(dataset), InTheMiddle(stops), Survival(path, [], dataset)]
        model.fit(dataset.train, epochs=3, shuffle=False, verbose=0, callbacks=callbacks)
        return model

    whole = run(tmp_path / "whole.keras")
    with pytest.raises(InterruptedTrainingError, match="step 2 of epoch 2"):
        run(tmp_path / "parts.keras", stops=True)
    assert_same(run(tmp_path / "parts.keras", seed=1), whole)


@pytest.mark.skipif(keras.backend.backend() != "torch", reason="a generator of PyTorch's own")
def test_what_pytorch_draws_goes_on(tmp_path):
    def dropping():
        inputs = keras.Input((6,))
        return compiled(keras.Model(inputs, layers.Dense(3)(layers.Dropout(0.5)(inputs))))

    whole, parts = fit_in_parts(dropping, tmp_path)
    for a, b in zip(whole.get_weights(), parts.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
