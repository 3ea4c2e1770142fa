import warnings

import keras
import numpy as np
import pytest
from keras import layers, ops

import ptkeras
from ptkeras.channels import registry, trace
from ptkeras.surgery import sizes as resizers
from tests.exactness import assert_exact, random_keep


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


def test_a_layer_without_a_rule_keeps_what_touches_it_and_is_named_once():
    shared = Scale(name="mine")
    model = network(shared, shared)
    with pytest.warns(UserWarning, match="'mine' \\(a Scale\\)") as caught:
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


def test_without_it_the_error_says_what_is_missing_and_the_model_is_unharmed():
    add_mix_rule()
    model = network(Mix(7, name="mine"))
    layer = model.get_layer("mine")
    with pytest.raises(ValueError, match=r"'mine' \(a Mix\).*ptkeras\.surgery\.register"):
        ptkeras.reconfigure(model, random_keep(trace(model)))
    assert model.get_layer("mine") is layer


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


def test_a_layer_that_cannot_be_called_on_less_is_named():
    add_scale_rule()
    model = network(Fixed(8, name="mine"))
    with pytest.raises(ValueError, match=r"'mine' \(a Fixed\).*ptkeras\.surgery\.register"):
        ptkeras.reconfigure(model, random_keep(trace(model)))


def test_a_subclass_with_a_call_of_its_own_has_no_rule():
    class Doubled(layers.Dense):
        def call(self, x):
            return super().call(x)[..., ::-1]

    with pytest.warns(UserWarning, match="Doubled"):
        channel_map = trace(network(Doubled(7, name="mine")))
    assert channel_map.frozen[channel_map.produced()["before"]].all()


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
