"""Multiply-accumulates by layer, against counts done by hand, written out beside each number."""

import itertools
import warnings

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import layers, ops

from ptkeras import cost
from ptkeras.cost.calls import calls


def model_of(*stack, shape):
    return keras.Sequential([keras.Input(shape), *stack])


@pytest.mark.parametrize(
    ("layer", "shape", "expected"),
    [
        # positions · filters · kernel · channels / groups
        (layers.Conv1D(6, 5), (20, 4), 16 * 6 * 5 * 4),
        (layers.Conv1D(6, 5, padding="causal", dilation_rate=2), (20, 4), 20 * 6 * 5 * 4),
        (layers.Conv2D(8, 3, groups=4), (10, 12, 16), 8 * 10 * 8 * 9 * 4),
        (layers.Conv2D(8, (3, 5), strides=(1, 2)), (9, 9, 2), 7 * 3 * 8 * 15 * 2),
        (layers.Conv3D(4, 3, padding="same"), (4, 5, 6, 2), 120 * 4 * 27 * 2),
        # positions · channels · multiplier · kernel
        (layers.DepthwiseConv1D(3), (10, 4), 8 * 4 * 3),
        (layers.DepthwiseConv2D(3, depth_multiplier=2), (8, 8, 5), 36 * 5 * 2 * 9),
        # the same, then a 1 x 1 convolution
        (layers.SeparableConv1D(6, 3), (10, 4), 8 * 4 * 3 + 8 * 4 * 6),
        (
            layers.SeparableConv2D(6, 3, strides=2, depth_multiplier=2, padding="same"),
            (8, 8, 5),
            16 * 10 * 9 + 16 * 10 * 6,
        ),
        # each of the input's positions meets the whole kernel
        (layers.Conv1DTranspose(6, 4, strides=2), (5, 3), 5 * 4 * 3 * 6),
        (layers.Conv2DTranspose(6, 3, strides=2, padding="same"), (7, 7, 4), 49 * 9 * 4 * 6),
        (layers.Conv3DTranspose(2, 2), (3, 3, 3, 4), 27 * 8 * 4 * 2),
        (layers.Dense(7), (5,), 5 * 7),
        (layers.Dense(7), (3, 4, 5), 3 * 4 * 5 * 7),
        (layers.EinsumDense("abc,cde->abde", (None, 3, 4)), (6, 5), 6 * 5 * 3 * 4),
        (layers.EinsumDense("...x,xy->...y", 7), (3, 4, 5), 3 * 4 * 5 * 7),
        (layers.EinsumDense("ab...,bc->ac...", 3), (4, 5), 4 * 5 * 3),
        (layers.Embedding(100, 8), (6,), 0),
        (layers.PReLU(), (4, 4, 2), 0),
        (layers.LayerNormalization(axis=(1, 2)), (4, 3), 0),
        (layers.MaxPooling2D(), (4, 4, 2), 0),
        # steps · gates · units · (inputs + units)
        (layers.SimpleRNN(5), (7, 3), 7 * 5 * 8),
        (layers.GRU(5, return_sequences=True), (7, 3), 7 * 3 * 5 * 8),
        (layers.LSTM(5), (7, 3), 7 * 4 * 5 * 8),
        (
            layers.RNN(layers.StackedRNNCells([layers.LSTMCell(5), layers.GRUCell(2)])),
            (7, 3),
            7 * (4 * 5 * 8 + 3 * 2 * 7),
        ),
        (layers.Bidirectional(layers.LSTM(5)), (7, 3), 2 * 7 * 4 * 5 * 8),
        # steps · positions · 4 gates · filters · kernel · (channels + filters)
        (layers.ConvLSTM2D(6, 3, padding="same"), (5, 8, 8, 2), 5 * 64 * 4 * 6 * 9 * 8),
        (layers.ConvLSTM1D(6, 3, return_sequences=True), (5, 8, 2), 5 * 6 * 4 * 6 * 3 * 8),
        (layers.TimeDistributed(layers.Dense(4)), (7, 3), 7 * 3 * 4),
        (layers.TimeDistributed(layers.Conv2D(4, 3)), (7, 5, 5, 2), 7 * 9 * 4 * 9 * 2),
        (layers.SpectralNormalization(layers.Dense(4)), (3,), 12),
    ],
    ids=lambda x: x.name if isinstance(x, layers.Layer) else "",
)
def test_layers(layer, shape, expected):
    model = model_of(layer, shape=shape)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert cost.macs(model) == expected
    rows = cost.layer_costs(model)
    assert sum(row.params for row in rows) == cost.params(model) == model.count_params()


