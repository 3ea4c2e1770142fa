"""Bytes that a training step keeps and moves: what `ptkeras.cost` says of memory."""

import math
import re
from collections.abc import Iterable

import keras

from ptkeras.cost.calls import Call, sizes


def _names(words: str) -> frozenset[str]:
    return frozenset(words.split())


# What the backward pass of an operation reads of its forward pass. One that is not named here
# reads its inputs, as convolutions, normalisations, products and maximum pooling do.
_READS_NOTHING = _names(
    """
    Add Average AveragePool AveragePooling Bidirectional Cast Concatenate Cropping GetItem
    GlobalAveragePooling Mean Moveaxis Negative Pad Permute Repeat RepeatVector Rescaling
    Resizing Split Stack Subtract Sum Swapaxes Tile Transpose UpSampling ZeroPadding
    """
)
_READS_OUTPUT = _names(
    """
    AlphaDropout Dropout ELU Elu Exp GaussianDropout LeakyReLU LeakyRelu ReLU Relu Relu6 Selu
    Sigmoid Softmax SpatialDropout Sqrt Tanh
    """
)
_VIEWS = _names("ActivityRegularization ExpandDims Flatten Identity Reshape Squeeze Wrapper")
_READS_OUTPUT_FUNCTIONS = _names("elu leaky_relu relu relu6 selu sigmoid softmax tanh")

# The accesses to each element of its input that batch normalisation makes in a training step.
_TRAINED_ACCESSES = 3 + 5
_FROZEN_ACCESSES = 2 + 2


def state_bytes(model: keras.Model) -> int:
    """Bytes of weights, gradients and optimizer slots."""
    gradients = variable_bytes(model.trainable_variables)
    optimizer = getattr(model, "optimizer", None)
    slots = gradients
    if optimizer is not None and getattr(optimizer, "built", False):
        slots = variable_bytes(optimizer.variables)
    return variable_bytes(model.weights) + gradients + slots


def norm_bytes(found: list[Call]) -> int:
    """Bytes that the batch normalisation among the calls moves in a training step."""
    total = 0
    for call in found:
        if isinstance(call.operation, keras.layers.BatchNormalization):
            accesses = _TRAINED_ACCESSES if call.operation.trainable else _FROZEN_ACCESSES
            total += accesses * math.prod(call.inputs[0]) * _itemsize(call.input_tensors[0].dtype)
    return total


def activation_bytes(found: list[Call]) -> int:
    """Bytes of the tensors that the backward passes of the calls read, each tensor once."""
    stored: dict[int, keras.KerasTensor] = {}  # id of a view → the tensor that it is a view of
    differentiated: set[int] = set()
    kept: dict[int, int] = {}
    for call in found:
        inputs = [stored.get(id(x), x) for x in call.input_tensors]
        if _kinds(call) & _VIEWS:
            stored.update((id(x), inputs[0]) for x in call.output_tensors)
            continue
        trains = _trains(call)
        if not trains and differentiated.isdisjoint(map(id, inputs)):
            continue  # constant with respect to every trainable weight
        differentiated.update(map(id, call.output_tensors))
        for x in _read_by_backward(call, inputs):
            kept[id(x)] = math.prod(sizes(x)) * _itemsize(x.dtype)
    return sum(kept.values())


def _trains(call: Call) -> bool:
    """Whether a call has trainable weights of its own, or trainable variables as arguments."""
    operation = call.operation
    if isinstance(operation, keras.layers.Layer):
        return bool(operation.trainable_weights)
    return any(w.trainable for w in call.weights)


def _read_by_backward(call: Call, inputs: list[keras.KerasTensor]) -> list[keras.KerasTensor]:
    kinds = _kinds(call)
    activation = getattr(call.operation, "activation", None)
    function = getattr(activation, "__name__", "linear" if activation is None else "")
    if kinds & _READS_NOTHING or ("Activation" in kinds and function == "linear"):
        return []
    if kinds & _READS_OUTPUT or ("Activation" in kinds and function in _READS_OUTPUT_FUNCTIONS):
        return call.output_tensors
    fused = function != "linear" and "Activation" not in kinds
    return [*inputs, *call.output_tensors] if fused else inputs


def _kinds(call: Call) -> set[str]:
    """Names of the operation's class and its bases: one for the 1-D, 2-D and 3-D layer alike."""
    return {re.sub(r"[123]D$", "", kind.__name__) for kind in type(call.operation).__mro__}


def variable_bytes(variables: Iterable[keras.Variable]) -> int:
    """Bytes of the variables by their dtypes."""
    return sum(math.prod(v.shape) * _itemsize(v.dtype) for v in variables)


def _itemsize(dtype: str) -> int:
    """Bytes of one element: what the name of a Keras dtype says in bits, a bool 1."""
    bits = re.search(r"\d+", dtype)
    return max(1, int(bits.group()) // 8) if bits else 1
