"""Operations that move data, in a smaller graph: what becomes of their arguments.

The operation is run on the positions of the old channels, which says what each position of an
output shows; what is left of that is the new operation, or a selection of channels.
"""

from __future__ import annotations

import inspect
from typing import Any, NamedTuple

import keras
import numpy as np
from keras.src.ops import core as keras_core
from keras.src.ops import nn as keras_nn
from keras.src.ops import numpy as keras_numpy

from ptkeras.channels.rules_merge import ARITHMETIC, is_array
from ptkeras.channels.rules_moves import SPLITS, key_of, moved, slice_key, split_axis
from ptkeras.surgery.selection import ZERO, Selection, materialise, select

_SPLITS = (keras_numpy.Split, *SPLITS)


class Ends(NamedTuple):
    """A node of the old graph between its inputs and its outputs.

    Attributes:
        node: the node.
        values: what its input tensors became: symbolic tensors or `Selection`s.
        inputs: for each input a bool array that broadcasts against it: which positions stay.
        outputs: the same for each output.
        shapes: the new shapes of the outputs.
    """

    node: Any
    values: list[Any]
    inputs: list[np.ndarray]
    outputs: list[np.ndarray]
    shapes: list[tuple[int | None, ...]]


def channel_axis(kept: np.ndarray) -> int:
    """The axis that an array which changes along one axis changes along; the last if along none."""
    sizes = kept.shape
    return next((a for a, n in enumerate(sizes) if n > 1), len(sizes) - 1)


def remake(ends: Ends) -> list[Any] | None:
    """The outputs of a node whose arguments change with the channels; None if they do not.

    What it returns for an output that loses all of its channels is of no meaning.
    """
    op = ends.node.operation
    if all(kept.all() for kept in (*ends.inputs, *ends.outputs)) and not any(
        isinstance(v, Selection) for v in ends.values
    ):
        return None
    if isinstance(op, keras_nn.DotProductAttention):
        return _attention(ends)
    if len(ends.values) != 1:
        return None
    for types, function in _REMAKERS:
        if isinstance(op, types):
            return function(ends)
    return None


def with_less_constants(node: Any, arguments: tuple, kept: np.ndarray) -> tuple:
    """The arguments of arithmetic, its arrays without the numbers of the channels that go.

    Args:
        node: a node of the old graph.
        arguments: what the new operation is to be called with: the old arrays among new tensors.
        kept: bool array that broadcasts against the node's output: which positions stay.
    """
    if not isinstance(node.operation, ARITHMETIC) or kept.all():
        return arguments
    axis = channel_axis(kept) - kept.ndim

    def smaller(value: Any) -> Any:
        if not is_array(value) or np.ndim(value) < -axis or np.shape(value)[axis] == 1:
            return value
        numbers = keras.ops.convert_to_numpy(value).compress(kept.reshape(-1), axis)
        return numbers if isinstance(value, np.ndarray) else keras.ops.convert_to_tensor(numbers)

    return keras.tree.map_structure(smaller, arguments)


def _attention(ends: Ends) -> list[Any] | None:
    """The scale of the scores, which would follow the width of the heads, stays what it was."""
    node = ends.node
    new = dict(zip(map(id, node.input_tensors), map(materialise, ends.values), strict=True))
    args, kwargs = node.arguments.fill_in(new)
    bound = inspect.signature(node.operation.call).bind(*args, **kwargs)
    if bound.arguments.get("scale") is None:
        bound.arguments["scale"] = float(node.input_tensors[0].shape[-1]) ** -0.5
    return [_anew(node.operation)(*bound.args, **bound.kwargs)]


def _anew(op: Any) -> Any:
    return type(op).from_config(op.get_config())


def _reshape(ends: Ends) -> list[Any]:
    op = ends.node.operation
    old = [-1 if n is None else int(n) for n in op.newshape]
    shape = [
        wanted if wanted == -1 or n == 1 else size
        for wanted, n, size in zip(old, ends.outputs[0].shape, ends.shapes[0], strict=True)
    ]
    return [keras_numpy.Reshape(tuple(shape), name=op.name)(materialise(ends.values[0]))]


def _broadcast_to(ends: Ends) -> list[Any]:
    op, kept = ends.node.operation, ends.outputs[0]
    shape = [
        int(kept.sum()) if kept.shape[axis] > 1 else size for axis, size in enumerate(op.shape)
    ]
    return [keras_numpy.BroadcastTo(tuple(shape), name=op.name)(materialise(ends.values[0]))]


def _squeeze(ends: Ends) -> list[Any] | None:
    """Names the axes: one that is left with a single channel stays."""
    op, shape = ends.node.operation, ends.node.input_tensors[0].shape
    if op.axis is not None:
        return None
    axes = tuple(axis for axis, n in enumerate(shape) if n == 1)
    return [keras_numpy.Squeeze(axes, name=op.name)(materialise(ends.values[0]))]


def _reindex(ends: Ends) -> list[Any] | None:
    """Slices, splits, rolls and repeats along the channels: selections of what is left."""
    node, (source,) = ends.node, ends.inputs
    if isinstance(node.operation, keras_numpy.Repeat) and np.size(node.operation.repeats) == 1:
        return None  # the copies of a channel go along with it
    axis = channel_axis(source)
    positions = np.arange(source.size).reshape(source.shape)
    outputs = moved(
        node.operation,
        positions,
        tuple(node.input_tensors[0].shape),
        [tuple(x.shape) for x in node.outputs],
        node.arguments.args,
        node.arguments.kwargs,
    )
    if source.size == 1 or outputs is None:
        return None
    value = _other_axes(ends, axis)
    if value is None:
        return None
    new_position = np.where(source, np.cumsum(source.reshape(-1)).reshape(source.shape) - 1, ZERO)
    results = []
    for shown, kept in zip(outputs, ends.outputs, strict=True):
        along = channel_axis(kept)
        first = shown[tuple(slice(None) if a == along else 0 for a in range(shown.ndim))]
        indices = new_position.reshape(-1)[np.broadcast_to(first, kept.size)]
        results.append(select(value, indices[kept.reshape(-1)], along))
    return results


