"""PruneTrain with a target: the budget is met on the way, and nothing is lost when channels go."""

import itertools

import hypothesis
import hypothesis.strategies as st
import keras
import numpy as np
import pytest
from keras import layers

import ptkeras
from ptkeras import Survival, cost
from ptkeras.channels import trace
from ptkeras.multi_worker.replicas import average_statistics
from ptkeras.prunetrain.schedule import stages
from tests.helpers.digits_network import compiled, digits
from tests.helpers.stopping import StopAt, StoppedError, assert_same, new_process
from tests.helpers.two_devices import mirrored_strategy


def normed():
    inputs = x = keras.Input((8, 8, 1))
    for number, width in enumerate((24, 32)):
        x = layers.Conv2D(width, 3, padding="same", use_bias=False, name=f"conv{number}")(x)
        x = layers.BatchNormalization()(x)
        x = layers.ReLU()(x)
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, layers.Dense(10)(x))


def plain():
    inputs = x = keras.Input((8, 8, 1))
    for number, width in enumerate((24, 32)):
        x = layers.Conv2D(width, 3, activation="relu", name=f"conv{number}")(x)
    x = layers.Dense(48, "relu")(layers.Flatten()(x))
    return keras.Model(inputs, layers.Dense(10)(x))


def residual():
    inputs = keras.Input((8, 8, 1))
    x = layers.BatchNormalization()(layers.Conv2D(24, 3, padding="same", use_bias=False)(inputs))
    y = layers.BatchNormalization()(layers.Conv2D(24, 3, padding="same", use_bias=False)(x))
    y = layers.Conv2D(24, 3, padding="same", use_bias=False)(layers.ReLU()(y))
    x = layers.ReLU()(layers.Add()([x, layers.BatchNormalization()(y)]))
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, layers.Dense(10)(x))


class Code(keras.Model):
    """A subclass whose call is Python code."""

    def __init__(self):
        super().__init__()
        self.inner = normed()
        self.head = layers.Dense(32, "relu")
        self.logits = layers.Dense(10)

    def call(self, x, training=None):
        return self.logits(self.head(self.inner(x, training=training)))


def code():
    model = Code()
    model(np.zeros((1, 8, 8, 1), "float32"))
    return model


class Outputs(keras.callbacks.Callback):
    """Compares the outputs on both sides of a callback."""

    def __init__(self, inputs):
        super().__init__()
        self.inputs, self.kept = inputs, []

    def on_epoch_end(self, epoch, logs=None):
        average_statistics(self.model)  # as every evaluation does
        self.kept.append(keras.ops.convert_to_numpy(self.model(self.inputs, training=False)))


def size_of(model, of):
    if of == "flops":
        return cost.inference_flops(model)
    return model.count_params() if of == "params" else int(trace(model).prunable.sum())


@pytest.mark.compiles_much
@pytest.mark.parametrize(
    ("build", "of"),
    [(build, "flops") for build in (normed, plain, residual, code)]
    + [(plain, "params"), (residual, "channels")],
)
def test_the_budget_is_met_and_nothing_is_lost(build, of):
    x, y = digits(256)
    model = compiled(build())
    dense = size_of(model, of)
    before, after = Outputs(x[:32]), Outputs(x[:32])
    callback = ptkeras.PruneTrain(target=0.5, of=of, verbose=0)
    log = model.fit(x, y, 32, epochs=5, verbose=0, callbacks=[before, callback, after]).history
    assert size_of(model, of) / dense == pytest.approx(0.5, rel=0.01 if of == "flops" else 0.04)
    assert size_of(model, of) <= 0.5 * dense
    assert callback.reconfigurations[-1]["epoch"] <= 3  # epochs are left to recover
    for one, other in zip(before.kept, after.kept, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-4 * np.abs(one).max())
    assert log["inference_flops"][-1] == cost.inference_flops(model)
    assert "apply" not in vars(model.optimizer)
    model.fit(x, y, 32, verbose=0)  # a plain model again


@pytest.mark.parametrize(
    "optimizer",
    [
        lambda: keras.optimizers.Adam(1e-3),
        lambda: keras.optimizers.AdamW(1e-3, weight_decay=0.1),
        lambda: keras.optimizers.Lion(1e-4, use_ema=True, ema_momentum=0.9),
        lambda: keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.01, momentum=0.9)),
        lambda: keras.optimizers.RMSprop(1e-3, gradient_accumulation_steps=2),
    ],
)
@pytest.mark.compiles_much
def test_with_any_optimizer(optimizer):
    x, y = digits(256)
    model = compiled(normed(), optimizer())
    dense = cost.inference_flops(model)
    model.fit(x, y, 32, epochs=5, verbose=0, callbacks=[ptkeras.PruneTrain(target=0.4, verbose=0)])
    assert cost.inference_flops(model) / dense == pytest.approx(0.4, rel=0.01)