def test_channels_first():
    model = model_of(layers.ReLU(), shape=(16, 10, 12))
    x = keras.Input((16, 10, 12))
    # Symbolic shapes only: TensorFlow cannot run this on a CPU.
    y = layers.Conv2D(8, 3, groups=4, data_format="channels_first")(x)
    model = keras.Model(x, y)
    assert cost.macs(model) == 8 * 10 * 8 * 9 * 4


def test_multi_head_attention():
    query, value = keras.Input((6, 10)), keras.Input((9, 12))
    layer = layers.MultiHeadAttention(num_heads=4, key_dim=5, value_dim=3)
    model = keras.Model([query, value], layer(value=value, query=query))
    # projections: query 6·10 · 4·5, key 9·12 · 4·5, value 9·12 · 4·3, output 6 · 4·3 · 10;
    # scores 4 heads · 6·9 · 5; weighted values 4 heads · 6·9 · 3
    assert cost.macs(model) == (1_200 + 2_160 + 1_296 + 720) + 1_080 + 648


def test_attention_along_one_axis_of_an_image():
    x = keras.Input((4, 6, 8))
    layer = layers.MultiHeadAttention(2, 3, attention_axes=(2,))
    # 24 positions; four projections 24·8 · 2·3; in each of 4 rows 6·6 pairs · 2 heads · 3, twice
    assert cost.macs(keras.Model(x, layer(x, x))) == 4 * 24 * 8 * 6 + 2 * 4 * 36 * 6


def test_grouped_query_attention():
    x = keras.Input((6, 10))
    layer = layers.GroupQueryAttention(head_dim=5, num_query_heads=4, num_key_value_heads=2)
    # query and output 6·10 · 4·5, key and value 6·10 · 2·5; 6·6 pairs · 4 heads · 5, twice
    assert cost.macs(keras.Model(x, layer(x, x))) == 2 * 1_200 + 2 * 600 + 2 * 720


def test_attention_without_weights():
    query, value = keras.Input((6, 10)), keras.Input((9, 10))
    model = keras.Model([query, value], layers.Attention()([query, value]))
    assert cost.macs(model) == 6 * 9 * 10 + 6 * 9 * 10


def test_operations():
    x, y = keras.Input((4, 5)), keras.Input((5, 6))

    def count(*outputs):
        return cost.macs(keras.Model([x, y], list(outputs)))

    assert count(ops.matmul(x, y)) == 4 * 6 * 5
    assert count(x @ y) == 4 * 6 * 5
    assert count(ops.matmul(x, np.ones((5, 7), "float32")), y) == 4 * 7 * 5
    assert count(ops.einsum("bij,bjk->bik", x, y)) == 4 * 5 * 6
    assert count(ops.einsum("...ij,...jk->...ik", x, y)) == 4 * 5 * 6
    # left to right: (4 x 5)(5 x 6), then (4 x 6)(6 x 5)
    assert count(ops.einsum("bij,bjk,blk->bil", x, y, y)) == 4 * 5 * 6 + 4 * 6 * 5
    assert count(ops.einsum("bij->bji", x), y) == 0
    assert count(ops.tensordot(x, np.ones((5, 7), "float32"), axes=1), y) == 4 * 5 * 7
    assert count(ops.dot(x, np.ones((5, 7), "float32")), y) == 4 * 5 * 7
    assert count(layers.Dot(axes=(2, 1))([x, y])) == 4 * 6 * 5
    assert count(x + 1.0, ops.relu(y)) == 0
    image = ops.reshape(x, (-1, 4, 5, 1))
    assert count(ops.conv(image, np.ones((3, 3, 1, 2), "float32")), y) == 2 * 3 * 2 * 9