def _other_axes(ends: Ends, axis: int) -> Any | None:
    """What the operation does along the axes that channels do not lie along, or None."""
    op, value = ends.node.operation, ends.values[0]
    if isinstance(op, keras_core.Slice):
        arguments = ends.node.arguments
        key = list(slice_key(op, arguments.args, arguments.kwargs))
        key[axis] = slice(None)
        return keras_numpy.GetItem(name=op.name)(materialise(value), tuple(key))
    if not isinstance(op, keras_numpy.GetItem):
        own = split_axis(op) if isinstance(op, tuple(SPLITS)) else op.axis
        rank = len(ends.node.input_tensors[0].shape)
        return value if isinstance(own, int) and own % rank == axis else None
    key, place = _place_in_key(ends, axis)
    if place is None or not isinstance(key[place], slice):
        return None
    rest = (*key[:place], slice(None), *key[place + 1 :])
    if all(k in (slice(None), Ellipsis) for k in rest):
        return value
    return keras_numpy.GetItem(name=op.name)(materialise(value), rest)


def _place_in_key(ends: Ends, axis: int) -> tuple[tuple, int | None]:
    """The key of a `GetItem`, and which of its parts is for an axis of the input."""
    arguments = ends.node.arguments
    key = key_of(arguments.args, arguments.kwargs)
    rank = len(ends.node.input_tensors[0].shape)
    taken = sum(k is not None and k is not Ellipsis for k in key)
    at = 0
    for place, part in enumerate(key):
        if part is Ellipsis:
            at += rank - taken
            continue
        if part is None:
            continue
        if at == axis:
            return key, place
        at += 1
    return key, None


def _get_item(ends: Ends) -> list[Any] | None:
    """One channel alone leaves the axis of channels: its number changes."""
    source = ends.inputs[0]
    axis = channel_axis(source)
    key, place = _place_in_key(ends, axis)
    if source.size == 1 or place is None:
        return None
    if isinstance(key[place], int):
        number = int(np.cumsum(source.reshape(-1))[key[place]]) - 1
        key = (*key[:place], number, *key[place + 1 :])
        return [keras_numpy.GetItem()(materialise(ends.values[0]), key)]
    return _reindex(ends)


def _unstack(ends: Ends) -> list[Any] | None:
    """One channel alone for each output; what goes is not asked for."""
    source, rank = ends.inputs[0], ends.inputs[0].ndim
    axis = ends.node.operation.axis % rank
    if source.shape[axis] == 1:
        return None
    value = materialise(ends.values[0])
    new_position = np.maximum(np.cumsum(source.reshape(-1)) - 1, 0)
    before = (slice(None),) * axis
    return [keras_numpy.GetItem()(value, (*before, int(at))) for at in new_position]


def _take(ends: Ends) -> list[Any] | None:
    arguments, op = ends.node.arguments, ends.node.operation
    indices = np.asarray(arguments.args[1] if arguments.args[1:] else arguments.kwargs["indices"])
    rank = len(ends.node.input_tensors[0].shape)
    if op.axis is None or op.axis % rank != channel_axis(ends.inputs[0]):
        return None
    return _select(ends, indices.reshape(-1) % max(ends.inputs[0].size, 1))


def _pad(ends: Ends) -> list[Any] | None:
    op, target = ends.node.operation, ends.outputs[0]
    widths = np.broadcast_to(np.asarray(op.pad_width), (target.ndim, 2))
    axis = channel_axis(target)
    if op.mode != "constant" or not widths[axis].any():
        return None
    before, after = widths[axis]
    count = ends.inputs[0].size
    others = [[0, 0] if a == axis else w.tolist() for a, w in enumerate(widths)]
    if np.any(others):
        padded = keras.ops.pad(materialise(ends.values[0]), others)
        ends = ends._replace(values=[padded])
    return _select(ends, np.r_[np.full(before, ZERO), np.arange(count), np.full(after, ZERO)])


def _select(ends: Ends, indices: np.ndarray) -> list[Any] | None:
    """The output of a node that shows these positions of its input along the channel axis."""
    (source,), (target,) = ends.inputs, ends.outputs
    # A tensor that shows one channel everywhere has an axis of it all the same: the source's.
    axis = channel_axis(target if target.size > 1 else source)
    if (axis != channel_axis(source) and source.size > 1) or source.size == target.size == 1:
        return None
    new_position = np.append(np.where(source, np.cumsum(source) - 1, ZERO).reshape(-1), ZERO)
    kept = np.broadcast_to(target.reshape(-1), (len(indices),))
    return [select(ends.values[0], new_position[indices][kept], axis)]


_REMAKERS = (
    (keras_numpy.Reshape, _reshape),
    (keras_numpy.BroadcastTo, _broadcast_to),
    (keras_numpy.Squeeze, _squeeze),
    (keras_numpy.GetItem, _get_item),
    ((*_SPLITS, keras_core.Slice, keras_numpy.Roll, keras_numpy.Repeat), _reindex),
    (keras_core.Unstack, _unstack),
    (keras_numpy.Take, _take),
    (keras_numpy.Pad, _pad),
)
