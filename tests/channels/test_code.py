"""Kinds of Python code in a `call` that lose channels rightly, or keep them."""

import subprocess
import sys

import keras
import numpy as np
import pytest
from keras import layers, ops

import ptkeras
from ptkeras.channels import trace
from tests.exactness import randomise, sparing_keep, zero


class Bias(layers.Layer):
    """Adds numbers that depend on an attribute, which says no size."""

    def __init__(self, most, **kwargs):
        super().__init__(**kwargs)
        self.most = most

    def call(self, x):
        numbers = np.linspace(0.0, self.most, x.shape[1]).reshape((-1, 1, 1))
        return x + ops.convert_to_tensor(numbers, x.dtype)


class Heads(layers.Layer):
    """Puts heads side by side whose width is an attribute, and by chance another layer's too."""

    def __init__(self, heads=2, width=6, **kwargs):
        super().__init__(**kwargs)
        self.heads, self.width = heads, width
        self.dense = layers.EinsumDense("btc,chd->bthd", (None, heads, width))
        self.bias, self.last = Bias(width), layers.Dense(3)

    def build(self, shape):
        self.dense.build(shape)
        self.last.build((*shape[:-1], self.heads * self.width))

    def call(self, x):
        x = ops.swapaxes(self.dense(x), 1, 2)
        x = ops.swapaxes(self.bias(x), 1, 2)
        return self.last(ops.reshape(x, (-1, ops.shape(x)[1], self.heads * self.width)))


class Clipped(layers.Layer):
    """Clips by variables, reads the kernel of a layer that it does not call, and casts weights."""

    def build(self, shape):
        self.low = self.add_weight(shape=(), initializer=keras.initializers.Constant(-0.5))
        self.dense = layers.EinsumDense("btc,cd->btd", (None, 6))
        self.dense.build(shape)
        self.scale = self.add_weight(shape=(6,), initializer="ones")
        self.last = layers.Dense(3)
        self.last.build((*shape[:-1], 6))

    def call(self, x):
        x = ops.clip(x, ops.cast(self.low, x.dtype), 2.0)
        x = ops.einsum("btc,cd->btd", x, self.dense.kernel) * ops.cast(self.scale, x.dtype)
        # Keras on JAX takes no variable for a bound.
        on_jax = keras.config.backend() == "jax"
        return self.last(ops.clip(x, ops.cast(self.low, x.dtype) if on_jax else self.low, 2.0))


class Experts(layers.Layer):
    """A bank of kernels in one variable."""

    def build(self, shape):
        self.first = self.add_weight(shape=(2, shape[-1], 6), name="first")
        self.second = self.add_weight(shape=(2, 6, 3), name="second")

    def call(self, x):
        x = ops.relu(ops.einsum("btc,ecd->betd", x, self.first))
        return ops.sum(ops.einsum("betd,edm->betm", x, self.second), 1)


class Scattered(layers.Layer):
    """Puts tokens in places of others."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.dense, self.token, self.last = layers.Dense(6), layers.Dense(6), layers.Dense(3)

    def build(self, shape):
        self.dense.build(shape)
        self.token.build(shape)
        self.last.build((*shape[:-1], 6))

    def call(self, x):
        tokens = self.token(np.ones((2, 5), "float32"))
        flat = self.dense(ops.reshape(x, (-1, x.shape[-1])))
        flat = ops.scatter_update(flat, np.array([[1], [3]]), tokens)
        return ops.reshape(self.last(flat), (-1, 4, 3))


class Joined(layers.Layer):
    """Calls a merge that has not been built, and an activation that is no function of Keras."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.one, self.two = layers.Dense(6, activation=halved), layers.Dense(6)
        self.join, self.last = layers.Concatenate(), layers.Dense(3)

    def build(self, shape):
        self.one.build(shape)
        self.two.build(shape)
        self.last.build((*shape[:-1], 12))

    def call(self, x):
        return self.last(self.join([self.one(x), self.two(x)]))


