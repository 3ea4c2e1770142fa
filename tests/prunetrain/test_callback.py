import json

import keras
import numpy as np
import pytest
from keras import layers

import ptkeras
from ptkeras import importance
from ptkeras.channels import trace
from ptkeras.prunetrain.lasso import AttachedLasso
from ptkeras.prunetrain.records import describe, gain
from tests.exactness import outputs_of
from tests.helpers.digits_network import compiled, digits, network
from tests.helpers.forced import Forced

pytestmark = pytest.mark.thorough


class Spy(keras.callbacks.Callback):
    """Compares the model's outputs before and after each reconfiguration, and keeps logs."""

    def __init__(self, prune_train, x):
        super().__init__()
        self.prune_train, self.x = prune_train, x
        self.logs, self.differences = [], []
        original = prune_train._remove

        def remove(*args):
            before = outputs_of(self.model, self.x)[0]
            changed = original(*args)
            self.differences.append(np.abs(before - outputs_of(self.model, self.x)[0]).max())
            return changed

        prune_train._remove = remove

    def on_epoch_end(self, epoch, logs=None):
        self.logs.append(dict(logs))


@pytest.mark.compiles_much
def test_one_fit_returns_the_same_object_smaller():
    x, y = digits()
    model = compiled()
    callback = Forced()
    spy = Spy(callback, x)
    params, optimizer = model.count_params(), model.optimizer
    history = model.fit(
        x, y, epochs=4, batch_size=64, callbacks=[callback, spy], validation_split=0.2, verbose=0
    )
    assert model.count_params() < params and model.optimizer is optimizer
    assert len(callback.reconfigurations) >= 1
    assert set(spy.logs[0]) >= {"lasso", "channels", "params", "inference_flops", "training_flops"}
    assert history.history["params"][-1] < history.history["params"][0] == params
    assert (np.diff(history.history["training_flops"]) > 0).all()
    assert model.evaluate(x, y, verbose=0)[1] > 0.0
    assert not any(isinstance(v.regularizer, AttachedLasso) for v in model.weights)
    assert "ptkeras" not in json.dumps(model.get_config(), default=str)


@pytest.mark.compiles_much
def test_training_flops_count_every_example_once():
    x, y = digits(250)  # the last batch of an epoch is not a whole one
    model = compiled()
    per_example = ptkeras.cost.training_flops(model)
    callback = ptkeras.PruneTrain(ratio=0.2, interval=2, threshold=1e-9)
    history = model.fit(
        x, y, epochs=2, batch_size=64, validation_split=0.2, callbacks=[callback], verbose=0
    )
    assert history.history["training_flops"] == [200 * per_example, 400 * per_example]


@pytest.mark.parametrize("ratio", [0.2, 0.6])
def test_the_ratio_sets_the_strength(ratio):
    """λ·GL / (CE + λ·GL) = ratio, on the first batch, whatever else is regularised."""
    x, y = digits(64)
    model = network()
    model.get_layer("stem").kernel.regularizer = keras.regularizers.L2(0.1)
    compiled(model, keras.optimizers.SGD(1e-12))
    weights = [keras.ops.convert_to_numpy(w) for w in model.get_weights()]
    logits = keras.ops.convert_to_numpy(model(x, training=True))
    model.set_weights(weights)
    ce = keras.losses.SparseCategoricalCrossentropy(from_logits=True)(y, logits)
    callback = ptkeras.PruneTrain(ratio=ratio, interval=1, threshold=1e-9)
    model.fit(x, y, batch_size=64, callbacks=[callback], verbose=0)
    penalty = callback.strength * ptkeras.lasso.group_norms(ptkeras.channels.trace(model))
    assert penalty / (float(ce) + penalty) == pytest.approx(ratio, rel=1e-3)


def test_the_penalty_is_in_the_loss_and_pulls_groups_to_zero():
    x, y = digits()
    model = compiled()
    callback = ptkeras.PruneTrain(ratio=0.9, interval=8, threshold=1e-9)
    history = model.fit(x, y, epochs=8, batch_size=32, callbacks=[callback], verbose=0)
    lasso = history.history["lasso"]
    assert lasso[-1] < 0.5 * lasso[0]
    assert history.history["loss"][-1] >= lasso[-1] * 0.9


