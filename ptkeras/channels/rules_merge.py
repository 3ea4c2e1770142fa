"""The rules of layers and operations that join tensors: arithmetic, concatenation, stacking."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import layers
from keras.src.applications.inception_resnet_v2 import CustomScaleLayer
from keras.src.ops import numpy as keras_numpy

from ptkeras.channels.registry import Call, existing, register


def combine(call: Call) -> np.ndarray | None:
    """Elementwise arithmetic of several tensors, with broadcasting: ties what is added.

    An array among the operands is a constant, whose numbers surgery takes away with the channels.
    """
    shape = call.output_shapes[0]
    rank = len(shape)
    arrays = [c for c in keras.tree.flatten((call.args, call.kwargs)) if is_array(c)]
    if not call.inputs or any(isinstance(c, keras.Variable) and c.shape for c in arrays):
        return None
    operands = [
        (labels.reshape((1,) * (rank - labels.ndim) + labels.shape), (1,) * (rank - len(own)) + own)
        for labels, own in zip(call.inputs, call.shapes, strict=True)
    ]
    size = max(labels.size for labels, _ in operands)
    result = None
    for labels, own in operands:
        axis = _channel_axis(labels)
        if labels.size < size or (axis is None and _stretched(own, shape)):
            # A tensor of one channel that is stretched over many is part of every one of them.
            call.freeze(labels)
        if labels.size == size and result is None:
            result = labels
        elif labels.size == size:
            call.tie(result, labels)
            result = np.where(result >= 0, result, labels)
    if (axis := _channel_axis(result)) is not None:
        for labels, own in operands:
            # One channel that lies at many positions already keeps all of them, or none.
            if labels.shape[axis] == 1 != own[axis]:
                call.tie(result, labels)
    call.zero_output = _keeps_zero(call)
    return result


def _channel_axis(labels: np.ndarray) -> int | None:
    return next((axis for axis, n in enumerate(labels.shape) if n > 1), None)


def _stretched(own: tuple, shape: tuple) -> bool:
    return any(a == 1 and b != 1 for a, b in zip(own, shape, strict=True))


_KEEPS_ZERO: dict[Any, bool] = {}


def _keeps_zero(call: Call) -> bool:
    """Whether zeros in the operands known to be zero give zero: tried once per operator."""
    if not any(call.zero_inputs):
        return False
    key = _operator(call)
    if key is None:
        return _try_zeros(call)
    if key not in _KEEPS_ZERO:
        _KEEPS_ZERO[key] = _try_zeros(call)
    return _KEEPS_ZERO[key]


def _operator(call: Call) -> Any:
    """What two calls share if zeros do the same in both; None if that can't be told."""
    config = getattr(call.op, "_auto_config", None)
    flat = keras.tree.flatten((call.args, call.kwargs))
    if config is None or any(is_array(value) for value in flat):
        return None
    settings = {k: v for k, v in config.config.items() if k != "name"}
    constants = [None if isinstance(v, keras.KerasTensor) else v for v in flat]
    return type(call.op), str(settings), str(constants), tuple(call.zero_inputs)


def _try_zeros(call: Call) -> bool:
    given = iter(call.zero_inputs)

    def number(value: object) -> object:
        if isinstance(value, keras.KerasTensor):
            zero = next(given, False)
            return keras.ops.full((1,) * len(value.shape), 0 if zero else 0.7, value.dtype)
        return value

    try:
        args, kwargs = keras.tree.map_structure(number, (call.args, call.kwargs))
        return not np.any(keras.ops.convert_to_numpy(call.op.call(*args, **kwargs)))
    except Exception:
        return False


def is_array(value: object) -> bool:
    """Whether a value in a node's arguments is an array rather than a symbolic tensor."""
    if value is None or isinstance(value, (keras.KerasTensor, bool, int, float, str)):
        return False  # most of them; asking the backend takes longer
    return isinstance(value, (np.ndarray, keras.Variable)) or keras.ops.is_tensor(value)


ARITHMETIC = (
    keras_numpy.Add,
    keras_numpy.Subtract,
    keras_numpy.Multiply,
    keras_numpy.Divide,
    keras_numpy.DivideNoNan,
    keras_numpy.TrueDivide,
    keras_numpy.FloorDivide,
    keras_numpy.Mod,
    keras_numpy.Power,
    keras_numpy.Maximum,
    keras_numpy.Minimum,
    keras_numpy.Arctan2,
    keras_numpy.Hypot,
    keras_numpy.Logaddexp,
    keras_numpy.Equal,
    keras_numpy.NotEqual,
    keras_numpy.Greater,
    keras_numpy.GreaterEqual,
    keras_numpy.Less,
    keras_numpy.LessEqual,
    keras_numpy.LogicalAnd,
    keras_numpy.LogicalOr,
    keras_numpy.LogicalXor,
    keras_numpy.Where,
    layers.Add,
    layers.Subtract,
    layers.Multiply,
    layers.Average,
    layers.Maximum,
    layers.Minimum,
    CustomScaleLayer,
)

register(*ARITHMETIC)(combine)


def concatenate(call: Call) -> np.ndarray | None:
    """Concatenates labels; beside an axis that is not the channel axis the tensors are tied."""
    rank, axis = len(call.output_shapes[0]), _joined_axis(call.op)
    if len(call.inputs) != len(_operands(call)) or axis is None or rank < 2:
        return None
    axis %= rank
    parts = []
    for labels, shape in zip(call.inputs, call.shapes, strict=True):
        full = list(labels.shape)
        full[axis] = shape[axis] or 1
        parts.append(np.broadcast_to(labels, full))
    widest = np.broadcast_shapes(*((*p.shape[:axis], 1, *p.shape[axis + 1 :]) for p in parts))
    parts = [
        np.broadcast_to(p, (*widest[:axis], p.shape[axis], *widest[axis + 1 :])) for p in parts
    ]
    call.passes()
    result = np.concatenate(parts, axis)
    if sum(n > 1 for n in widest):  # side by side along another axis than the channels'
        chosen = result.max(axis, keepdims=True)
        call.tie(result, chosen)
        result = chosen
    return result


_JOINTS = {
    cls: axis
    for name, axis in (("Vstack", 0), ("Hstack", 1), ("Dstack", 2))
    for cls in existing(keras_numpy, name)
}
register(layers.Concatenate, keras_numpy.Concatenate, keras_numpy.Append, *_JOINTS)(concatenate)


def _joined_axis(op: keras.Operation) -> int | None:
    """The axis along which an operation joins, which its name may say."""
    own = _JOINTS.get(type(op))
    return op.axis if own is None else own


@register(keras_numpy.Stack)
def _stack(call: Call) -> np.ndarray | None:
    """Puts tensors side by side along a new axis: what lies at the same position is tied."""
    if len(call.inputs) != len(_operands(call)):
        return None
    first = call.inputs[0]
    for labels in call.inputs[1:]:
        if labels.shape != first.shape:
            return None
        call.tie(first, labels)
        first = np.where(first >= 0, first, labels)
    call.passes()
    return np.expand_dims(first, call.op.axis % len(call.output_shapes[0]))


def _operands(call: Call) -> list:
    """What a node joins, arrays among it."""
    return [
        c
        for c in keras.tree.flatten((call.args, call.kwargs))
        if is_array(c) or isinstance(c, keras.KerasTensor)
    ]
