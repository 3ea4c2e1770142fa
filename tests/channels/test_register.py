import warnings

import keras
import numpy as np
import pytest
from keras import layers, ops

import ptkeras
from ptkeras.channels import registry, trace
from ptkeras.surgery import sizes as resizers
from tests.exactness import assert_exact, assert_same, inputs_for, outputs_of


@keras.saving.register_keras_serializable("test_register")
class Scale(layers.Layer):
    """A number per channel, found in the input's shape."""

    def build(self, shape):
        self.gamma = self.add_weight(shape=(shape[-1],), initializer="ones")

    def call(self, x):
        return x * self.gamma


@keras.saving.register_keras_serializable("test_register")
class Mix(layers.Layer):
    """A kernel whose size the config says."""

    def __init__(self, units, **kwargs):
        super().__init__(**kwargs)
        self.units = units

    def build(self, shape):
        self.kernel = self.add_weight(shape=(shape[-1], self.units))

    def call(self, x):
        return ops.matmul(x, self.kernel)

    def get_config(self):
        return super().get_config() | {"units": self.units}


@pytest.fixture(autouse=True)
def _rules_of_this_test(monkeypatch):
    monkeypatch.setattr(registry, "_RULES", dict(registry._RULES))
    monkeypatch.setattr(resizers, "_RESIZERS", dict(resizers._RESIZERS))


def network(*middle):
    inputs = keras.Input((6, 6, 3))
    x = layers.Conv2D(8, 3, name="before")(inputs)
    for layer in middle:
        x = layer(x)
    return keras.Model(inputs, layers.Dense(2)(layers.Flatten()(layers.Conv2D(5, 3)(x))))


def add_scale_rule():
    @ptkeras.channels.register(Scale)
    def _(call):
        labels = call.along(call.inputs[0], axis=-1)
        call.vector(call.op.gamma, labels)
        return call.inputs[0]


def add_mix_rule():
    @ptkeras.channels.register(Mix)
    def _(call):
        call.consume(call.op.kernel, 0, call.along(call.inputs[0], axis=-1))
        return call.spread(call.produce(call.op.kernel, 1), -1, 4)


class Opaque(Scale):
    """Cannot be seen through."""

    def call(self, x):
        if isinstance(x, keras.KerasTensor):
            raise TypeError("takes no symbolic tensors.")
        return super().call(x)


def test_a_layer_that_cannot_be_seen_through_keeps_what_touches_it_and_is_named_once():
    shared = Opaque(name="mine")
    model = network(shared, shared)
    reason = "'mine' \\(a Opaque\\).*takes no symbolic tensors"
    with pytest.warns(UserWarning, match=reason) as caught:
        channel_map = trace(model)
    assert sum("No rule" in str(w.message) for w in caught) == 1
    assert channel_map.frozen[channel_map.produced()["before"]].all()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        before, after = assert_exact(model)
    assert after < before


def test_a_rule_of_a_few_lines_is_all_that_a_vector_per_channel_needs():
    add_scale_rule()
    model = network(Scale(name="mine"))
    before, after = assert_exact(model)
    assert after < before
    assert model.get_layer("mine").gamma.shape[0] == model.get_layer("before").filters < 8


def test_a_layer_whose_config_says_its_size_needs_a_second_one():
    add_mix_rule()

    @ptkeras.surgery.register(Mix)
    def _(layer, attributes, sizes):
        attributes["units"] = sizes.shape(layer.kernel)[-1]

    model = network(Mix(7, name="mine"))
    before, after = assert_exact(model)
    assert after < before and model.get_layer("mine").units < 7


def saved_and_loaded(model, path):
    inputs = inputs_for(model)
    model.save(path / "model.keras")
    loaded = keras.models.load_model(path / "model.keras")
    assert_same(outputs_of(model, inputs), outputs_of(loaded, inputs), 1e-6)


def test_without_it_an_argument_that_is_the_size_follows_by_itself(tmp_path):
    add_mix_rule()
    model = network(Mix(7, name="mine"))
    layer = model.get_layer("mine")
    assert_exact(model)
    assert model.get_layer("mine") is layer
    assert layer.units == layer.kernel.shape[-1] < 7
    saved_and_loaded(model, tmp_path)


@keras.saving.register_keras_serializable("test_register")
class Halves(Mix):
    """Its argument is not the size, which no rule says."""

    def __init__(self, half, **kwargs):
        super().__init__(2 * half, **kwargs)
        self.half = half

    def get_config(self):
        return keras.layers.Layer.get_config(self) | {"half": self.half}


def test_what_the_config_does_not_say_is_not_saved(tmp_path):
    add_mix_rule()
    model = network(Halves(4, name="mine"))
    assert_exact(model)
    with pytest.raises(ValueError, match=r"'mine' \(a Halves\).*ptkeras\.as_functional"):
        model.save(tmp_path / "model.keras")


@keras.saving.register_keras_serializable("test_register")
class Fixed(Scale):
    """Its size is an argument, and no rule says how."""

    def __init__(self, size, **kwargs):
        super().__init__(**kwargs)
        self.size = size

    def build(self, _):
        self.gamma = self.add_weight(shape=(self.size,), initializer="ones")

    def get_config(self):
        return super().get_config() | {"size": self.size}


def test_a_size_that_is_an_argument_of_a_subclass_follows_too(tmp_path):
    add_scale_rule()
    model = network(Fixed(8, name="mine"))
    assert_exact(model)
    assert model.get_layer("mine").size < 8
    saved_and_loaded(model, tmp_path)


def test_a_subclass_with_a_call_of_its_own_is_seen_through():
    class Doubled(layers.Dense):
        def call(self, x):
            return super().call(x)[..., ::-1]

    before, after = assert_exact(network(Doubled(7, name="mine")))
    assert after < before


def test_a_rule_that_says_the_wrong_size_is_told_so():
    @ptkeras.channels.register(Scale)
    def _(call):
        call.vector(call.op.gamma, np.arange(3))
        return call.inputs[0]

    with pytest.raises(ValueError, match="has 8 positions, but its rule names 3"):
        trace(network(Scale()))


def test_a_model_with_lora_keeps_what_touches_it():
    model = network()
    model.layers[-1].enable_lora(2)
    with pytest.warns(UserWarning, match="a Dense"):
        channel_map = trace(model)
    assert not channel_map.frozen[channel_map.produced()["before"]].any()
    ptkeras.reconfigure(model, np.ones(len(channel_map), bool))
