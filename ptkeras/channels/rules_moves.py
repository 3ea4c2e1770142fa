"""The rules of what only moves data: it is run on the labels, to see where each one went.

`Mover` is also what surgery asks: run on positions instead of labels, it says which position of
the input each position of an output shows.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import layers

from ptkeras.channels.operands import data_of, keep_whole, number_per_channel, reads_one_tensor
from ptkeras.channels.registry import Call, Outputs, existing, register
from ptkeras.keras_compat.operations import keras_core, keras_nn, keras_numpy

Mover = Callable[[Any, np.ndarray, tuple, dict], Any]
_MOVERS: dict[type, Mover] = {
    layers.Permute: lambda op, x, *_: np.transpose(x, (0, *op.dims)),
    layers.RepeatVector: lambda op, x, *_: np.broadcast_to(
        x[:, None], (len(x), op.n, *x.shape[1:])
    ),
    layers.Reshape: lambda op, x, *_: x.reshape((len(x), *op.target_shape)),
    keras_numpy.Reshape: lambda op, x, *_: x.reshape(_resolved(op.newshape, len(x))),
    keras_numpy.Ravel: lambda op, x, *_: x.reshape(-1),
    keras_numpy.Transpose: lambda op, x, *_: np.transpose(x, op.axes),
    keras_numpy.Moveaxis: lambda op, x, *_: np.moveaxis(x, op.source, op.destination),
    keras_numpy.Swapaxes: lambda op, x, *_: np.swapaxes(x, op.axis1, op.axis2),
    keras_numpy.ExpandDims: lambda op, x, *_: np.expand_dims(x, _tuple(op.axis)),
    keras_numpy.Flip: lambda op, x, *_: np.flip(x, _tuple(op.axis)),
    keras_numpy.Roll: lambda op, x, *_: np.roll(x, op.shift, _tuple(op.axis)),
    keras_numpy.Repeat: lambda op, x, *_: np.repeat(x, _tuple(op.repeats), op.axis),
    keras_numpy.Tile: lambda op, x, *_: np.tile(x, op.repeats),
    keras_numpy.BroadcastTo: lambda op, x, *_: np.broadcast_to(x, _sizes_for(op.shape, x)),
    keras_numpy.Split: lambda op, x, *_: np.split(x, op.indices_or_sections, op.axis),
    keras_core.Slice: lambda op, x, args, kwargs: x[slice_key(op, args, kwargs)],
    keras_numpy.GetItem: lambda op, x, args, kwargs: x[key_of(args, kwargs)],
    layers.Flatten: lambda op, x, *_: (
        _run(op, x) if op.data_format == "channels_first" else x.reshape(len(x), -1)
    ),
}


_BLOCKS = tuple(existing(keras_nn, "DepthToSpace", "SpaceToDepth"))
_MOVERS.update(dict.fromkeys(_BLOCKS, lambda op, x, *_: _run(op, x)))
_MOVERS |= {cls: lambda op, x, *_: np.fliplr(x) for cls in existing(keras_numpy, "Fliplr")}
_MOVERS |= {cls: lambda op, x, *_: np.flipud(x) for cls in existing(keras_numpy, "Flipud")}
_MOVERS |= {
    cls: lambda op, x, *_: np.rot90(x, op.k, op.axes) for cls in existing(keras_numpy, "Rot90")
}
# Splits by the axis that is in their name, or that is theirs to say.
SPLITS: dict[type[Any], int | None] = {
    cls: axis
    for name, axis in (("Vsplit", 0), ("Hsplit", 1), ("Dsplit", 2), ("ArraySplit", None))
    for cls in existing(keras_numpy, name)
}
_MOVERS |= dict.fromkeys(
    SPLITS, lambda op, x, *_: np.array_split(x, op.indices_or_sections, split_axis(op))
)


def split_axis(op: Any) -> int:
    """The axis along which an operation splits."""
    axis = SPLITS.get(type(op))
    return op.axis if axis is None else axis


def slice_key(op: Any, args: tuple, kwargs: dict) -> tuple[slice, ...]:
    """What a `Slice` takes, as the key of a `GetItem`; the batch stays whole."""
    starts = kwargs["start_indices"] if "start_indices" in kwargs else args[1]
    pairs = zip(starts, op.shape, strict=True)
    key = [slice(int(a), None if n == -1 else int(a) + int(n)) for a, n in pairs]
    return (slice(None), *key[1:])


def key_of(args: tuple, kwargs: dict) -> tuple:
    """The key of a `GetItem`, as a tuple."""
    key = kwargs["key"] if "key" in kwargs else args[1]
    return tuple(key) if isinstance(key, (tuple, list)) else (key,)


def _tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, (list, tuple, np.ndarray)) else value


def _sizes(shape: Any) -> tuple[int, ...]:
    return tuple(-1 if n is None else int(n) for n in shape)


def _sizes_for(shape: Any, x: np.ndarray) -> tuple[int, ...]:
    """A shape to broadcast to, whose open size is the batch's."""
    return tuple(len(x) if n is None else int(n) for n in shape)


