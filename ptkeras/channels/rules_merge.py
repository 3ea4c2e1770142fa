"""The rules of layers and operations that join tensors: arithmetic, concatenation, stacking."""

from __future__ import annotations

import itertools
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import layers

from ptkeras.channels.elementwise import values_of
from ptkeras.channels.operands import (
    is_array,
    keep_whole,
    number_per_channel,
    operands_of,
)
from ptkeras.channels.registry import Call, existing, register
from ptkeras.keras_compat.layers import CustomScaleLayer
from ptkeras.keras_compat.nodes import auto_config
from ptkeras.keras_compat.operations import keras_core, keras_numpy


def combine(call: Call) -> np.ndarray | None:
    """Elementwise arithmetic of several tensors, with broadcasting: ties what is added.

    An array among the operands is a constant, whose numbers surgery takes away with the channels. A
    variable along the channels, such as a bias or a position embedding, loses its positions.
    """
    shape = call.output_shapes[0]
    rank = len(shape)
    values = operands_of(call)
    if not call.inputs or any(len(v.shape) > rank for v in values):
        return None
    operands = [
        (labels.reshape((1,) * (rank - labels.ndim) + labels.shape), (1,) * (rank - len(own)) + own)
        for labels, own in zip(call.inputs, call.shapes, strict=True)
    ]
    result = _tied(call, operands)
    axis = _channel_axis(result)
    variables = [v for v in values if isinstance(v, keras.Variable)]
    if axis is None and (maker := _maker(variables, operands, rank)) is not None:
        call.freeze(result)
        axis = rank - 1
        result = call.spread(call.produce(maker, -1), axis, rank)
    for variable in variables:
        if axis is None or len(variable.shape) < rank - axis:
            keep_whole(call, variable)
        else:
            number_per_channel(call, variable, result.reshape(-1), axis - rank)
    call.zero_output = _keeps_zero(call, operands, result)
    return result


def _tied(call: Call, operands: list[tuple[np.ndarray, tuple]]) -> np.ndarray:
    """The labels of the result of arithmetic, which are those of its widest operands."""
    shape = call.output_shapes[0]
    size = max(labels.size for labels, _ in operands)
    for labels, own in operands:
        axis = _channel_axis(labels)
        if labels.size < size or (axis is None and _stretched(own, shape)):
            # A tensor of one channel that is stretched over many is part of every one of them.
            call.freeze(labels)
    result, *others = (labels for labels, _ in operands if labels.size == size)
    for labels in others:
        call.tie(result, labels)
        result = np.where(result >= 0, result, labels)
    if (axis := _channel_axis(result)) is not None:
        for labels, own in operands:
            # One channel that lies at many positions already keeps all of them, or none.
            if labels.shape[axis] == 1 != own[axis]:
                call.tie(result, labels)
    return result


def _maker(variables: list, operands: list, rank: int) -> keras.Variable | None:
    """The variable that makes channels out of one that is stretched over its last axis."""
    if not rank or any(own[-1] != 1 for _, own in operands):
        return None
    return next((v for v in variables if v.shape and v.shape[-1] > 1), None)


def _channel_axis(labels: np.ndarray) -> int | None:
    return next((axis for axis, n in enumerate(labels.shape) if n > 1), None)


def _stretched(own: tuple, shape: tuple) -> bool:
    return any(a == 1 and b != 1 for a, b in zip(own, shape, strict=True))


_KEEPS_ZERO: dict[Any, bool] = {}


def _keeps_zero(call: Call, operands: list, result: np.ndarray) -> bool:
    """Whether the result is zero where the channels of its operands are.

    Only an operand that has a label for each one of the result's is zero there. One that is
    stretched over the channels stays when a few of them are removed, and may be any number.
    """
    axis = _channel_axis(result)
    tensors = iter(zip(operands, call.zero_inputs, strict=True))
    flags = []
    for value in operands_of(call):
        if isinstance(value, keras.Variable):
            back = 0 if axis is None else result.ndim - axis
            own = 0 < back <= len(value.shape) and value.shape[-back] == result.size
            flags.append(_Flag(own, not own))
        elif isinstance(value, keras.KerasTensor):
            (labels, _), zero = next(tensors)
            wide = labels.size == result.size
            flags.append(_Flag(zero and wide, not wide))
    if not any(flag.zero for flag in flags):
        return False
    key = _operator(call, flags)
    if key is None:
        return _try_zeros(call, flags)
    if key not in _KEEPS_ZERO:
        if len(_KEEPS_ZERO) > 1000:
            _KEEPS_ZERO.clear()
        _KEEPS_ZERO[key] = _try_zeros(call, flags)
    return _KEEPS_ZERO[key]


class _Flag(NamedTuple):
    """What is known of an operand of arithmetic.

    Attributes:
        zero: whether it is zero where its channel is removed.
        shared: whether all channels share its numbers.
    """

    zero: bool
    shared: bool


