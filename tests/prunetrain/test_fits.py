"""What one fit leaves to the next, and what ends a fit early."""

import keras
import numpy as np
import pytest
from keras import layers

import ptkeras
from ptkeras import lasso
from ptkeras.channels import trace
from tests.exactness import outputs_of
from tests.helpers.digits_network import compiled, digits, network
from tests.helpers.forced import Forced

pytestmark = pytest.mark.thorough


def norms(model):
    return lasso.group_norms(trace(model))


def strong(**kwargs):
    return ptkeras.PruneTrain(ratio=0.9, interval=3, threshold=1e-9, **kwargs)


def test_the_lasso_acts_on_a_model_that_was_trained_before():
    x, y = digits()
    fresh, warm = compiled(), compiled()
    warm.fit(x[:16], y[:16], verbose=0)
    shrunk = {}
    for name, model in (("fresh", fresh), ("warm", warm)):
        before = norms(model)
        model.fit(x, y, epochs=3, callbacks=[strong()], verbose=0)
        shrunk[name] = norms(model) / before
    assert shrunk["fresh"] < 0.9
    assert shrunk["warm"] == pytest.approx(shrunk["fresh"], abs=0.1)


def test_no_lasso_is_left_for_the_next_fit():
    x, y = digits()
    model = compiled(optimizer=keras.optimizers.SGD(0.01))
    model.fit(x, y, epochs=3, callbacks=[strong()], verbose=0)
    history = model.fit(x, y, epochs=1, batch_size=len(x), verbose=0)
    assert history.history["loss"][0] < 3  # with the lasso it was ten times the cross-entropy


def test_an_interrupted_fit_does_not_mislead_the_next():
    x, y = digits(64)

    class Interrupt(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            raise KeyboardInterrupt

    model = compiled(optimizer=keras.optimizers.SGD(1e-9))
    first = strong()
    with pytest.raises(KeyboardInterrupt):
        model.fit(x, y, batch_size=64, epochs=3, callbacks=[first, Interrupt()], verbose=0)
    second = strong()
    model.fit(x, y, batch_size=64, epochs=3, callbacks=[second], verbose=0)
    assert second.strength == pytest.approx(first.strength, rel=1e-3)


def test_a_callback_starts_anew_on_another_model():
    x, y = digits(64)
    callback = ptkeras.PruneTrain(ratio=0.2, interval=1, threshold=1e-9)
    strengths = []
    for width in (4, 8):
        model = compiled(network(width))
        model.fit(x, y, callbacks=[callback], verbose=0)
        strengths.append(callback.strength)
        assert callback.training_flops == 64 * ptkeras.cost.training_flops(model)
    assert strengths[0] != strengths[1]


def test_a_training_that_is_ended_early_is_pruned_at_its_end():
    x, y = digits()
    model = compiled()

    class Stop(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            self.model.stop_training = epoch == 1

    callback = Forced(interval=5)
    params = model.count_params()
    model.fit(x, y, epochs=10, callbacks=[callback, Stop()], verbose=0)
    assert [r["epoch"] for r in callback.reconfigurations] == [2]
    assert model.count_params() < params


def test_weights_of_an_earlier_fit_are_plain_weights():
    x, y = digits()
    model = compiled()
    model.fit(x, y, epochs=1, callbacks=[Forced()], verbose=0)
    weights, outputs = model.get_weights(), outputs_of(model, x)[0]
    model.fit(x, y, epochs=1, callbacks=[strong_but_short()], verbose=0)
    model.set_weights(weights)
    np.testing.assert_allclose(outputs_of(model, x)[0], outputs, rtol=1e-5, atol=1e-5)


def strong_but_short():
    return ptkeras.PruneTrain(ratio=0.2, interval=1, threshold=1e-9)


@pytest.mark.parametrize("structure", ["dict", "list"])
def test_models_with_several_named_outputs(structure):
    x, y = digits()
    trunk = network()
    hidden = trunk.get_layer("head").input
    outputs = {name: layers.Dense(10, name=name)(hidden) for name in ("a", "b")}
    targets = {"a": y, "b": y}
    if structure == "list":
        outputs = list(outputs.values())
        targets = [y, y]
    model = keras.Model(trunk.input, outputs)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    losses = {"a": loss, "b": loss} if structure == "dict" else [loss, loss]
    metrics = {"a": ["accuracy"], "b": ["accuracy"]}
    model.compile("adam", losses, metrics=metrics)
    callback = Forced(share=0.4)
    history = model.fit(x, targets, epochs=3, callbacks=[callback], verbose=0)
    assert len(callback.reconfigurations) >= 2
    assert "a_accuracy" in history.history
    assert isinstance(model(x[:2]), dict if structure == "dict" else list)
    assert model.output_names == ["a", "b"]


def test_an_output_that_loses_a_branch_keeps_its_name():
    inputs = keras.Input((8, 8, 1))
    x = layers.Conv2D(4, 3, padding="same", name="trunk")(inputs)
    y = layers.Conv2D(3, 3, padding="same", activation="relu", name="branch")(x)
    y = layers.Conv2D(1, 1, name="back")(y)
    out = layers.Add(name="out")([layers.Conv2D(1, 1, name="direct")(x), y])
    model = keras.Model(inputs, out)
    channel_map = trace(model)
    keep = np.ones(len(channel_map), bool)
    keep[channel_map.produced()["branch"]] = False
    ptkeras.reconfigure(model, keep)
    assert model.output_names == ["out"]


def swish_twice(x):
    return keras.ops.silu(keras.ops.silu(x))


class Halve(keras.regularizers.Regularizer):
    """A regularizer that nobody registered with Keras."""

    def __call__(self, x):
        return 0.5e-3 * keras.ops.sum(keras.ops.square(x))

    def get_config(self):
        return {}


def test_functions_and_objects_of_the_users_own_stay():
    x, y = digits()
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            layers.Conv2D(8, 3, activation=swish_twice, kernel_regularizer=Halve()),
            layers.Conv2D(8, 3, activation=lambda t: keras.ops.relu(t)),
            layers.Flatten(),
            layers.Dense(10),
        ]
    )
    compiled(model).fit(x, y, epochs=2, callbacks=[Forced()], verbose=0)
    first = model.layers[0]
    assert first.filters < 8 and first.activation is swish_twice
    assert isinstance(first.kernel.regularizer, Halve)