def _resolved(newshape: Any, batch: int) -> tuple[int, ...]:
    """A new shape whose one open size NumPy can find: where there is another, None is the batch."""
    sizes = tuple(newshape)
    if None in sizes and sum(n in (None, -1) for n in sizes) > 1:
        sizes = tuple(batch if n is None else n for n in sizes)
    return _sizes(sizes)


def _run(op: Any, x: np.ndarray) -> np.ndarray:
    moved = op.call(keras.ops.convert_to_tensor(np.ascontiguousarray(x).astype("int32")))
    return keras.ops.convert_to_numpy(moved).astype(int)


def _squeeze(op: Any, x: np.ndarray, shape: tuple) -> np.ndarray:
    axes = _tuple(op.axis)
    if axes is None:
        axes = tuple(axis for axis, n in enumerate(shape) if n == 1)
    return np.squeeze(x, axes)


def moved(
    op: Any, values: np.ndarray, shape: tuple, output_shapes: list[tuple], args: tuple, kwargs: dict
) -> list[np.ndarray] | None:
    """Runs a data movement on an array that broadcasts against its input.

    Args:
        op: the layer or operation.
        values: labels or positions.
        shape: the shape of the input tensor; None where a size is not known, the batch's above all.
        output_shapes: the shapes of the outputs.
        args: what the node calls `op` with.
        kwargs: the same by name.

    Returns:
        One array per output, or None if the operation cannot be run with sizes that are not known.
    """
    batch = 1
    if isinstance(op, keras_numpy.Reshape) and shape and shape[0] is None:
        batch = _least_batch(shape, op.newshape)
    full = [(1 if axis else batch) if n is None else n for axis, n in enumerate(shape)]
    try:
        values = np.broadcast_to(values, full)
        if isinstance(op, keras_numpy.Squeeze):
            result = _squeeze(op, values, shape)
        else:
            mover = next(_MOVERS[cls] for cls in type(op).__mro__ if cls in _MOVERS)
            result = mover(op, values, args, kwargs)
    except (ValueError, IndexError, TypeError):
        return None
    results = list(result) if isinstance(result, (list, tuple)) else [result]
    return results if [x.ndim for x in results] == [len(s) for s in output_shapes] else None


def is_move(op: Any) -> bool:
    """Whether `moved` knows an operation."""
    return isinstance(op, (keras_numpy.Squeeze, *_MOVERS))