@pytest.mark.compiles_much
@pytest.mark.parametrize("policy", ["mixed_bfloat16", "bfloat16", "float64"])
def test_policies(policy):
    keras.config.set_dtype_policy(policy)
    x, y = digits(128)
    model = compiled(normed())
    dense = cost.inference_flops(model)
    model.fit(x, y, 32, epochs=4, verbose=0, callbacks=[ptkeras.PruneTrain(target=0.5, verbose=0)])
    assert cost.inference_flops(model) <= 0.5 * dense


@pytest.mark.tensorflow
def test_replicas_shrink_alike():
    x, y = digits(256)
    with mirrored_strategy().scope():
        model = compiled(normed())
    dense = cost.inference_flops(model)
    before, after = Outputs(x[:32]), Outputs(x[:32])
    callback = ptkeras.PruneTrain(target=0.5, verbose=0)
    model.fit(x, y, 32, epochs=5, verbose=0, callbacks=[before, callback, after])
    assert cost.inference_flops(model) / dense == pytest.approx(0.5, rel=0.01)
    for one, other in zip(before.kept, after.kept, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-4 * np.abs(one).max())
    for variable in model.variables:
        np.testing.assert_array_equal(*[r.numpy() for r in variable.value.values])


def test_layers_may_be_left_alone_or_get_a_share_of_their_own():
    x, y = digits(128)
    model = compiled(normed())
    callback = ptkeras.PruneTrain(
        target=0.7, leave_alone=["conv0"], overrides={"conv1": 0.25}, of="channels", verbose=0
    )
    with pytest.raises(ValueError, match="nothing that PruneTrain could take a share of"):
        model.fit(x, y, epochs=3, verbose=0, callbacks=[callback])
    model = compiled(plain())
    callback = ptkeras.PruneTrain(
        target=0.7, leave_alone=["conv0"], overrides={"conv1": 0.25}, verbose=0
    )
    model.fit(x, y, epochs=4, verbose=0, callbacks=[callback])
    assert model.get_layer("conv0").filters == 24
    assert model.get_layer("conv1").filters == 24


@pytest.mark.compiles_much
@pytest.mark.parametrize("stop", [1, 2])
def test_a_training_that_is_stopped_ends_as_one_that_is_not(tmp_path, stop):
    x, y = digits(128)

    def run(path, *others):
        new_process(0)
        model, pruning = compiled(normed()), ptkeras.PruneTrain(target=0.3, interval=2, verbose=0)
        callbacks = [pruning, *others, Survival(path, [pruning])]
        model.fit(x, y, 32, epochs=6, shuffle=False, verbose=0, callbacks=callbacks)
        return model

    whole = run(tmp_path / "whole.keras")
    with pytest.raises(StoppedError):
        run(tmp_path / "parts.keras", StopAt(stop))
    assert_same(run(tmp_path / "parts.keras"), whole)


@pytest.mark.compiles_much
def test_in_pieces_it_is_told_how_long_the_training_is():
    x, y = digits(128)
    model = compiled(normed())
    dense = cost.inference_flops(model)
    callback = ptkeras.PruneTrain(target=0.5, epochs=4, verbose=0)
    for epoch in range(4):
        model.fit(x, y, 32, initial_epoch=epoch, epochs=epoch + 1, verbose=0, callbacks=[callback])
    assert cost.inference_flops(model) / dense == pytest.approx(0.5, rel=0.01)
    with pytest.raises(ValueError, match=r"two epochs and more.*received 1.*PruneTrain\(epochs="):
        compiled(normed()).fit(x, y, verbose=0, callbacks=[ptkeras.PruneTrain(target=0.5)])


@pytest.mark.compiles_much
def test_a_file_that_is_saved_meanwhile_loads_without_ptkeras(tmp_path):
    x, y = digits(128)
    model = compiled(normed())
    checkpoint = keras.callbacks.ModelCheckpoint(tmp_path / "{epoch}.keras")
    callbacks = [ptkeras.PruneTrain(target=0.5, verbose=0), checkpoint]
    model.fit(x, y, 32, epochs=4, verbose=0, callbacks=callbacks)
    for epoch in (1, 2, 4):
        loaded = keras.models.load_model(tmp_path / f"{epoch}.keras")
        assert int(loaded.optimizer.iterations) == 4 * epoch
        loaded.fit(x, y, verbose=0)


