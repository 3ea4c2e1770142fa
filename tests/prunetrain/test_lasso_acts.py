"""The lasso acts whatever a training step adds up, and λ and FLOPs do not depend on it."""

import hypothesis
import hypothesis.strategies as st
import keras
import numpy as np
import pytest
from keras import layers

import ptkeras
from ptkeras import lasso
from ptkeras.channels import trace
from ptkeras.fisher.gradients import gradients_at
from tests.helpers.digits_network import compiled, digits, network
from tests.helpers.forced import Forced

pytestmark = pytest.mark.thorough


class WithoutLosses(keras.Model):
    """Leaves `self.losses` out of its loss."""

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        return keras.losses.sparse_categorical_crossentropy(y, y_pred, from_logits=True)


class MeanWithoutLosses(WithoutLosses):
    def compute_loss(self, *args, **kwargs):
        return keras.ops.mean(super().compute_loss(*args, **kwargs))


def of_class(cls, width=8):
    plain = network(width)
    return cls(plain.input, plain.output)


def norms(model):
    return lasso.group_norms(trace(model))


@pytest.mark.compiles_much
@pytest.mark.parametrize("size", [192, 150])
def test_it_acts_on_a_loss_without_self_losses_as_on_any_other(size):
    x, y = digits(size)
    weights, history = [], []
    for cls in (keras.Model, MeanWithoutLosses):
        keras.utils.set_random_seed(1)
        model = compiled(of_class(cls))
        callback = ptkeras.PruneTrain(ratio=0.6, interval=2, threshold=1e-9, verbose=0)
        log = model.fit(x, y, 64, epochs=2, shuffle=False, callbacks=[callback], verbose=0)
        weights.append(model.get_weights())
        history.append(log.history)
    for a, b in zip(*weights, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(history[0]["lasso"], history[1]["lasso"], rtol=1e-4)
    flops = ptkeras.cost.training_flops(model)
    assert [log["training_flops"] for log in history] == [[size * flops, 2 * size * flops]] * 2
    # The figure that fit shows has it only where the loss has.
    assert history[0]["loss"][-1] > history[1]["loss"][-1] + 0.5 * history[0]["lasso"][-1]


def test_a_regularizer_that_is_not_in_the_loss_is_not_taken_from_it():
    x, y = digits(64)
    strengths = []
    for l2 in (None, keras.regularizers.L2(0.5)):
        keras.utils.set_random_seed(1)
        model = compiled(of_class(MeanWithoutLosses))
        model.get_layer("stem").kernel.regularizer = l2
        callback = ptkeras.PruneTrain(ratio=0.2, interval=1, verbose=0)
        model.fit(x, y, 64, callbacks=[callback], verbose=0)
        strengths.append(callback.strength)
    assert strengths[0] == pytest.approx(strengths[1], rel=1e-5)


@pytest.mark.tensorflow
def test_a_train_step_and_metrics_of_the_users_own():
    import tensorflow as tf

    tracker = keras.metrics.Mean(name="loss")

    class Own(keras.Model):
        metrics = property(lambda self: [tracker])

        def train_step(self, data):
            x, y = data
            with tf.GradientTape() as tape:
                outputs = self(x, training=True)
                loss = keras.losses.sparse_categorical_crossentropy(y, outputs, from_logits=True)
                loss = tf.reduce_mean(loss)
            variables = self.trainable_variables
            slopes = tape.gradient(loss, variables)
            self.optimizer.apply_gradients(zip(slopes, variables, strict=True))
            tracker.update_state(loss)
            return {"loss": tracker.result()}

    x, y = digits(100)
    model = of_class(Own)
    model.compile(keras.optimizers.SGD(0.05), steps_per_execution=2)
    before, flops = norms(model), ptkeras.cost.training_flops(model)
    callback = ptkeras.PruneTrain(ratio=0.9, interval=4, threshold=1e-9)
    log = model.fit(x, y, 32, epochs=4, callbacks=[callback], verbose=0).history
    assert norms(model) < 0.9 * before
    assert log["training_flops"] == [100 * flops * n for n in (1, 2, 3, 4)]
    assert "train_step" not in vars(model) and "apply" not in vars(model.optimizer)


class ByHand(keras.Model):
    """Trains without an optimizer of Keras."""

    def train_step(self, *args):
        state, (_, y) = (None, args[0]) if len(args) == 1 else args
        logs = {"loss": keras.ops.mean(keras.ops.cast(y, "float32"))}
        return logs if state is None else (logs, state)


def test_what_no_optimizer_of_keras_trains_is_refused_after_one_batch():
    x, y = digits(64)
    model = compiled(of_class(ByHand))
    steps = []

    class Steps(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            steps.append(batch)

    with pytest.raises(ValueError, match=r"does not act on .* PruneTrain.penalty\(\) in the loss"):
        model.fit(
            x, y, 8, callbacks=[Steps(), ptkeras.PruneTrain(ratio=0.2, interval=1)], verbose=0
        )
    assert len(steps) == 1
    assert not lasso.is_attached(model) and "apply" not in vars(model.optimizer)


OPTIMIZERS = {
    "momentum": lambda: keras.optimizers.SGD(0.05, momentum=0.9),
    "clipped": lambda: keras.optimizers.Adam(0.01, global_clipnorm=0.5),
    "accumulated": lambda: keras.optimizers.SGD(0.05, gradient_accumulation_steps=2),
    "scaled": lambda: keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.05)),
    "scaled by a factor": lambda: keras.optimizers.SGD(0.05, loss_scale_factor=64.0),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_optimizer_adds_what_the_loss_would(name):
    x, y = digits(128)
    weights = []
    for attached in (False, True):
        keras.utils.set_random_seed(1)
        model = compiled(network(4), OPTIMIZERS[name]())
        channel_map = trace(model)
        if attached:
            lasso.attach(channel_map, 0.05)
        else:
            groups = lasso.groups_of(channel_map, ~channel_map.frozen)
            for variable in model.trainable_variables:
                if id(variable) in groups:
                    variable.regularizer = ptkeras.GroupLasso(0.05, groups[id(variable)])
        model.fit(x, y, 32, shuffle=False, verbose=0)
        weights.append(model.get_weights())
        lasso.detach(model)
    for a, b in zip(*weights, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4)


@pytest.mark.compiles_much
@hypothesis.given(
    st.lists(st.integers(1, 4), min_size=2, max_size=4),
    st.data(),
)
@hypothesis.settings(max_examples=15)
def test_the_gradient_is_that_of_the_penalty(shape, data):
    axes = data.draw(st.lists(st.integers(0, len(shape) - 1), min_size=1, max_size=2, unique=True))
    ids = st.one_of(st.none(), st.integers(-1, 2))
    groups = {}
    for axis in axes:
        several = data.draw(ids)
        size = shape[axis]
        groups[axis] = None
        if several is not None:
            groups[axis] = data.draw(st.lists(st.integers(-1, 2), min_size=size, max_size=size))
    seed = data.draw(st.integers(0, 99))
    kernel = np.random.default_rng(seed).normal(size=shape).astype("float32")
    regularizer = ptkeras.GroupLasso(0.7, groups)
    tensor = keras.ops.convert_to_tensor(kernel)
    (slope,), _ = gradients_at(lambda values: (regularizer(values[0]), None), [tensor])
    found = keras.ops.convert_to_numpy(regularizer.gradient(tensor))
    np.testing.assert_allclose(found, slope, rtol=1e-4, atol=1e-5)


def test_an_apply_of_the_users_own_is_called_and_stays():
    x, y = digits(64)
    model = compiled()
    calls, plain = [], model.optimizer.apply

    def apply(grads, trainable_variables=None):
        calls.append(1)
        plain(grads, trainable_variables)

    model.optimizer.apply = apply
    model.fit(x, y, callbacks=[ptkeras.PruneTrain(ratio=0.2, interval=1, verbose=0)], verbose=0)
    assert calls and model.optimizer.apply is apply


def test_losses_that_depend_on_data_are_measured_on_the_first_batch():
    x, y = digits(64)
    before = {
        "nothing": lambda model: None,
        "a call": lambda model: model(30 * x),
        "an evaluation": lambda model: model.evaluate(x, y, verbose=0),
    }
    strengths = {}
    for name, do in before.items():
        keras.utils.set_random_seed(1)
        model = network(4)
        model.get_layer("head").activity_regularizer = keras.regularizers.L2(0.01)
        compiled(model)
        do(model)
        callback = ptkeras.PruneTrain(ratio=0.2, interval=1, verbose=0)
        model.fit(x, y, 64, shuffle=False, callbacks=[callback], verbose=0)
        strengths[name] = callback.strength
    assert list(strengths.values()) == pytest.approx([strengths["nothing"]] * 3, rel=1e-5)


def frozen(names, width=4):
    model = network(width)
    for name in names:
        model.get_layer(name).trainable = False
    return compiled(model)


def test_a_network_whose_channels_do_not_train_is_refused_before_the_first_batch():
    x, y = digits(32)
    model = frozen(["stem", "inner", "outer"])
    before = model.get_weights()
    with pytest.raises(ValueError, match=r"kernels that do not train \(stem, inner, outer\)"):
        model.fit(x, y, epochs=2, callbacks=[ptkeras.PruneTrain(ratio=0.2, interval=1)], verbose=0)
    for a, b in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_channels_of_kernels_that_do_not_train_are_named_and_kept():
    x, y = digits(64)
    inputs = keras.Input((8, 8, 1))
    h = layers.Conv2D(4, 3, name="fixed", trainable=False)(inputs)
    h = layers.Conv2D(6, 3, name="free", activation="relu")(h)
    h = layers.GlobalAveragePooling2D()(h)
    model = compiled(keras.Model(inputs, layers.Dense(10, name="head")(h)))
    callback = ptkeras.PruneTrain(ratio=0.5, interval=1, threshold=1e-6, verbose=0)
    with pytest.warns(UserWarning, match=r"acts on 6 of the 10 .* do not train \(fixed\)"):
        log = model.fit(x, y, epochs=2, callbacks=[callback], verbose=0).history
    assert log["channels"] == [6, 6] and np.isfinite(log["lasso"]).all()
    groups = lasso.groups_of(callback._map, callback._free)
    assert set(groups[id(model.get_layer("free").kernel)]) == {3}  # none of what it reads


@pytest.mark.compiles_much
@pytest.mark.parametrize("policy", ["float64", "bfloat16", "float16"])
def test_policies_of_one_type(policy):
    x, y = digits(64)
    keras.config.set_dtype_policy(policy)
    try:
        inputs = keras.Input((8, 8, 1))
        h = layers.Conv2D(6, 3, activation="relu")(inputs)
        h = layers.Conv2D(6, 3, activation="relu", kernel_initializer="zeros")(h)
        h = layers.GlobalAveragePooling2D()(h)
        model = keras.Model(inputs, layers.Dense(10)(h))
    finally:
        keras.config.set_dtype_policy("float32")
    compiled(model, keras.optimizers.SGD(0.01))
    callback = Forced(ratio=0.3)
    log = model.fit(x, y, epochs=2, callbacks=[callback], verbose=0).history
    assert np.isfinite(log["loss"]).all() and len(callback.reconfigurations) == 2
    assert all(np.isfinite(np.asarray(w, "float32")).all() for w in model.get_weights())
    model.fit(x, y, verbose=0)


def test_what_removes_nothing_is_no_reconfiguration(monkeypatch):
    x, y = digits(64)
    model = compiled()
    calls = []
    whole = ptkeras.prunetrain.channels.remove
    monkeypatch.setattr(
        "ptkeras.prunetrain.channels.remove",
        lambda *args, **kwargs: (calls.append(1), whole(*args, **kwargs))[1],
    )
    callback = ptkeras.PruneTrain(ratio=0.2, interval=1, threshold=9.0, verbose=0)
    model.fit(x, y, epochs=5, callbacks=[callback], verbose=0)
    assert [record["epoch"] for record in callback.reconfigurations] == [1]
    assert {n for _, n in callback.reconfigurations[0]["layers"].values()} >= {1}  # one is needed
    tries = len(calls)
    model.fit(x, y, epochs=3, callbacks=[callback], verbose=0)
    assert len(callback.reconfigurations) == 1 and len(calls) <= tries + 2