def test_operations_that_sum_over_what_they_do_not_name():
    x, y = keras.Input((4, 5)), keras.Input((5, 6))

    def count(*outputs):
        return cost.macs(keras.Model([x, y], list(outputs)))

    # without "->" all that is named once stays: (1·4 x 5)(5 x 6)(6 x 3), from left to right
    last = np.ones((6, 3), "float32")
    assert count(ops.einsum("bij,jk,kl", x, np.ones((5, 6), "float32"), last), y) == 120 + 72
    assert count(ops.dot(x, 2.0), y) == count(ops.dot(x, np.float32(2)), y) == 0
    assert count(ops.vdot(x, x), y) == 4 * 5
    assert count(ops.inner(x, np.ones((7, 5), "float32")), y) == 4 * 7 * 5


def variable(*shape, trainable=True):
    return keras.Variable(np.ones(shape, "float32"), trainable=trainable)


IMAGE, SEQUENCE, HEADS = (8, 8, 4), (6, 10), (6, 2, 5)


@pytest.mark.parametrize(
    ("operation", "shape", "expected"),
    [
        # positions · filters · kernel · channels / groups
        (lambda x: ops.conv(x, variable(3, 3, 4, 6)), IMAGE, 36 * 6 * 9 * 4),
        (
            lambda x: ops.conv(x, variable(3, 3, 4, 6), strides=2, padding="same"),
            IMAGE,
            16 * 6 * 36,
        ),
        (lambda x: ops.conv(x, variable(5, 10, 3), padding="same"), SEQUENCE, 6 * 3 * 5 * 10),
        # positions · channels · multiplier · kernel
        (lambda x: ops.depthwise_conv(x, variable(3, 3, 4, 2)), IMAGE, 36 * 4 * 2 * 9),
        # the same, then a 1 x 1 convolution
        (
            lambda x: ops.separable_conv(x, variable(3, 3, 4, 2), variable(1, 1, 8, 5)),
            IMAGE,
            36 * 8 * 9 + 36 * 8 * 5,
        ),
        # each of the input's positions meets the whole kernel
        (lambda x: ops.conv_transpose(x, variable(3, 3, 6, 4), strides=2), IMAGE, 64 * 4 * 9 * 6),
        (lambda x: ops.matmul(x, variable(10, 7)), SEQUENCE, 6 * 10 * 7),
        (lambda x: ops.matmul(variable(3, 6), x), SEQUENCE, 3 * 6 * 10),
        (lambda x: x @ variable(10), SEQUENCE, 6 * 10),
        (lambda x: ops.dot(x, variable(10, 7)), SEQUENCE, 6 * 10 * 7),
        (lambda x: ops.tensordot(x, variable(10, 2, 5), axes=1), SEQUENCE, 6 * 10 * 2 * 5),
        (lambda x: ops.tensordot(x, variable(5, 3, 2), axes=[(2, 3), (2, 0)]), HEADS, 6 * 10 * 3),
        (lambda x: ops.einsum("bsd,dnh->bsnh", x, variable(10, 2, 5)), SEQUENCE, 6 * 10 * 2 * 5),
        # scores and weighted values: 2 heads · 6·6 pairs · 5
        (lambda x: ops.dot_product_attention(x, x, x), HEADS, 2 * 2 * 36 * 5),
        (lambda x: x * variable(10) + variable(6, 10), SEQUENCE, 0),
    ],
)
def test_operations_with_weights(operation, shape, expected):
    x = keras.Input(shape)
    model = keras.Model(x, operation(x))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert cost.macs(model) == expected
    found, _ = calls(model)
    kernels = {id(w): w for call in found for w in call.weights}.values()
    rows = cost.layer_costs(model)
    assert sum(row.params for row in rows) == sum(int(np.prod(w.shape)) for w in kernels)
    assert (expected == 0) or "Dot" in rows[0].kind or kernels


def test_operations_cost_what_the_layers_that_they_spell_out_cost():
    x = keras.Input((8, 8, 4))
    conv, dense = layers.Conv2D(6, 3), layers.Dense(5)
    model = keras.Model(x, dense(layers.Flatten()(conv(x))))
    y = ops.conv(x, conv.kernel) + conv.bias
    y = ops.matmul(ops.reshape(y, (-1, 6 * 6 * 6)), dense.kernel) + dense.bias
    spelled = keras.Model(x, y)
    assert cost.macs(spelled) == cost.macs(model)
    assert cost.activation_memory(spelled, 2) == cost.activation_memory(model, 2)
    rows = cost.layer_costs(spelled)
    assert sum(row.params for row in rows) == model.count_params()
    # A kernel that two calls share counts once.
    twice = keras.Model(x, [ops.conv(x, conv.kernel), ops.conv(2 * x, conv.kernel)])
    assert sum(row.params for row in cost.layer_costs(twice)) == 9 * 4 * 6