def test_outputs_change_by_no_more_than_the_removed_weights():
    """Every removed weight is under the threshold, and so small that nobody notices."""
    x, y = digits()
    model = compiled()
    filters = model.get_layer("inner").filters
    callback = ptkeras.PruneTrain(ratio=0.2, interval=2, threshold=1e-4, verbose=0)
    spy = Spy(callback, x)

    class Shrink(keras.callbacks.Callback):
        """Does in one go what the lasso does in many epochs: three channels of the branch die."""

        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 1:
                for name, axis in (("inner", 3), ("outer", 2)):
                    variable = self.model.get_layer(name).kernel
                    values = keras.ops.convert_to_numpy(variable.value).copy()
                    np.moveaxis(values, axis, 0)[:3] *= 1e-6
                    variable.assign(values)

    compiled(model, keras.optimizers.SGD(1e-6))
    model.fit(x, y, epochs=2, callbacks=[Shrink(), callback, spy], verbose=0)
    assert model.get_layer("inner").filters == filters - 3
    assert len(spy.differences) == 1 and spy.differences[0] < 1e-3


@pytest.mark.compiles_much
def test_the_callbacks_of_keras_work_beside_it(tmp_path):
    x, y = digits()
    model = compiled()
    callback = Forced()
    others = [
        keras.callbacks.LearningRateScheduler(lambda epoch: 0.05 / (1 + epoch)),
        keras.callbacks.ReduceLROnPlateau(monitor="val_loss", patience=1),
        keras.callbacks.ModelCheckpoint(tmp_path / "{epoch}.keras"),
        keras.callbacks.CSVLogger(tmp_path / "log.csv"),
    ]
    if keras.config.backend() == "tensorflow":
        others.append(keras.callbacks.TensorBoard(tmp_path / "board", histogram_freq=1))
    model.fit(x, y, epochs=4, callbacks=[callback, *others], validation_split=0.25, verbose=0)
    assert "training_flops" in (tmp_path / "log.csv").read_text().splitlines()[0]
    assert float(model.optimizer.learning_rate) < 0.05
    for epoch in range(1, 5):
        saved = keras.models.load_model(tmp_path / f"{epoch}.keras")
        assert saved.evaluate(x, y, verbose=0)[0] > 0
    assert saved.count_params() == model.count_params()
    a, b = outputs_of(model, x)[0], outputs_of(saved, x)[0]
    np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


