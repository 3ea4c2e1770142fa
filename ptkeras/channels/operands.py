"""The operands of an operation: symbolic tensors, arrays (constants) and variables (weights)."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from ptkeras.channels.registry import Call


def is_array(value: object) -> bool:
    """Whether a value in a node's arguments is an array rather than a symbolic tensor."""
    if value is None or isinstance(value, (keras.KerasTensor, bool, int, float, str)):
        return False  # most of them; asking the backend takes longer
    return isinstance(value, (np.ndarray, keras.Variable)) or keras.ops.is_tensor(value)


def is_operand(value: object) -> bool:
    """Whether a value in a node's arguments is a symbolic tensor, an array or a variable."""
    return isinstance(value, keras.KerasTensor) or is_array(value)


def operands_of(call: Call) -> list[Any]:
    """What an operation was called with, numbers and settings left out."""
    return [v for v in keras.tree.flatten((call.args, call.kwargs)) if is_operand(v)]


def data_of(call: Call) -> Any:
    """The first argument of an operation, whatever the name of its parameter."""
    return call.args[0] if call.args else next(iter(call.kwargs.values()), None)


def reads_one_tensor(call: Call) -> bool:
    """Whether the first argument is the only symbolic tensor: not an index, or a fill value."""
    wrapped = not call.args and not call.kwargs  # the call of a layer within another one
    return len(call.inputs) == 1 and (wrapped or isinstance(data_of(call), keras.KerasTensor))


def known_zero(call: Call, value: Any) -> bool:
    """Whether a channel of an operand is zero where the channel's parameters are.

    A variable's own positions are among the parameters of the channel that they belong to.
    """
    if isinstance(value, keras.Variable):
        return True
    tensors = zip(call._tensors, call.zero_inputs, strict=True)
    return next((zero for tensor, zero in tensors if tensor is value), False)


def keep_whole(call: Call, variable: keras.Variable, besides: int | None = None) -> None:
    """Says that no other axis of a variable than `besides` may lose positions."""
    for axis in range(len(variable.shape)):
        if besides is None or axis != besides % len(variable.shape):
            call._labels.keep_whole(variable, axis)


def number_per_channel(call: Call, operand: Any, vector: np.ndarray, axis: int = 0) -> None:
    """Says that an operand holds one number per channel along an axis.

    A variable gets smaller with its channels; the numbers of an array cannot, so that they freeze
    the channels; the labels of a tensor are tied to them.
    """
    if operand is None or not is_operand(operand) or not len(operand.shape):
        return
    axis %= len(operand.shape)
    if operand.shape[axis] == 1 != len(vector):
        axis = -1
    if isinstance(operand, keras.Variable):
        if axis >= 0:
            call.vector(operand, vector, axis)
        keep_whole(call, operand, axis if axis >= 0 else None)
    elif (labels := call.labels_of(operand)) is not None:
        if axis >= 0 and labels.shape[axis] == labels.size == len(vector):
            call.tie(labels.reshape(-1), vector)
        else:
            call.freeze(labels)
    elif axis >= 0:
        call.freeze(vector)
