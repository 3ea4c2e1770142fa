"""Code that reads the weights and the sizes of a layer beside calling it, or changes its calls."""

import keras
import pytest
from keras import layers, ops

from ptkeras.channels import trace
from tests.exactness import assert_exact, sparing_keep
from tests.helpers.random_networks import tied


class Own(layers.Layer):
    """Computes what it is given, out of a dense layer."""

    def __init__(self, code):
        super().__init__()
        self.dense = layers.Dense(5, name="inner")
        self.code = code

    def build(self, shape):
        self.dense.build(shape)

    def call(self, x):
        return self.code(self.dense, x)


def network(layer):
    x = keras.Input((3, 4))
    y = layers.Dense(6, name="before")(x)
    return keras.Model(x, layers.Dense(2)(layers.Dense(4)(layer(y))))


def prunable(model, name):
    channel_map = trace(model)
    row = next(r for r in channel_map.slices if r.role == "output" and r.layer.name == name)
    return bool((~channel_map.frozen[row.channels]).all())


WEIGHTS = {
    "mean of the rows": lambda dense, x: dense(x) * ops.mean(dense.kernel, 0),
    "mean of all": lambda dense, x: dense(x) * ops.mean(dense.kernel),
    "largest": lambda dense, x: dense(x) + ops.max(dense.kernel, 0),
    "variance": lambda dense, x: dense(x) / ops.sqrt(ops.var(dense.kernel, axis=0) + 1),
    "first": lambda dense, x: dense(x) * dense.kernel[0, 0],
    "back again": lambda dense, x: ops.matmul(ops.relu(dense(x)), ops.transpose(dense.kernel)),
    "cosines": lambda dense, x: dense(x) + ops.sum(ops.cos(dense.kernel)),
}
SIZES = {
    "root of the units": lambda dense, x: dense(x) / dense.units**0.5,
    "shape of the kernel": lambda dense, x: dense(x) * float(dense.kernel.shape[1]),
    "bounds": lambda dense, x: ops.clip(dense(x), -dense.units / 10.0, dense.units / 10.0),
    "slope": lambda dense, x: ops.leaky_relu(dense(x), negative_slope=1.0 / dense.units),
}


@pytest.mark.parametrize("name", [*WEIGHTS, *SIZES])
@pytest.mark.parametrize("seed", [0, 1])
def test_what_code_reads_of_a_layer_stays_what_it_was(name, seed):
    model = network(Own((WEIGHTS | SIZES)[name]))
    before, after = assert_exact(model, keep=lambda m: sparing_keep(m, seed), seed=seed)
    assert after < before


@pytest.mark.parametrize("name", SIZES)
def test_sizes_that_code_computes_with_keep_their_channels(name):
    model = network(Own(SIZES[name]))
    assert not prunable(model, "inner") and prunable(model, "before")


def test_code_that_computes_with_numbers_of_weights_is_closed():
    model = network(Own(lambda dense, x: dense(x) * ops.mean(dense.weights[0])))
    with pytest.warns(UserWarning, match="computes with the numbers of"):
        channel_map = trace(model)
    assert channel_map.prunable.sum() == 4


def test_numbers_of_a_bias_go_with_their_channels():
    model = network(Own(lambda dense, x: dense(x) * ops.exp(dense.bias)))
    assert prunable(model, "inner")
    assert_exact(model)


@pytest.mark.parametrize("kind", ["functional", "sequential"])
def test_a_model_with_a_call_set_on_it_is_no_graph(kind):
    inner = keras.Sequential([keras.Input((3, 6)), layers.Dense(5), layers.Dense(6)])
    if kind == "functional":
        x = keras.Input((3, 6))
        inner = keras.Model(x, layers.Dense(6)(layers.Dense(5)(x)))
    own = inner.call
    inner.call = lambda x, training=None, mask=None: own(x) + ops.mean(x, -1, keepdims=True)
    model = network(inner)
    assert not prunable(model, "before")
    assert_exact(model, keep=sparing_keep)