@pytest.mark.compiles_much
def test_early_stopping_brings_back_the_network_of_the_best_epoch():
    x, y = digits()
    model = compiled()
    callback = Forced()
    seen = []

    class Remember(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 1:
                seen.append(outputs_of(self.model, x)[0])
                self.params_then = self.model.count_params()

    class Worse(keras.callbacks.Callback):
        """A validation score that is best at the end of the first epoch."""

        def on_epoch_end(self, epoch, logs=None):
            logs["score"] = float(-epoch)

    stopping = keras.callbacks.EarlyStopping(
        monitor="score", mode="max", patience=3, restore_best_weights=True
    )
    remember = Remember()
    model.fit(
        x, y, epochs=8, batch_size=64, callbacks=[callback, Worse(), stopping, remember], verbose=0
    )
    assert len(callback.reconfigurations) >= 2
    assert model.count_params() == remember.params_then
    np.testing.assert_allclose(outputs_of(model, x)[0], seen[0], rtol=1e-5, atol=1e-5)
    model.fit(x, y, epochs=1, verbose=0)


@pytest.mark.parametrize("multiple", [3, pytest.param(4, marks=pytest.mark.compiles_much)])
def test_counts_stay_multiples(multiple):
    x, y = digits()
    model = compiled(network(width=12))
    callback = Forced(channel_multiple=multiple, remove_dead_branches=False, verbose=0)
    model.fit(x, y, epochs=3, callbacks=[callback], verbose=0)
    widths = [model.get_layer(n).filters for n in ("stem", "inner", "outer")]
    assert min(widths) < 12 and all(w % multiple == 0 for w in widths)


def test_a_least_number_of_channels_stays():
    x, y = digits()
    model = compiled()
    callback = Forced(share=1.0, min_channels=3, remove_dead_branches=False)
    model.fit(x, y, epochs=2, callbacks=[callback], verbose=0)
    assert [model.get_layer(n).filters for n in ("stem", "inner", "outer")] == [3, 3, 3]


def test_dead_branches_leave_and_the_rest_keeps_a_channel():
    x, y = digits()
    model = compiled()
    callback = Forced(share=1.0)
    model.fit(x, y, epochs=2, callbacks=[callback], verbose=0)
    names = {layer.name for layer in model.layers}
    assert "stem" in names and not names & {"inner", "outer"}
    assert model.get_layer("stem").filters == 1
    assert np.isfinite(model.evaluate(x, y, verbose=0)[0])


def test_channel_gating_prunes_more_than_union():
    x, y = digits()
    params = {}
    for gating in (False, True):
        keras.utils.set_random_seed(1)
        model = compiled()
        callback = ptkeras.PruneTrain(
            0.5, interval=2, threshold=1e-4, channel_gating=gating, verbose=0
        )
        spy = Spy(callback, x)

        class Shrink(keras.callbacks.Callback):
            """The outer convolution stops writing channels that the stem goes on to use."""

            def on_epoch_begin(self, epoch, logs=None):
                if epoch == 1:
                    layer = self.model.get_layer("outer")
                    values = keras.ops.convert_to_numpy(layer.kernel.value).copy()
                    values[..., :5] *= 1e-9
                    layer.kernel.assign(values)

        model.optimizer.learning_rate = 1e-6
        model.fit(x, y, epochs=2, callbacks=[Shrink(), callback, spy], verbose=0)
        params[gating] = model.count_params()
        if gating:
            assert model.get_layer("outer").filters == 3
            assert model.get_layer("stem").filters == 8
            assert spy.differences[0] < 1e-4
    assert params[True] < params[False]


@pytest.mark.compiles_much
def test_a_gated_network_goes_on_being_pruned(tmp_path):
    x, y = digits()
    model = compiled(network(width=12))
    callback = Forced(channel_gating=True)
    spy = Spy(callback, x)
    model.fit(x, y, epochs=5, callbacks=[callback, spy], verbose=0)
    assert len(callback.reconfigurations) >= 2
    model.save(tmp_path / "gated.keras")
    loaded = keras.models.load_model(tmp_path / "gated.keras")
    a, b = outputs_of(model, x)[0], outputs_of(loaded, x)[0]
    np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


class Size:
    """A batch size that a pipeline would read."""

    def __init__(self, value):
        self.value = value

    def __int__(self):
        return self.value

    def assign(self, value):
        self.value = value


def test_the_batch_and_the_learning_rate_grow_as_memory_shrinks():
    x, y = digits()
    model = compiled()
    size = Size(32)
    callback = Forced(share=0.45, batch_size=size)
    memory = ptkeras.cost.training_memory(model, 32)
    rate = float(model.optimizer.learning_rate)
    model.fit(x, y, epochs=3, callbacks=[callback], verbose=0)
    assert int(size) > 32 and int(size) % 32 == 0
    assert callback.batch_scale == int(size) / 32
    assert float(model.optimizer.learning_rate) == pytest.approx(rate * callback.batch_scale)
    assert ptkeras.cost.training_memory(model, int(size)) <= memory


def test_the_gain_tells_nested_layers_of_one_name_apart():
    def part(filters, channels):
        return keras.Sequential(
            [keras.Input((4, 4, channels)), layers.Conv2D(filters, 1, name="a")]
        )

    model = keras.Sequential([keras.Input((4, 4, 2)), part(8, 2), part(8, 8), layers.Conv2D(1, 1)])
    channel_map = trace(model)
    keep = np.ones(len(channel_map), bool)
    keep[np.flatnonzero(channel_map.prunable)[:8]] = np.arange(8) < 4
    # Of 16 + 64 + 8 products 8 + 32 + 8 are left.
    assert gain(channel_map, keep, {}) == pytest.approx(1 - 48 / 88)


def test_little_gain_is_put_off_except_at_the_end(monkeypatch):
    monkeypatch.setattr("ptkeras.prunetrain.channels.LEAST_GAIN", 0.99)
    x, y = digits()
    model = compiled()
    callback = Forced()
    model.fit(x, y, epochs=3, callbacks=[callback], verbose=0)
    assert [r["epoch"] for r in callback.reconfigurations] == [3]


def test_the_line_of_a_reconfiguration(capsys):
    x, y = digits()
    model = compiled()
    callback = Forced(verbose=1)
    model.fit(x, y, epochs=2, callbacks=[callback], verbose=0)
    line = describe(callback.reconfigurations[0])
    assert line in capsys.readouterr().out
    assert line.startswith("PruneTrain, epoch 1: channels 16 → ")


@pytest.mark.parametrize(
    "arguments",
    [
        {"ratio": 0},
        {"ratio": 1},
        {"ratio": float("nan")},
        {"ratio": "0.2"},
        {"interval": 0},
        {"interval": 1.5},
        {"interval": float("inf")},
        {"interval": "ten"},
        {"threshold": 0},
        {"threshold": -1},
        {"measure": "median"},
        {"min_channels": 0},
        {"channel_multiple": 0},
    ],
)
def test_arguments_out_of_range_are_named(arguments):
    ((name, value),) = arguments.items()
    with pytest.raises(ValueError, match=f"{name} of PruneTrain must be .*{value!r}"):
        ptkeras.PruneTrain(**arguments)


def test_an_interval_longer_than_the_training_is_warned_of():
    x, y = digits(32)
    with pytest.warns(UserWarning, match=r"longer than this fit of 3, .* of 3 at most"):
        compiled().fit(
            x, y, epochs=3, callbacks=[ptkeras.PruneTrain(ratio=0.2, interval=4)], verbose=0
        )


def test_a_model_with_nothing_to_prune_is_refused():
    x, y = digits(32)
    model = keras.Sequential([keras.Input((8, 8, 1)), layers.Flatten(), layers.Dense(10)])
    with pytest.raises(ValueError, match="no channels that PruneTrain could remove"):
        compiled(model).fit(
            x, y, epochs=9, callbacks=[ptkeras.PruneTrain(ratio=0.2, interval=2)], verbose=0
        )


def broken():
    model = compiled()
    bias = model.get_layer("head").bias
    bias.assign(np.full(bias.shape, np.nan))
    return model


def test_a_first_loss_that_is_not_finite_is_refused():
    x, y = digits(32)
    with pytest.raises(ValueError, match="loss of the first batch is nan"):
        broken().fit(
            x, y, epochs=2, callbacks=[ptkeras.PruneTrain(ratio=0.2, interval=2)], verbose=0
        )


def test_a_network_of_nan_is_not_pruned():
    x, y = digits(32)
    model = broken()
    callback = ptkeras.PruneTrain(ratio=0.2, interval=1, channel_gating=True)
    callback.strength = 0.1
    params = model.count_params()
    model.fit(x, y, epochs=2, callbacks=[callback], verbose=0)
    assert np.isnan(model.get_weights()[0]).all() and model.count_params() == params


def test_a_strength_that_is_set_stays():
    x, y = digits(64)
    callback = ptkeras.PruneTrain(ratio=0.2, interval=1)
    callback.strength = 0.125
    history = compiled().fit(x, y, callbacks=[callback], verbose=0)
    assert callback.strength == 0.125
    assert history.history["lasso"][0] > 1


@pytest.mark.compiles_much
def test_it_can_be_used_twice_on_one_model():
    x, y = digits()
    model = compiled()
    sizes = [model.count_params()]
    for _ in range(2):
        model.fit(x, y, epochs=2, callbacks=[Forced()], verbose=0)
        sizes.append(model.count_params())
    assert sizes[0] > sizes[1] >= sizes[2]


def test_scores_see_every_group_of_a_channel():
    model = network()
    channel_map = ptkeras.channels.trace(model)
    scores = importance.channel_magnitudes(channel_map)
    inner = channel_map.produced()["inner"]
    made = np.abs(keras.ops.convert_to_numpy(model.get_layer("inner").kernel)).max((0, 1, 2))
    read = np.abs(keras.ops.convert_to_numpy(model.get_layer("outer").kernel)).max((0, 1, 3))
    np.testing.assert_allclose(scores[inner], np.maximum(made, read), rtol=1e-6)


@pytest.mark.compiles_much
def test_a_gated_network_from_a_file_can_be_pruned_on(tmp_path):
    """Keras numbers names anew in each process; those that surgery adds must not collide."""
    x, y = digits()
    model = compiled(network(width=12))
    model.fit(x, y, epochs=2, callbacks=[Forced(channel_gating=True)], verbose=0)
    model.save(tmp_path / "gated.keras")
    keras.backend.clear_session()
    loaded = keras.models.load_model(tmp_path / "gated.keras")
    channels = ptkeras.channels.trace(loaded).prunable.sum()
    loaded.fit(x, y, epochs=2, callbacks=[Forced(channel_gating=True)], verbose=0)
    assert ptkeras.channels.trace(loaded).prunable.sum() < channels
    names = [op.name for op in loaded.operations]
    assert len(set(names)) == len(names)


def test_numbers_of_numpy_are_saved():
    settings = ptkeras.PruneTrain(ratio=np.float32(0.2), threshold=np.float32(1e-4)).get_settings()
    assert json.loads(json.dumps(settings)) == settings
