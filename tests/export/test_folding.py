"""Batch normalisation goes into what is before it where that is exact, and nowhere else."""

from collections import Counter

import keras
import numpy as np
import onnx
import pytest
from keras import layers
from onnx import TensorProto, helper, numpy_helper

from ptkeras import export
from ptkeras.export import folding
from tests.helpers import exported_networks as networks

pytestmark = pytest.mark.tensorflow


def exported(x, y, path):
    artifact = export.to_onnx(networks.shaken(keras.Model(x, y)), path / "a.onnx")
    assert artifact.verification.max_relative < 1e-5
    return Counter(node.op_type for node in onnx.load(artifact).graph.node)


@pytest.mark.parametrize(
    "layer",
    [
        lambda: layers.Conv2D(6, 3, padding="same"),
        lambda: layers.Conv2D(6, 3, strides=2, padding="same", use_bias=False),
        lambda: layers.Conv2D(8, 3, groups=2),
        lambda: layers.DepthwiseConv2D(3, depth_multiplier=2),
        lambda: layers.SeparableConv2D(6, 3),
        lambda: layers.Conv2DTranspose(6, 3, strides=2),
        lambda: layers.Conv2DTranspose(6, 3, padding="same", use_bias=False),
    ],
)
def test_behind_a_convolution(layer, tmp_path):
    x = keras.Input((8, 8, 4))
    y = [
        layers.BatchNormalization(**kind)(layer()(x))
        for kind in ({}, {"scale": False}, {"center": False})
    ]
    found = exported(x, y, tmp_path)
    assert not {"Mul", "Add", "Sub", "BatchNormalization"} & set(found), found


def test_behind_a_convolution_over_time_and_one_in_space(tmp_path):
    x = keras.Input((8, 4))
    found = exported(x, layers.BatchNormalization()(layers.Conv1D(6, 3)(x)), tmp_path)
    assert not {"Mul", "Add"} & set(found), found
    x = keras.Input((4, 4, 4, 2))
    found = exported(x, layers.BatchNormalization()(layers.Conv3D(6, 3)(x)), tmp_path)
    assert not {"Mul", "Add"} & set(found), found


def test_behind_a_dense_layer(tmp_path):
    x = keras.Input((5,))
    found = exported(x, layers.BatchNormalization()(layers.Dense(6)(x)), tmp_path)
    assert found["Mul"] == 0
    assert found["Add"] <= 1  # a matrix product has no bias of its own


def test_a_shared_convolution_gets_the_scales_of_each_place(tmp_path):
    x = keras.Input((8, 8, 4))
    shared = layers.Conv2D(4, 3, padding="same")
    y = layers.ReLU()(layers.BatchNormalization()(shared(x)))
    found = exported(x, layers.BatchNormalization()(shared(y)), tmp_path)
    assert found["Conv"] == 2
    assert not {"Mul", "Add"} & set(found), found


def test_what_something_else_reads_stays_as_it_is(tmp_path):
    x = keras.Input((8, 8, 4))
    y = layers.Conv2D(6, 3, padding="same")(x)
    found = exported(x, [layers.BatchNormalization()(y), layers.ReLU()(y)], tmp_path)
    assert found["Mul"] == 1 and found["Add"] == 1


def test_what_stands_before_a_convolution_that_pads_is_not_folded_into_it(tmp_path):
    x = keras.Input((8, 8, 4))
    y = layers.BatchNormalization()(layers.ReLU()(layers.Conv2D(4, 3)(x)))
    found = exported(x, layers.Conv2D(6, 3, padding="same")(y), tmp_path)
    assert found["Add"] == 1  # the shift has to be there before the padding


def graph_of(nodes, constants, shape=("batch", 3)):
    tensors = [
        numpy_helper.from_array(value.astype("f"), name) for name, value in constants.items()
    ]
    given = helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)
    got = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    model = helper.make_model(
        helper.make_graph(nodes, "g", [given], [got], tensors),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=8,
    )
    return onnx.shape_inference.infer_shapes(model)


def assert_folds(model, values, left):
    from onnx.reference import ReferenceEvaluator

    [before] = ReferenceEvaluator(model).run(None, {"x": values})
    folding.fold(model.graph)
    [after] = ReferenceEvaluator(model).run(None, {"x": values})
    np.testing.assert_allclose(after, before, rtol=1e-5, atol=1e-5)
    assert [node.op_type for node in model.graph.node] == left
    onnx.checker.check_model(model, full_check=True)


def test_a_gemm_with_all_its_attributes():
    random = np.random.default_rng(0)
    nodes = [
        helper.make_node("Gemm", ["x", "w", "b"], ["h"], alpha=0.5, beta=2.0, transB=1),
        helper.make_node("Sub", ["c", "h"], ["i"]),
        helper.make_node("Div", ["i", "d"], ["j"]),
        helper.make_node("BatchNormalization", ["j", "d", "c", "c", "d"], ["y"], epsilon=0.1),
    ]
    constants = {"w": random.normal(size=(4, 3))}
    constants |= {name: random.uniform(0.5, 1.5, 4) for name in "bcd"}
    values = random.normal(size=(2, 3)).astype("f")
    assert_folds(graph_of(nodes, constants), values, ["Gemm"])


def test_a_transposed_product_of_three_axes():
    random = np.random.default_rng(0)
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["h"]),
        helper.make_node("Transpose", ["h"], ["i"], perm=[0, 2, 1]),
        helper.make_node("Mul", ["i", "s"], ["j"]),
        helper.make_node("Add", ["j", "s"], ["y"]),
    ]
    constants = {"w": random.normal(size=(3, 4)), "s": random.uniform(0.5, 1.5, (4, 1))}
    values = random.normal(size=(2, 5, 3)).astype("f")
    model = graph_of(nodes, constants, ("batch", 5, 3))
    assert_folds(model, values, ["MatMul", "Transpose", "Add"])


def test_a_scale_along_another_axis_is_left_alone():
    random = np.random.default_rng(0)
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["h"]),
        helper.make_node("Mul", ["h", "s"], ["y"]),
    ]
    constants = {"w": random.normal(size=(4, 3, 1, 1)), "s": random.uniform(0.5, 1.5, (1, 4))}
    values = random.normal(size=(2, 3, 4, 4)).astype("f")
    assert_folds(graph_of(nodes, constants, ("batch", 3, 4, 4)), values, ["Conv", "Mul"])
