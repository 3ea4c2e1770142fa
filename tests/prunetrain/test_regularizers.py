import gc
import json
import subprocess
import sys
import weakref

import hypothesis
import hypothesis.strategies as st
import keras
import numpy as np
import pytest
from keras import layers

import ptkeras
from ptkeras import lasso
from ptkeras.channels import trace


def norms(kernel, axis, ids=None):
    """The sum of the norms of the groups of one axis, written out."""
    squares = np.moveaxis(kernel, axis, 0).reshape(kernel.shape[axis], -1)
    ids = range(len(squares)) if ids is None else ids
    groups = {}
    for group, values in zip(ids, squares, strict=True):
        if group >= 0:
            groups.setdefault(group, []).append((values**2).sum())
    return sum(np.sqrt(np.sum(parts) + 1e-8) for parts in groups.values())


def value(regularizer, kernel):
    return float(regularizer(keras.ops.convert_to_tensor(kernel, "float32")))


SHAPES = st.lists(st.integers(1, 5), min_size=2, max_size=5)


@hypothesis.given(SHAPES, st.integers(0, 1000))
def test_the_sum_of_the_norms_of_input_and_output_channels(shape, seed):
    kernel = np.random.default_rng(seed).normal(size=shape).astype("float32")
    expected = 0.5 * (norms(kernel, -2) + norms(kernel, -1))
    assert value(ptkeras.GroupLasso(0.5), kernel) == pytest.approx(expected, rel=1e-4)


@hypothesis.given(st.integers(0, 1000), st.lists(st.integers(-1, 3), min_size=6, max_size=6))
def test_positions_of_one_group_share_a_norm(seed, ids):
    kernel = np.random.default_rng(seed).normal(size=(3, 6, 4)).astype("float32")
    regularizer = ptkeras.GroupLasso(2.0, groups={1: ids})
    assert value(regularizer, kernel) == pytest.approx(2 * norms(kernel, 1, ids), rel=1e-4)


def test_it_adds_to_another_regularizer():
    kernel = np.ones((2, 3), "float32")
    both = value(ptkeras.GroupLasso(1.0, base="l2"), kernel)
    alone = value(ptkeras.GroupLasso(1.0), kernel)
    assert both - alone == pytest.approx(value(keras.regularizers.L2(), kernel), rel=1e-4)


def test_the_gradient_at_zero_is_zero():
    """Where a group is zero the root has no slope: epsilon keeps it from being NaN."""
    layer = layers.Dense(4, kernel_initializer="zeros", kernel_regularizer=ptkeras.GroupLasso(1.0))
    model = keras.Sequential([keras.Input((3,)), layer])
    model.compile(keras.optimizers.SGD(0.1), "mse")
    model.fit(np.zeros((2, 3)), np.zeros((2, 4)), verbose=0)
    assert (keras.ops.convert_to_numpy(layer.kernel) == 0).all()


@pytest.mark.tensorflow
def test_a_graph_with_it_is_let_go():
    """TensorFlow keeps those with custom gradients, and there is a new one with each tracing."""
    import tensorflow as tf

    kernel, regularizer = keras.Variable(np.ones((3, 3, 2, 4))), ptkeras.GroupLasso(0.5)

    @tf.function
    def step():
        with tf.GradientTape() as tape:
            penalty = regularizer(kernel)
        return tape.gradient(penalty, kernel.value)

    graph = weakref.ref(step.get_concrete_function().graph)
    del step
    gc.collect()
    assert graph() is None


@pytest.mark.parametrize("groups", [None, {0: None, 3: [0, 0, -1, 1]}, {2: None}])
def test_its_gradient_is_that_of_the_formula(groups):
    """A weight over the norm of its group: what a step of 1 takes off where no other loss is."""
    start = np.random.default_rng(0).normal(size=(3, 2, 5, 4)).astype("float32")
    regularizer = ptkeras.GroupLasso(0.5, groups)
    layer = layers.Conv2D(4, (3, 2), use_bias=False, kernel_regularizer=regularizer)
    model = keras.Sequential([keras.Input((3, 2, 5)), layer])
    layer.kernel.assign(start)
    model.compile(keras.optimizers.SGD(1.0), "mse")
    model.fit(np.zeros((2, 3, 2, 5)), np.zeros((2, 1, 1, 4)), verbose=0)
    expected = np.zeros_like(start)
    for axis, ids in regularizer.groups.items():
        lines = np.moveaxis(start, axis, 0)
        ids = np.arange(len(lines)) if ids is None else ids
        own = np.moveaxis(expected, axis % 4, 0)  # a view
        for group in set(ids) - {-1}:
            own[ids == group] += 0.5 * lines[ids == group] / np.linalg.norm(lines[ids == group])
    taken = start - keras.ops.convert_to_numpy(layer.kernel)
    np.testing.assert_allclose(taken, expected, atol=1e-5)