def _operator(call: Call, flags: list[_Flag]) -> Any:
    """What two calls share if zeros do the same in both; None if that can't be told."""
    config = auto_config(call.op)
    flat = keras.tree.flatten((call.args, call.kwargs))
    if config is None or not type(call.op).__module__.startswith("keras."):
        return None
    if any(is_array(value) for value in (*flat, *keras.tree.flatten(config.config))):
        return None
    settings = {k: v for k, v in config.config.items() if k != "name"}
    constants = [v.dtype if isinstance(v, keras.KerasTensor) else v for v in flat]
    return type(call.op), str(settings), str(constants), tuple(flags)


_TRIED = (0.7, -0.7, 0.0, 1.0, -1.0, 2.5, 1e4, -1e4, 1e-4, -1e-4)


def _try_zeros(call: Call, flags: list[_Flag]) -> bool:
    """Runs arithmetic with zeros where operands are known to be zero, and with any numbers else.

    Not a number counts as zero if it came of a zero that all channels share, such as the norm that
    they are divided by: it makes all of them so.
    """
    shared = [flag.shared for flag in flags if not flag.zero]
    choices = list(itertools.product(_TRIED, repeat=min(2, len(shared))))
    if len(shared) > 2:
        rng = np.random.default_rng(0)
        choices = [(v,) * len(shared) for v in _TRIED]
        choices += [tuple(rng.choice(_TRIED, len(shared))) for _ in range(100)]
    try:
        with np.errstate(all="ignore"):
            for choice in choices:
                result = _with_numbers(call, flags, choice)
                if any(v == 0 and s for v, s in zip(choice, shared, strict=True)):
                    result = result[~np.isnan(result)]
                if result.any():
                    return False
    except Exception:
        return False
    return True


def _with_numbers(call: Call, flags: list[_Flag], choice: tuple[float, ...]) -> np.ndarray:
    numbers, flag = iter(choice), iter(flags)

    def number(value: object) -> object:
        if not isinstance(value, (keras.KerasTensor, keras.Variable)):
            return value
        chosen = np.full((1,) * len(value.shape), 0.0 if next(flag).zero else next(numbers))
        return keras.ops.convert_to_tensor(values_of(chosen, value.dtype), dtype=value.dtype)

    args, kwargs = keras.tree.map_structure(number, (call.args, call.kwargs))
    result = keras.ops.convert_to_numpy(call.op.call(*args, **kwargs))
    return np.asarray(result).astype("float32")


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
    keras_numpy.Select,
    *existing(keras_numpy, "Fmax", "Fmin", "Fmod", "Heaviside", "Isclose", "Ldexp", "Logaddexp2"),
    *existing(keras_numpy, "BitwiseAnd", "BitwiseOr", "BitwiseXor", "Gcd", "Lcm", "Nextafter"),
    *existing(keras_numpy, "BitwiseLeftShift", "BitwiseRightShift", "LeftShift", "RightShift"),
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
    """Concatenates labels; beside an axis that is not the channel axis the tensors are tied.

    The numbers of an array may not be removed; those of a variable are a channel's own, such as the
    class token that stands before the others.
    """
    rank, axis = len(call.output_shapes[0]), _joined_axis(call.op)
    operands = operands_of(call)
    if axis is None or rank < 2 or any(len(x.shape) != rank for x in operands):
        return None
    axis %= rank
    along = next((a for x in call.inputs if (a := _channel_axis(x)) is not None), axis)
    parts = []
    for operand in operands:
        labels = call.labels_of(operand)
        if labels is None:
            labels = _labels_of_constant(call, operand, along)
        full = list(labels.shape)
        full[axis] = 1 if operand.shape[axis] is None else operand.shape[axis]
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


def _labels_of_constant(call: Call, value: Any, axis: int) -> np.ndarray:
    """The labels of an array or a variable among tensors whose channels lie along `axis`."""
    if isinstance(value, keras.Variable):
        keep_whole(call, value, axis)
        vector = call._labels.new(value.shape[axis])
        call.vector(value, vector, axis)
        return call.spread(vector, axis, len(value.shape))
    return call.spread(call.constant(value.shape[axis]), axis, len(value.shape))


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
    first = call.inputs[0]
    axis = _channel_axis(first)
    for operand in operands_of(call):
        labels = call.labels_of(operand)
        if labels is None:
            if axis is None:
                return None
            labels = _labels_of_constant(call, operand, axis)
        if labels.shape != first.shape:
            return None
        call.tie(first, labels)
        first = np.where(first >= 0, first, labels)
    call.passes()
    return np.expand_dims(first, call.op.axis % len(call.output_shapes[0]))


@register(keras_core.ScatterUpdate)
def _scatter_update(call: Call) -> np.ndarray | None:
    """Puts positions of one tensor in places of another: both have the same channels."""
    data, indices, updates = map(call.argument, ("inputs", "indices", "updates"))
    both = [labels for x in (data, updates) if (labels := call.labels_of(x)) is not None]
    rank = len(data.shape)
    if len(both) < 2 or indices.shape[-1] >= rank:
        return None
    places = call.labels_of(indices)
    if places is not None:
        call.freeze(places)
    own, new = (call.along(labels, -1, data.shape[-1]) for labels in both)
    call.tie(own, new)
    call.passes()
    return call.spread(own, -1, rank)