def test_a_fit_that_breaks_leaves_nothing_that_shrinks():
    x, y = digits(128)
    model = compiled(normed())
    with pytest.raises(StoppedError):
        callbacks = [ptkeras.PruneTrain(target=0.5, interval=2, verbose=0), StopAt(1)]
        model.fit(x, y, 32, epochs=9, verbose=0, callbacks=callbacks)
    ptkeras.lasso.detach(model)
    assert "apply" not in vars(model.optimizer)
    dense = cost.inference_flops(model)
    model.fit(x, y, 32, epochs=4, verbose=0, callbacks=[ptkeras.PruneTrain(target=0.5, verbose=0)])
    assert cost.inference_flops(model) / dense == pytest.approx(0.5, rel=0.01)


@pytest.mark.compiles_much
def test_a_training_that_goes_on_is_planned_from_where_it_is():
    x, y = digits(128)
    model = compiled(normed())
    dense = cost.inference_flops(model)
    callback = ptkeras.PruneTrain(target=0.5, verbose=0)
    model.fit(x, y, 32, initial_epoch=26, epochs=30, verbose=0, callbacks=[callback])
    assert cost.inference_flops(model) / dense == pytest.approx(0.5, rel=0.01)
    with pytest.raises(ValueError, match=r"two epochs and more.*received 1"):
        callback = ptkeras.PruneTrain(target=0.5, verbose=0)
        model.fit(x, y, initial_epoch=29, epochs=30, verbose=0, callbacks=[callback])
    assert "apply" not in vars(model.optimizer)


class Falls(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        logs["falls"] = -epoch


@pytest.mark.compiles_much
def test_a_target_that_an_earlier_network_undoes_is_met_by_the_next_fit():
    x, y = digits(128)
    model = compiled(normed())
    dense = cost.inference_flops(model)
    callback = ptkeras.PruneTrain(target=0.5, verbose=0)
    best = keras.callbacks.EarlyStopping("falls", mode="max", patience=9, restore_best_weights=True)
    with pytest.warns(UserWarning, match="has not met its target.*callback has set weights"):
        model.fit(x, y, 32, epochs=4, verbose=0, callbacks=[Falls(), best, callback])
    model.fit(x, y, 32, epochs=4, verbose=0, callbacks=[callback])
    assert cost.inference_flops(model) / dense == pytest.approx(0.5, rel=0.01)


def test_numbers_that_are_none_end_nothing(capsys):
    x, y = digits(64)
    model = compiled(normed())
    with pytest.warns(UserWarning, match="has not met its target"):
        model.fit(x * np.nan, y, epochs=3, verbose=0, callbacks=[ptkeras.PruneTrain(target=0.5)])
    assert "no channels are chosen: weights are NaN" in capsys.readouterr().out
    assert "apply" not in vars(model.optimizer)


def test_a_target_out_of_reach_is_named_before_the_training():
    x, y = digits(64)
    model = compiled(normed())
    with pytest.raises(
        ValueError, match=r"that may go is 0\.9.* at most, and 0\.9999 was asked for"
    ):
        model.fit(x, y, epochs=9, verbose=0, callbacks=[ptkeras.PruneTrain(target=1e-4)])
    assert "apply" not in vars(model.optimizer)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"target": 0.5, "ratio": 0.2}, "target=0.5, for a budget, or ratio=0.2, for the paper"),
        ({"of": "params", "threshold": 0.1}, "of='params', for a budget, or threshold=0.1"),
        ({"target": 1}, "target of PruneTrain must be over 0 and under 1; received 1"),
        ({"target": "half"}, "received 'half'"),
        ({"target": 0.5, "epochs": 0}, "epochs of PruneTrain must be a whole number from 1"),
        (
            {"target": 0.5, "interval": 0},
            "interval of PruneTrain must be a whole number of epochs from 1",
        ),
        ({"of": "weights"}, 'of of PruneTrain must be "flops", "params" or "channels"'),
        ({"of": "latency"}, "received 'latency'"),
        ({"leave_alone": "conv"}, "leave_alone of PruneTrain must be a list of layer names"),
    ],
)
def test_wrong_arguments_are_named(arguments, says):
    with pytest.raises(ValueError, match=says):
        ptkeras.PruneTrain(**arguments)


@hypothesis.given(
    st.integers(0, 500),
    st.integers(2, 400),
    st.floats(0.01, 0.99),
    st.none() | st.integers(1, 500),
)
def test_stages_follow_each_other_and_leave_time(first, epochs, target, interval):
    plan = stages(first, first + epochs, target, interval)
    assert all(one.choose_after < one.remove_after for one in plan)
    assert all(one.remove_after <= other.choose_after for one, other in itertools.pairwise(plan))
    assert first < plan[0].choose_after and plan[-1].remove_after <= first + epochs
    assert plan[-1].progress == pytest.approx(1)
    progress = [stage.progress for stage in plan]
    assert progress == sorted(progress) and progress[0] > 0
    if epochs >= 10 and interval is None:
        assert plan[-1].remove_after - first <= 0.4 * epochs
