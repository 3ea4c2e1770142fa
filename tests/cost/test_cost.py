"""Costs against counts done by hand, written out beside each number."""

import timeit

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import layers, ops

from ptkeras import cost, models


def model_of(*stack, shape):
    return keras.Sequential([keras.Input(shape), *stack])


def three_convolutions():
    return model_of(
        layers.Conv2D(8, 3, padding="same", use_bias=False, name="a"),
        layers.BatchNormalization(name="norm"),
        layers.ReLU(name="relu"),
        layers.Conv2D(16, 3, strides=2, name="b"),
        layers.Conv2D(4, 1, name="c"),
        shape=(9, 9, 3),
    )


def test_three_convolutions_row_by_row():
    rows = cost.layer_costs(three_convolutions())
    assert [(r.name, r.kind, r.macs, r.params, r.output_shape) for r in rows] == [
        # 9·9 positions · 8 filters · 3·3·3
        ("a", "Conv2D", 17_496, 3 * 3 * 3 * 8, (9, 9, 8)),
        ("norm", "BatchNormalization", 0, 4 * 8, (9, 9, 8)),
        ("relu", "ReLU", 0, 0, (9, 9, 8)),
        # 4·4 positions · 16 filters · 3·3·8
        ("b", "Conv2D", 18_432, 3 * 3 * 8 * 16 + 16, (4, 4, 16)),
        # 4·4 positions · 4 filters · 16
        ("c", "Conv2D", 1_024, 16 * 4 + 4, (4, 4, 4)),
    ]
    assert [r.output_elements for r in rows] == [648, 648, 648, 256, 64]


def test_totals_of_three_convolutions():
    model = three_convolutions()
    assert cost.macs(model) == 17_496 + 18_432 + 1_024
    assert cost.inference_flops(model) == 2 * 36_952
    assert cost.training_flops(model) == 3 * 2 * 36_952
    assert cost.params(model) == 216 + 32 + 1_168 + 68
    # Kept: the input (243, for a's weights), a's output (648, for norm), relu's output (648, for
    # relu itself and b), b's output (256, for c). Not norm's output: relu reads its own.
    activations = 4 * 10 * (243 + 648 + 648 + 256)
    assert cost.activation_memory(model, 10) == activations
    # 1,484 weights, of which 16 are moving statistics; gradients; one slot of momentum.
    state = 4 * (1_484 + 1_468 + 1_468)
    assert cost.training_memory(model, 10) == activations + state
    assert cost.batch_norm_bytes(model, 10) == 8 * 10 * 648 * 4
    assert cost.summarise(model, 10) == cost.Cost(
        inference_flops=73_904,
        training_flops=221_712,
        params=1_484,
        activation_memory=activations,
        training_memory=activations + state,
        batch_norm_bytes=207_360,
    )


def test_nested_and_shared_models():
    inner = model_of(layers.Conv2D(4, 3, padding="same", name="conv"), shape=(8, 8, 4))
    inner.name = "inner"
    x = keras.Input((8, 8, 4))
    middle = keras.Model(x, inner(inner(x)), name="middle")
    y = keras.Input((8, 8, 4))
    model = keras.Model(y, layers.Flatten(name="flat")(middle(y)))
    rows = cost.layer_costs(model)
    assert [(r.name, r.macs, r.params) for r in rows] == [
        ("middle/inner/conv", 64 * 4 * 9 * 4, 148),
        ("middle/inner/conv", 64 * 4 * 9 * 4, 0),
        ("flat", 0, 0),
    ]
    # each call keeps its own input
    assert cost.activation_memory(model, 1) == 4 * 2 * 256


def test_nested_model_at_another_size():
    inner = model_of(layers.Conv2D(4, 3), layers.GlobalAveragePooling2D(), shape=(None, None, 3))
    x = keras.Input((16, 16, 3))
    model = keras.Model(x, [inner(x), inner(layers.AveragePooling2D(2)(x))])
    assert cost.macs(model) == 14 * 14 * 4 * 27 + 6 * 6 * 4 * 27


def test_nested_model_called_on_a_dict():
    a, b = keras.Input((4, 3), name="a"), keras.Input((6, 3), name="b")
    inner = keras.Model([b, a], [layers.Dense(5)(b), layers.Dense(7)(a)])
    x, y = keras.Input((4, 3), name="x"), keras.Input((6, 3), name="y")
    model = keras.Model([x, y], inner({"a": x, "b": y}))
    assert cost.macs(model) == 6 * 3 * 5 + 4 * 3 * 7


def test_open_sizes_need_an_input_shape():
    model = keras.applications.MobileNetV2(weights=None, include_top=False)
    with pytest.raises(ValueError, match="input_shape"):
        cost.macs(model)
    fixed = keras.applications.MobileNetV2(weights=None, include_top=False, input_shape=(96, 96, 3))
    assert cost.layer_costs(model, (96, 96, 3))[3].macs == cost.layer_costs(fixed)[3].macs
    assert cost.summarise(model, 4, (96, 96, 3)) == cost.summarise(fixed, 4)