def test_frozen_kernels_of_operations_keep_no_activations():
    x = keras.Input((10,))
    frozen = keras.Model(x, ops.matmul(x, variable(10, 7, trainable=False)))
    assert cost.activation_memory(frozen, 1) == 0
    assert cost.activation_memory(keras.Model(x, ops.matmul(x, variable(10, 7))), 1) == 40


def test_dot_product_attention_operation():
    query, key = keras.Input((6, 2, 5)), keras.Input((9, 2, 5))
    model = keras.Model([query, key], ops.dot_product_attention(query, key, key))
    assert cost.macs(model) == 2 * (2 * 6 * 9 * 5)


def test_embedding_turned_round_is_a_matrix_product():
    tokens = keras.Input((6,), dtype="int32")
    embedding = layers.ReversibleEmbedding(100, 8)
    model = keras.Model(tokens, embedding(embedding(tokens), reverse=True))
    assert cost.macs(model) == 6 * 8 * 100
    assert cost.params(model) == 800


class Mix(layers.Layer):
    def build(self, shape):
        self.kernel = self.add_weight(shape=(shape[-1], 4))

    def call(self, x):
        return ops.matmul(x, self.kernel)


class Closed(Mix):
    """Nobody can see through it."""

    def call(self, x):
        return super().call(ops.convert_to_tensor(ops.convert_to_numpy(x)))

    def compute_output_shape(self, shape):
        return (*shape[:-1], 4)


def test_a_layer_of_ones_own_counts_what_it_computes():
    model = model_of(Mix(name="one"), Mix(name="two"), shape=(5,))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert cost.macs(model) == 5 * 4 + 4 * 4
    rows = {row.name: (row.kind, row.macs, row.params) for row in cost.layer_costs(model)}
    assert rows["one/matmul"] == ("Matmul", 20, 20)
    assert cost.params(model) == sum(row[2] for row in rows.values())


def test_unknown_layer_counts_nothing_with_one_warning():
    model = model_of(Closed(name="one"), Closed(name="two"), shape=(5,))
    with pytest.warns(UserWarning, match=r"'one' \(Closed\), 'two' \(Closed\)") as record:
        assert cost.macs(model) == 0
    assert len(record) == 1
    assert cost.params(model) == 5 * 4 + 4 * 4


def test_registered_layer_and_its_subclasses():
    class Mine(Mix):
        pass

    class Mine2(Mine):
        pass

    @cost.register(Mine)
    def mine(call):
        return call.inputs[0][-1] * call.outputs[0][-1]

    assert cost.macs(model_of(Mine(), Mine2(), shape=(5,))) == 5 * 4 + 4 * 4


def brute_force(size, kernel, stride, dilation, channels, filters, groups):
    """Counts the products of a "valid" convolution one by one, by its definition."""
    reach = dilation * (kernel - 1)
    starts = range(0, size - reach, stride)
    total = 0
    for _ in itertools.product(starts, starts, range(filters)):
        for _ in itertools.product(range(kernel), range(kernel), range(channels // groups)):
            total += 1
    return total


@settings(max_examples=25, deadline=None)
@given(
    size=st.integers(5, 8),
    kernel=st.integers(1, 3),
    stride_dilation=st.sampled_from([(1, 1), (2, 1), (3, 1), (1, 2)]),
    groups=st.integers(1, 3),
    channels=st.integers(1, 2),
    filters=st.integers(1, 2),
)
def test_convolution_by_definition(size, kernel, stride_dilation, groups, channels, filters):
    stride, dilation = stride_dilation
    layer = layers.Conv2D(
        filters * groups, kernel, strides=stride, dilation_rate=dilation, groups=groups
    )
    model = model_of(layer, shape=(size, size, channels * groups))
    assert cost.macs(model) == brute_force(
        size, kernel, stride, dilation, channels * groups, filters * groups, groups
    )