@keras.saving.register_keras_serializable("tests")
class Doubled(layers.Dense):
    """Returns something else than its `call` does."""

    def __call__(self, *args, **kwargs):
        return ops.stack(super().__call__(*args, **kwargs), 0)[0] * 2.0


def test_what_is_around_a_call_in_code_is_not_overlooked():
    class Holder(layers.Layer):
        def __init__(self):
            super().__init__()
            self.inner = Doubled(5, name="inner")

        def build(self, shape):
            self.inner.build(shape)

        def call(self, x):
            return self.inner(x)

        def compute_output_shape(self, shape):
            return (*shape[:-1], 5)

    with pytest.warns(UserWarning, match="`__call__` that returns something else"):
        channel_map = trace(network(Holder()))
    assert channel_map.prunable.sum() == 4


def test_an_axis_that_only_code_reads_of_a_kernel_stays():
    class Depthwise(layers.Layer):
        def __init__(self):
            super().__init__()
            self.inner = layers.DepthwiseConv1D(2, depth_multiplier=3)

        def build(self, shape):
            self.inner.build(shape)

        def call(self, x):
            kernel = ops.reshape(ops.sum(self.inner.kernel, (0, 1)), (1, 1, 3))
            return ops.concatenate([self.inner(x), x[:, :2, :3] * kernel], -1)

        def compute_output_shape(self, shape):
            return (shape[0], 2, 3 * shape[-1] + 3)

    for seed in range(3):
        assert_exact(network(Depthwise()), keep=lambda m, s=seed: sparing_keep(m, s), seed=seed)


def test_a_mixin_behind_a_layer_is_seen():
    class Mean(layers.Layer):
        def __call__(self, *args, **kwargs):
            y = super().__call__(*args, **kwargs)
            return y + ops.mean(y, -1, keepdims=True)

    class Mixed(layers.Dense, Mean):
        pass

    assert_exact(network(layers.TimeDistributed(Mixed(5))), keep=sparing_keep)


def test_what_one_of_two_layers_needs_of_their_kernel_stays():
    x = keras.Input((6, 6))
    first, second = layers.Dense(6), layers.EinsumDense("btc,td->bdc", (6, 6))
    y = layers.Dense(6)(x)
    model = keras.Model(x, layers.Dense(2)(layers.Flatten()(first(y) + second(y))))
    tied(second, first)
    assert trace(model).frozen.all()


class Part(keras.Model):
    """Has a `call` of its own, and inputs of a size that it checks."""

    def call(self, inputs):
        return super().call(inputs)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_code_is_tried_with_fewer_channels_in_each_part_of_a_concatenation(seed):
    x, inner = keras.Input((3, 4)), keras.Input((3, 6))
    part = Part(inner, layers.Concatenate()([inner, layers.Dense(2, "relu")(inner)]))

    class Holder(layers.Layer):
        def __init__(self):
            super().__init__()
            self.part = part

        def call(self, inputs):
            return self.part(inputs)

    y = Holder()(layers.Dense(6, name="before")(x))
    model = keras.Model(x, layers.Dense(2)(y))
    assert not prunable(model, "before")
    assert_exact(model, keep=lambda channel_map: sparing_keep(channel_map, seed), seed=seed)


@keras.saving.register_keras_serializable("tests")
class Standardized(layers.Dense):
    """Has a kernel that is made of its variable."""

    @property
    def kernel(self):
        return self._kernel / ops.sqrt(ops.sum(self._kernel**2, 0, keepdims=True) + 1.0)


def test_a_layer_whose_kernel_is_a_property_says_its_new_size():
    x, layer = keras.Input((3, 4)), Standardized(6)
    model = Part(x, layers.Dense(2)(layer(layers.Dense(6)(x))))
    assert_exact(model, keep=sparing_keep)
    assert layer.units == layer._kernel.shape[-1] < 6