@pytest.mark.parametrize("groups", [None, {0: None, 2: [0, 0, -1, 1]}])
def test_it_survives_json(groups):
    config = keras.regularizers.serialize(ptkeras.GroupLasso(0.25, groups, base="l1"))
    loaded = keras.regularizers.deserialize(json.loads(json.dumps(config)))
    kernel = np.random.default_rng(0).normal(size=(3, 5, 4)).astype("float32")
    expected = value(ptkeras.GroupLasso(0.25, groups, base="l1"), kernel)
    assert value(loaded, kernel) == pytest.approx(expected)


def test_a_layer_with_it_saves_and_loads(tmp_path):
    model = keras.Sequential(
        [keras.Input((4, 4, 2)), layers.Conv2D(3, 3, kernel_regularizer=ptkeras.GroupLasso(0.1))]
    )
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert float(loaded.losses[0]) == pytest.approx(float(model.losses[0]))


@pytest.mark.parametrize("strength", [-1, float("nan"), float("inf")])
def test_a_strength_out_of_range_is_refused(strength):
    with pytest.raises(ValueError, match=f"received {strength}"):
        ptkeras.GroupLasso(strength)


def every_kind_of_kernel():
    inputs = keras.Input((8, 8, 4))
    x = layers.Conv2D(6, 3, padding="same", name="conv")(inputs)
    x = layers.Conv2D(6, 3, padding="same", groups=2, name="grouped")(x)
    x = layers.DepthwiseConv2D(3, name="depthwise")(x)
    x = layers.SeparableConv2D(5, 3, depth_multiplier=2, name="separable")(x)
    x = layers.Conv2DTranspose(3, 3, name="transpose")(x)
    x = layers.Flatten()(x)
    x = layers.Dense(7, activation="relu", name="dense")(x)
    return keras.Model(inputs, layers.Dense(2, name="head")(x))


def test_what_is_regularised():
    model = every_kind_of_kernel()
    lasso.attach(trace(model), 1.0)
    groups = {v.path: v.regularizer.groups for v in model.weights if v.regularizer is not None}
    assert set(groups) == {
        "conv/kernel",
        "grouped/kernel",
        "separable/pointwise_kernel",
        "transpose/kernel",
        "dense/kernel",
        "head/kernel",
    }
    # Neither the network's input channels nor its outputs.
    assert set(groups["conv/kernel"]) == {3} and set(groups["head/kernel"]) == {0}
    # The same offset of both groups is one channel, and a channel has two positions here.
    assert len(set(groups["grouped/kernel"][3])) == 3
    pointwise = groups["separable/pointwise_kernel"][2]
    assert len(pointwise) == 12 and len(set(pointwise)) == 3
    # Behind Flatten a channel has as many rows of the kernel as there are places.
    rows = groups["dense/kernel"][0]
    assert len(set(rows)) == 3 and len(rows) % 3 == 0
    assert set(groups["transpose/kernel"]) == {2, 3}


def test_attach_adds_and_detach_restores():
    model = every_kind_of_kernel()
    own = keras.regularizers.L2(0.1)
    model.get_layer("dense").kernel.regularizer = own
    channel_map = trace(model)
    before = float(sum(float(x) for x in model.losses))
    lasso.attach(channel_map, 0.5)
    lasso.attach(channel_map, 0.5)  # not twice
    total = float(sum(float(x) for x in model.losses))
    assert total - before == pytest.approx(0.5 * lasso.group_norms(channel_map), rel=1e-4)
    lasso.detach(model)
    assert model.get_layer("dense").kernel.regularizer is own
    assert model.get_layer("conv").kernel.regularizer is None


def test_kernels_that_do_not_train_are_left_alone():
    model = every_kind_of_kernel()
    model.get_layer("conv").trainable = False
    lasso.attach(trace(model), 1.0)
    assert model.get_layer("conv").kernel.regularizer is None


@hypothesis.given(st.floats(0.01, 0.99), st.floats(0.01, 10), st.floats(0.1, 1e4))
def test_the_ratio_is_a_share_of_the_whole_loss(ratio, loss, total):
    penalty = lasso.strength_for(ratio, loss, total) * total
    assert penalty / (loss + penalty) == pytest.approx(ratio)


def test_importing_ptkeras_is_enough_to_load_it(tmp_path):
    regularizer = ptkeras.GroupLasso(0.1)
    model = keras.Sequential([keras.Input((3,)), layers.Dense(2, kernel_regularizer=regularizer)])
    model.save(tmp_path / "model.keras")
    program = (
        f"import ptkeras, keras; model = keras.models.load_model(r'{tmp_path}/model.keras'); "
        "assert type(model.layers[0].kernel_regularizer).__name__ == 'GroupLasso'"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