def _least_batch(shape: tuple, newshape: Any) -> int:
    """The smallest batch whose elements fill whole examples of the new shape."""
    old = int(np.prod([n or 1 for n in shape[1:]]))
    new = int(np.prod([n for n in _sizes(newshape) if n > 0]))
    return max(1, new // max(1, np.gcd(old, new)))


def move(call: Call) -> list[np.ndarray] | None:
    """The labels behind a layer or an operation that only moves data."""
    if not reads_one_tensor(call) or _beyond(call):
        return None
    call.passes()
    return moved(
        call.op, call.inputs[0], call.shapes[0], call.output_shapes, call.args, call.kwargs
    )


def _beyond(call: Call) -> bool:
    """What surgery could not say again for fewer channels."""
    op = call.op
    if isinstance(op, keras_numpy.Roll) and not isinstance(op.axis, int):
        return op.axis is None or any(call.inputs[0].shape[axis] > 1 for axis in op.axis)
    return isinstance(op, _BLOCKS) and op.data_format == "channels_first"


register(keras_numpy.Squeeze, *_MOVERS)(move)

# What chooses channels by constant numbers.
CHOOSERS = (
    keras_numpy.GetItem,
    keras_numpy.Split,
    *SPLITS,
    keras_core.Slice,
    keras_numpy.Roll,
    keras_numpy.Repeat,
    keras_core.Unstack,
    keras_numpy.Take,
    keras_numpy.Pad,
)


@register(keras_core.Unstack)
def _unstack(call: Call) -> list[np.ndarray] | None:
    labels, axis = call.inputs[0], call.op.axis
    call.passes()
    shown = range(labels.shape[axis]) if labels.shape[axis] > 1 else [0] * len(call.output_shapes)
    return [labels.take(position, axis) for position in shown]


@register(keras_nn.Glu)
def _glu(call: Call) -> np.ndarray:
    """One half of the channels gates the other."""
    labels, axis = call.inputs[0], call.op.axis
    call.passes()
    if labels.shape[axis] == 1:
        return labels
    values, gates = np.split(labels, 2, axis)
    call.tie(values, gates)
    return values


@register(layers.Rescaling)
def _rescaling(call: Call) -> np.ndarray | list[np.ndarray]:
    """A scale or offset per channel is part of the layer's config, which surgery slices.

    One per place, along another axis than the channels', is left as it is.
    """
    labels = call.inputs[0]
    for values in (np.asarray(call.op.scale), np.asarray(call.op.offset)):
        along = [a for a in range(-values.ndim, 0) if values.shape[a] > 1]
        if values.ndim > labels.ndim or any(call.shapes[0][a] == 1 for a in along):
            return call.untouched()  # one position becomes many
    call.zero_output = call.zero_inputs[0] and not np.any(call.op.offset)
    return labels


@register(keras_numpy.Clip)
def _clip(call: Call) -> Outputs:
    """Bounds are attributes of the operation, which surgery slices, unless it is in code."""
    labels, bounds = call.inputs[0], (call.op.x_min, call.op.x_max)
    for bound in bounds:
        shape = () if bound is None else np.shape(bound)
        if len(shape) > labels.ndim or call.output_shapes[0] != call.shapes[0]:
            return None
        if any(n > 1 == own for n, own in zip(shape[::-1], call.shapes[0][::-1], strict=False)):
            return call.untouched()
        for axis in range(-len(shape), 0):
            if shape[axis] == 1 or labels.shape[axis] == 1:
                continue
            if isinstance(bound, keras.Variable):
                number_per_channel(call, bound, labels.reshape(-1), axis)
            elif call.in_code:
                call.freeze(labels)
    if any(isinstance(bound, keras.Variable) for bound in bounds):
        return labels
    low, high = (np.asarray(0.0 if b is None else b, "float32") for b in bounds)
    call.zero_output = call.zero_inputs[0] and bool((low <= 0).all() and (high >= 0).all())
    return labels


@register(keras_numpy.Take)
def _take(call: Call) -> Outputs:
    """Selection of positions: constant indices may select channels, as channel gating does it."""
    data, axis, indices = data_of(call), call.op.axis, call.argument("indices")
    labels = call.labels_of(data)
    if labels is None:
        return _take_from_table(call, data)
    if axis is None:
        return None
    axis %= labels.ndim
    call.passes()
    beside = labels.shape[axis] == 1 and call.shapes[0][axis] != 1
    if len(call.inputs) > 1 or np.ndim(indices) != 1:
        if not beside:
            return None
        for others in call.inputs[1:]:
            call.freeze(others)
        call.zero_output = call.zero_inputs[0]
        place = (1,) * (len(call.output_shapes[0]) - labels.ndim + 1)
        return labels.reshape(labels.shape[:axis] + place + labels.shape[axis + 1 :])
    if beside:
        return labels  # of other positions than channels
    if call.shapes[0][axis] is None or labels.size != labels.shape[axis]:
        call.freeze(labels)
        return labels
    taken = call.along(labels, axis, call.shapes[0][axis])[np.asarray(indices)]
    if call.zero_inputs[0]:
        # Each copy of a zero may go by itself, along with whatever it is added to.
        zero = call.is_zero(taken)
        taken[zero] = call.zeros(int(zero.sum()))
    return call.spread(taken, axis, labels.ndim)


def _take_from_table(call: Call, table: Any) -> np.ndarray | list[np.ndarray]:
    """Rows of an array are constants; those of a variable are an embedding's."""
    rank = len(call.output_shapes[0])
    rows = isinstance(table, keras.Variable) and len(table.shape) == 2
    if not rows or call.op.axis is None or call.op.axis % 2 != 0:
        if isinstance(table, keras.Variable):
            keep_whole(call, table)
        return call.untouched()
    for labels in call.inputs:
        call.freeze(labels)
    keep_whole(call, table, besides=1)
    call.zero_output = True
    return call.spread(call.produce(table, 1), -1, rank)


@register(keras_numpy.TakeAlongAxis)
def _take_along_axis(call: Call) -> np.ndarray | list[np.ndarray] | None:
    """Selection of other positions than channels, the same in all channels."""
    labels, axis = call.labels_of(data_of(call)), call.op.axis
    indices = call.argument("indices")
    if labels is None:
        return call.untouched()
    if axis is None or labels.shape[axis] > 1 or len(indices.shape) != labels.ndim:
        return None
    if any(n > 1 and indices.shape[a] != 1 for a, n in enumerate(labels.shape)):
        return None
    for others in call.inputs[1:]:
        call.freeze(others)
    call.zero_output = call.zero_inputs[0]
    return labels


@register(keras_numpy.Pad)
def _pad(call: Call) -> np.ndarray | None:
    """Padding puts zeros beside the channels: each may go along with what it is added to."""
    if not reads_one_tensor(call):
        return None
    labels, fill = call.inputs[0], call.argument("constant_values")
    call.passes()
    zeros = call.op.mode == "constant" and (fill is None or not np.any(np.asarray(fill)))
    widths = np.broadcast_to(np.asarray(call.op.pad_width), (labels.ndim, 2))
    along = [axis for axis, n in enumerate(labels.shape) if n > 1]
    if not along and call.shapes[0][-1] == 1:
        along = [labels.ndim - 1]
    if not zeros:
        call.zero_output &= call.op.mode != "constant"
        if any(widths[axis].any() for axis in along):
            return None
    # Along the other axes what is padded belongs to the channel that it stands beside.
    own = [tuple(w) if axis in along else (0, 0) for axis, w in enumerate(widths)]
    padded = np.pad(labels, own, constant_values=-2)
    new = padded == -2
    padded[new] = call.zeros(int(new.sum()))
    return padded