def test_input_shape_in_place_of_the_models_own():
    model = model_of(layers.Conv2D(4, 3), layers.GlobalMaxPooling2D(), shape=(8, 8, 3))
    assert cost.macs(model, (10, 12, 3)) == 8 * 10 * 4 * 27
    assert cost.layer_costs(model, input_shape=(10, 12, 3))[0].output_shape == (8, 10, 4)


def test_several_inputs():
    a, b = keras.Input((None, 4)), keras.Input((None, 4))
    model = keras.Model([a, b], layers.Dense(5)(layers.Concatenate(axis=1)([a, b])))
    assert cost.macs(model, [(3, 4), (6, 4)]) == 9 * 4 * 5


def test_a_batch_folded_into_other_axes():
    # Attention in four windows of an 8 x 8 image: the windows go where the batch was.
    x = keras.Input((8, 8, 3))
    y = ops.reshape(x, (-1, 2, 4, 2, 4, 3))
    y = ops.reshape(ops.transpose(y, (0, 1, 3, 2, 4, 5)), (-1, 16, 3))
    model = keras.Model(x, layers.Dense(5, name="dense")(y))
    row = cost.layer_costs(model)[-1]
    assert (row.macs, row.output_shape) == (64 * 3 * 5, (4, 16, 5))


def test_einsum_dense_hands_sizes_on():
    # Keras itself loses the length of the sequence here: the layer's output is (None, None, 64).
    layer = layers.EinsumDense("abc,cd->abd", (None, 64))
    rows = cost.layer_costs(model_of(layer, layers.Dense(3), shape=(32, 128)))
    assert [r.macs for r in rows] == [32 * 128 * 64, 32 * 64 * 3]
    assert [r.output_shape for r in rows] == [(32, 64), (32, 3)]


def test_a_fixed_batch_size_does_not_count():
    x = keras.Input(batch_shape=(8, 9, 9, 3))
    row = cost.layer_costs(keras.Model(x, layers.Conv2D(2, 3)(x)))[0]
    assert (row.macs, row.output_shape, row.output_elements) == (49 * 2 * 27, (7, 7, 2), 98)
    assert cost.activation_memory(keras.Model(x, layers.Conv2D(2, 3)(x)), 4) == 4 * 4 * 243


def test_resnet50():
    model = keras.applications.ResNet50(weights=None)
    rows = cost.layer_costs(model)
    # He et al. 2015, table 1, with each stage's stride in its first 1 x 1 convolution.
    expected = 112**2 * 64 * 7 * 7 * 3 + 2048 * 1000
    inputs = 64
    for size, width, units in [(56, 64, 3), (28, 128, 4), (14, 256, 6), (7, 512, 3)]:
        first = inputs * width + inputs * 4 * width  # into the unit, and its shortcut
        others = (units - 1) * 4 * width * width
        expected += size**2 * (first + others + units * (9 * width**2 + 4 * width**2))
        inputs = 4 * width
    assert cost.macs(model) == expected == 3_857_973_248
    assert cost.params(model) == 25_636_712 == sum(row.params for row in rows)
    assert rows[1].macs == 112 * 112 * 64 * 7 * 7 * 3
    assert rows[-1].macs == 2048 * 1000
    seconds = min(timeit.repeat(lambda: cost.layer_costs(model), number=1, repeat=5))
    assert seconds < 0.1  # 0.004 s on an idle machine


def test_resnet32_on_cifar():
    model = models.build("resnet32", (32, 32, 3), 10)
    stem = 32 * 32 * 16 * 27
    plain = (
        32 * 32 * 16 * 144
    )  # as many in each stage: a quarter of the positions, twice the channels twice
    first = plain // 2  # half the input channels
    shortcut = 16 * 16 * 32 * 16
    assert cost.macs(model) == stem + 28 * plain + 2 * first + 2 * shortcut + 640 == 69_124_736
    # two units of normalisation a block, one after the stem and one on each 1 x 1 shortcut
    elements = 11 * 32 * 32 * 16 + 11 * 16 * 16 * 32 + 11 * 8 * 8 * 64
    assert cost.batch_norm_bytes(model, 128) == 8 * 128 * 4 * elements


def test_memory_of_fused_activations_and_views():
    model = model_of(
        layers.Rescaling(1 / 255),
        layers.Conv2D(4, 3, activation="relu"),
        layers.Flatten(),
        layers.Dense(10, activation="softmax"),
        shape=(8, 8, 3),
    )
    # the image for the weights of the convolution, its output (which the dense layer reads too,
    # flattened), the probabilities
    assert cost.activation_memory(model, 2) == 2 * 4 * (192 + 144 + 10)


def test_memory_before_the_first_trainable_layer_is_not_kept():
    model = three_convolutions()
    for layer in model.layers[:4]:
        layer.trainable = False
    assert cost.activation_memory(model, 1) == 4 * 256
    assert cost.batch_norm_bytes(model, 1) == 4 * 648 * 4