class Stubborn(layers.Layer):
    """A layer that cannot be made again: its config leaves out what its constructor asks for."""

    def __init__(self, scale):
        super().__init__()
        self.scale = np.full((), scale)

    def call(self, x):
        return x * float(self.scale)

    def get_config(self):
        return {}


def test_what_cannot_be_made_again_from_its_config_stays_the_layer_that_it_is():
    x, y = digits(32)
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            layers.Conv2D(4, 3),
            Stubborn(2.0),
            layers.Flatten(),
            layers.Dense(8),
            layers.Dense(10),
        ]
    )
    layer, params = model.layers[1], model.count_params()
    compiled(model).fit(x, y, epochs=2, callbacks=[Forced()], verbose=0)
    assert model.layers[1] is layer and model.count_params() < params


def test_a_schedule_cannot_be_scaled():
    x, y = digits(32)
    rate = keras.optimizers.schedules.ExponentialDecay(0.1, 10, 0.5)
    model = compiled(optimizer=keras.optimizers.SGD(rate))
    callback = ptkeras.PruneTrain(ratio=0.2, interval=1, batch_size=np.array(32))
    with pytest.raises(ValueError, match="is a schedule or a function"):
        model.fit(x, y, callbacks=[callback], verbose=0)


def test_steps_per_execution_and_compiled_by_xla():
    x, y = digits()
    options = {"jit_compile": True}
    if keras.config.backend() != "torch":
        options["steps_per_execution"] = 2
    model = compiled(**options)
    callback = Forced()
    model.fit(x, y, epochs=2, batch_size=64, callbacks=[callback], verbose=0)
    assert len(callback.reconfigurations) == 2


@pytest.mark.parametrize("spared", ["stem made", "inner read", "outer made", "head read"])
def test_union_keeps_what_one_layer_uses(spared):
    """Channel 0 of the shortcut stays as long as a single group of it is over the threshold."""
    model = network()
    groups = {"stem made": 3, "inner read": 2, "outer made": 3, "head read": 0}
    for name, axis in groups.items():
        kernel = model.get_layer(name.split()[0]).kernel
        values = keras.ops.convert_to_numpy(kernel.value).copy()
        np.moveaxis(values, axis, 0)[0] = 1e-3 if name == spared else 1e-6
        kernel.assign(values)
    shortcut = trace(model).produced()["stem"][0]
    scores = ptkeras.importance.channel_magnitudes(trace(model))
    assert scores[shortcut] == pytest.approx(1e-3, rel=1e-3)


def test_slots_stay_beside_their_weights_when_a_branch_leaves():
    """Keras pairs slots and weights by position; a branch that leaves reorders the layers."""
    inputs = keras.Input((8, 8, 1))
    x = layers.Conv2D(4, 3, padding="same", name="stem")(inputs)
    deep = x
    for i in range(4):
        deep = layers.Conv2D(4, 3, padding="same", activation="relu", name=f"deep{i}")(deep)
    side = layers.Conv2D(4, 3, padding="same", name="side0")(x)
    side = layers.Conv2D(4, 3, padding="same", name="side1")(side)
    late = layers.Conv2D(4, 3, padding="same", name="late")(layers.Add()([x, deep]))
    x = layers.Add()([late, side])
    outputs = layers.Dense(10, name="head")(layers.GlobalAveragePooling2D()(x))
    averages = keras.backend.backend() != "jax"  # where Keras 3.15 cannot fit twice with use_ema
    optimizer = keras.optimizers.SGD(1e-9, momentum=0.9, use_ema=averages, ema_momentum=0.5)
    model = compiled(keras.Model(inputs, outputs), optimizer)
    x, y = digits(32)
    model.fit(x, y, verbose=0)
    channel_map = trace(model)
    keep = np.ones(len(channel_map), bool)
    keep[channel_map.produced()["deep1"]] = False
    ptkeras.reconfigure(model, keep)
    assert "deep1" not in {layer.name for layer in model.layers}
    paths = [v.path for v in model.trainable_variables]
    assert [v.path for v in optimizer._trainable_variables] == paths
    before = {v.path: keras.ops.convert_to_numpy(v.value) for v in model.trainable_variables}
    model.fit(x, y, verbose=0)  # ends with the averages put into the weights, by position
    for variable in model.trainable_variables:
        np.testing.assert_allclose(variable, before[variable.path], atol=1e-4)