def halved(x):
    return x * ops.sigmoid(x * 0.5)


class Mistaken(layers.Layer):
    """Says to Keras that it has other axes, and an output more, than it returns."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.dense, self.last = layers.Dense(6), layers.Dense(3)

    def build(self, shape):
        self.dense.build(shape)
        self.last.build((*shape[:-1], 6))

    def call(self, x):
        x = self.dense(x)
        return self.last(x), ops.sum(x, -1, keepdims=True), None

    def compute_output_shape(self, shape):
        return (*shape[:-1], 3), shape[:1], shape


def network(block):
    inputs = keras.Input((4, 5))
    outputs = block(layers.Dense(5, name="before")(inputs))
    outputs = outputs[0] if isinstance(outputs, (list, tuple)) else outputs
    model = keras.Model(inputs, layers.Dense(2)(outputs))
    randomise(model)
    return model


BLOCKS = {cls.__name__: cls for cls in (Heads, Clipped, Experts, Scattered, Joined, Mistaken)}


@pytest.mark.parametrize("name", BLOCKS)
def test_code_loses_what_is_zero(name):
    model = network(BLOCKS[name](name="block"))
    x = np.random.default_rng(1).normal(size=(2, 4, 5)).astype("float32")
    channel_map = trace(model)
    inside = [row for row in channel_map.slices if "block" in row.variable.path]
    made = [row.channels for row in inside if row.role == "output"]
    assert any(len(c) == 6 and channel_map.prunable[c].all() for c in made)
    keep = sparing_keep(channel_map)
    zero(channel_map, keep)
    before = ops.convert_to_numpy(model(x))
    ptkeras.reconfigure(model, keep, channel_map=channel_map)
    np.testing.assert_allclose(ops.convert_to_numpy(model(x)), before, atol=1e-5)


def test_a_number_that_says_no_size_is_left_as_it_is():
    layer = Heads()
    sized = trace(network(layer)).graph.sized
    assert [(attribute.owner, attribute.name) for attribute in sized] == [(layer, "width")]


@pytest.mark.compiles_much
@pytest.mark.parametrize("name", ["Clipped", "Joined", "Mistaken"])
def test_the_functional_form_loads_without_the_classes(name, tmp_path):
    model = network(BLOCKS[name](name="block"))
    x = np.random.default_rng(1).normal(size=(2, 4, 5)).astype("float32")
    ptkeras.as_functional(model).save(tmp_path / "model.keras")
    np.save(tmp_path / "x.npy", x)
    code = (
        "import keras, numpy as np\n"
        f"model = keras.saving.load_model(r'{tmp_path / 'model.keras'}')\n"
        f"outputs = keras.ops.convert_to_numpy(model(np.load(r'{tmp_path / 'x.npy'}')))\n"
        f"np.save(r'{tmp_path / 'y.npy'}', outputs)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path)
    expected = ops.convert_to_numpy(model(x))
    np.testing.assert_allclose(np.load(tmp_path / "y.npy"), expected, atol=1e-6)


def test_the_name_of_an_initializer_is_made_for_any_width():
    class Scaled(layers.Layer):
        scale_initializer = "ones"

        def build(self, shape):
            self.scale = self.add_weight(shape=shape[-1:], name="scale")

        def call(self, x):
            return x * self.scale

    channel_map = trace(network(Scaled()))
    assert channel_map.prunable[channel_map.produced()["before"]].all()


def test_a_nested_model_that_is_called_on_one_axis_less_is_kept():
    inner_inputs = keras.Input((4, 1))
    inner = keras.Model(inner_inputs, layers.Dense(6, name="inside")(inner_inputs * 2.0))
    inputs = keras.Input((4,))
    model = keras.Model(inputs, layers.Dense(2)(inner(inputs)))
    channel_map = trace(model)
    assert not channel_map.prunable[channel_map.produced()["inside"]].any()