def test_memory_in_half_precision():
    policy = keras.DTypePolicy("mixed_float16")
    model = model_of(
        layers.Conv2D(8, 3, dtype=policy),
        layers.BatchNormalization(dtype=policy),
        layers.Conv2D(8, 3, dtype=policy),
        shape=(9, 9, 3),
    )
    # the input comes as float32; the convolution's output and batch norm's are float16
    assert cost.activation_memory(model, 1) == 4 * 243 + 2 * 392 + 2 * 392
    assert cost.batch_norm_bytes(model, 1) == 8 * 392 * 2
    assert cost.gradient_bytes(model, 2) == 4 * (3 * 3 * 3 * 8 + 8 + 16 + 3 * 3 * 8 * 8 + 8)


@pytest.mark.parametrize(("name", "slots"), [("sgd", 0), ("adam", 2)])
def test_training_memory_counts_the_optimizers_slots(name, slots):
    model = model_of(layers.Dense(7, use_bias=False), shape=(5,))
    model.compile(name, "mse")
    assert cost.training_memory(model, 3) == 3 * 4 * 5 + 4 * 3 * 35  # not built yet: momentum
    model.optimizer.build(model.trainable_variables)
    # and two numbers of its own: the count of steps, an integer, and the learning rate
    scalars = {"int64": 8, "int32": 4}[model.optimizer.iterations.dtype] + 4
    assert cost.training_memory(model, 3) == 3 * 4 * 5 + 4 * (2 + slots) * 35 + scalars


@pytest.mark.parametrize(("workers", "sent"), [(1, 0), (2, 140), (4, 210), (3, 187)])
def test_gradient_bytes(workers, sent):
    model = model_of(layers.Dense(7, use_bias=False), shape=(5,))
    # 35 float32 weights, 140 bytes: 2 · (n - 1) / n of them, rounded up
    assert cost.gradient_bytes(model, workers) == sent


class Subclassed(keras.Model):
    def call(self, x):
        return x


@pytest.mark.parametrize(
    ("make", "shape", "message"),
    [
        (Subclassed, None, "does not say what it is called on: call it on a batch"),
        (lambda: "model.keras", None, "Expected a Keras model, received 'model.keras'"),
        (lambda: keras.Sequential([layers.Dense(2)], name="s"), None, "'s' is not built"),
        (lambda: model_of(layers.Dense(2), shape=(None, 3)), None, "input_shape="),
        (lambda: model_of(layers.Dense(2), shape=(4, 3)), (4, 5), "built for 3 on axis -1"),
        (lambda: model_of(layers.Dense(2), shape=(4, 3)), (4,), "positive sizes"),
        (lambda: model_of(layers.Dense(2), shape=(4, 3)), (None, 3), "positive sizes"),
        (lambda: model_of(layers.Conv2D(2, 5), shape=(8, 8, 3)), (4, 4, 3), "cannot take"),
        (
            lambda: model_of(layers.Flatten(), layers.Dense(2), shape=(8, 8, 3)),
            (9, 9, 3),
            "built for 192",
        ),
    ],
)
def test_errors(make, shape, message):
    with pytest.raises(ValueError, match=message):
        cost.macs(make(), shape)


def test_errors_of_counts():
    model = three_convolutions()
    for function in (cost.activation_memory, cost.training_memory, cost.batch_norm_bytes):
        with pytest.raises(ValueError, match="batch_size must be at least 1; received 0"):
            function(model, 0)
    with pytest.raises(ValueError, match="workers must be at least 1; received 0"):
        cost.gradient_bytes(model, 0)


def test_the_model_stays_as_it_was():
    model = three_convolutions()
    nodes = [len(layer._inbound_nodes) for layer in model.layers]
    weights = model.get_weights()
    cost.summarise(model, 8, (11, 11, 3))
    assert nodes == [len(layer._inbound_nodes) for layer in model.layers]
    for before, after in zip(weights, model.get_weights(), strict=True):
        np.testing.assert_array_equal(before, after)


@settings(max_examples=15, deadline=None)
@given(
    st.lists(
        st.sampled_from(["conv", "depthwise", "norm", "relu", "pool"]), min_size=1, max_size=5
    ),
    st.integers(0, 5),
)
def test_a_stack_costs_the_sum_of_its_parts(kinds, cut):
    make = {
        "conv": lambda: layers.Conv2D(5, 3, padding="same"),
        "depthwise": lambda: layers.DepthwiseConv2D(3, padding="same"),
        "norm": layers.BatchNormalization,
        "relu": layers.ReLU,
        "pool": lambda: layers.MaxPooling2D(2, padding="same"),
    }
    stack = [make[kind]() for kind in kinds]
    whole = model_of(*stack, shape=(8, 8, 3))
    parts, shape = [], (8, 8, 3)
    for part in (stack[:cut], stack[cut:]):
        if part:
            parts.append(model_of(*part, shape=shape))
            shape = parts[-1].output_shape[1:]
    for measure in (cost.macs, cost.params, lambda m: cost.batch_norm_bytes(m, 3)):
        assert measure(whole) == sum(map(measure, parts))
