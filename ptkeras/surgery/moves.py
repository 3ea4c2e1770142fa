"""Operations that move data, in a smaller graph: what becomes of their arguments.

The operation is run on the positions of the old channels, which says what each position of an
output shows; what is left of that is the new operation, or a selection of channels.
"""

from __future__ import annotations

import inspect
import math
from typing import Any, NamedTuple

import keras
import numpy as np

from ptkeras.channels.rules_merge import ARITHMETIC, is_array
from ptkeras.channels.rules_moves import CHOOSERS, SPLITS, key_of, moved, slice_key, split_axis
from ptkeras.keras_compat.operations import keras_core, keras_nn, keras_numpy
from ptkeras.surgery.selection import ZERO, materialise, select

_SPLITS = (keras_numpy.Split, *SPLITS)


class Ends(NamedTuple):
    """A node of the old graph between its inputs and its outputs.

    Attributes:
        node: the node.
        values: what its input tensors became: symbolic tensors or `Selection`s.
        inputs: for each input a bool array that broadcasts against it: which positions are kept.
        outputs: the same for each output.
        shape: the shape that the input had.
        output_shapes: the shapes that the outputs had.
    """

    node: Any
    values: list[Any]
    inputs: list[np.ndarray]
    outputs: list[np.ndarray]
    shape: tuple[int | None, ...]
    output_shapes: list[tuple[int | None, ...]]


def channel_axis(kept: np.ndarray) -> int:
    """The axis that an array which changes along one axis changes along; the last if along none."""
    sizes = kept.shape
    return next((a for a, n in enumerate(sizes) if n > 1), len(sizes) - 1)


def chooses(ends: Ends) -> bool:
    """Whether a node chooses channels by constant numbers that fewer channels change."""
    if all(kept.all() for kept in (*ends.inputs, *ends.outputs)):
        return False
    return len(ends.inputs) == 1 and isinstance(ends.node.operation, CHOOSERS)


def remake(ends: Ends) -> list[Any] | None:
    """Returns the outputs of a node that chooses channels by constant numbers; None for others.

    What it returns for an output that loses all of its channels is of no meaning.
    """
    if not chooses(ends):
        return None
    for types, function in _REMAKERS:
        if isinstance(ends.node.operation, types):
            return function(ends)
    return None


def new_arguments(node: Any, kept: np.ndarray) -> tuple[tuple, dict] | None:
    """Returns what a node has to be called with for fewer channels, None if that does not change.

    Arrays in arithmetic lose the numbers of the channels that are removed. The scale of attention
    scores, which would follow the width of the heads, stays what it was.

    Args:
        node: a node of a graph.
        kept: bool array that broadcasts against the node's output: which positions are kept.
    """
    if kept.all():
        return None
    if isinstance(node.operation, keras_nn.DotProductAttention):
        return _with_scale(node)
    if isinstance(node.operation, ARITHMETIC):
        return _with_less_constants(node, kept)
    return None


def _with_less_constants(node: Any, kept: np.ndarray) -> tuple[tuple, dict] | None:
    axis = channel_axis(kept) - kept.ndim
    arguments = node.arguments.args, node.arguments.kwargs

    def varies(value: Any) -> bool:
        if isinstance(value, keras.Variable) or not is_array(value):
            return False  # a variable is resized where it is
        return np.ndim(value) >= -axis and np.shape(value)[axis] > 1

    def smaller(value: Any) -> Any:
        if not varies(value):
            return value
        numbers = keras.ops.convert_to_numpy(value).compress(kept.reshape(-1), axis)
        return numbers if isinstance(value, np.ndarray) else keras.ops.convert_to_tensor(numbers)

    if not any(map(varies, keras.tree.flatten(arguments))):
        return None
    return keras.tree.map_structure(smaller, arguments)


def _with_scale(node: Any) -> tuple[tuple, dict] | None:
    arguments = node.arguments
    bound = inspect.signature(node.operation.call).bind(*arguments.args, **arguments.kwargs)
    if bound.arguments.get("scale") is not None:
        return None
    bound.arguments["scale"] = float(node.input_tensors[0].shape[-1]) ** -0.5
    return bound.args, bound.kwargs


def _reindex(ends: Ends) -> list[Any] | None:
    """Slices, splits, rolls and repeats along the channels: selections of what is left."""
    node, (source,) = ends.node, ends.inputs
    if (
        isinstance(node.operation, keras_numpy.Repeat)
        and math.prod(np.shape(node.operation.repeats)) == 1
    ):
        return None  # the copies of a channel go along with it
    axis = channel_axis(source)
    positions = np.arange(source.size).reshape(source.shape)
    outputs = moved(
        node.operation,
        positions,
        ends.shape,
        ends.output_shapes,
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
        # A part may be empty, or have copies of one channel alone: then no axis stands out.
        is_plain = kept.size > 1 or kept.ndim != source.ndim
        along = channel_axis(kept) if is_plain else axis
        first = shown[tuple(slice(None) if a == along else 0 for a in range(shown.ndim))]
        first, stays = np.broadcast_arrays(first, kept.reshape(-1))
        results.append(select(value, new_position.reshape(-1)[first][stays], along))
    return results


def _other_axes(ends: Ends, axis: int) -> Any | None:
    """What the operation does along the axes that channels do not lie along, or None."""
    op, value = ends.node.operation, ends.values[0]
    if isinstance(op, keras_core.Slice):
        arguments = ends.node.arguments
        slices = list(slice_key(op, arguments.args, arguments.kwargs))
        slices[axis] = slice(None)
        return keras_numpy.GetItem(name=op.name)(materialise(value), tuple(slices))
    if not isinstance(op, keras_numpy.GetItem):
        own = split_axis(op) if isinstance(op, tuple(SPLITS)) else op.axis
        rank = len(ends.shape)
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
    rank = len(ends.shape)
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
    rank = len(ends.shape)
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
    (keras_numpy.GetItem, _get_item),
    ((*_SPLITS, keras_core.Slice, keras_numpy.Roll, keras_numpy.Repeat), _reindex),
    (keras_core.Unstack, _unstack),
    (keras_numpy.Take, _take),
    (keras_numpy.Pad, _pad),
)
