"""Regularizers, constraints and initializers of the user's that are made for one width."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from ptkeras.channels.channel_map import Cause, ChannelMap
from ptkeras.channels.graph import is_graph
from ptkeras.keras_compat.tracking import sublayers

_KINDS = ("regularizer", "constraint", "initializer")
_BATCH = 7  # examples: a reshape that takes them for channels does not come out even


def freeze_widths(channel_map: ChannelMap) -> None:
    """Freezes channels that an object hanging on them cannot do without.

    A regularizer that reshapes a kernel to 6 by 6, an initializer that holds an array: each is
    called with one channel less, and what ends in an error needs the width that it has.

    Args:
        channel_map: the channels of a model.
    """
    for row in channel_map.slices:
        shape = _one_less(tuple(row.variable.shape), row.axis)
        for kind in _KINDS:
            own = _of_variable(row.layer, row.variable, kind)
            if own is not None and shape is not None and not _takes(own, kind, shape):
                channel_map.freeze(np.unique(row.channels), _cause(row.layer, own))
    seen_through = {id(opened.layer) for opened in channel_map.graph.seen_through}
    for node in channel_map.graph.nodes:
        if id(node.operation) not in seen_through and not is_graph(node.operation):
            _freeze_for_wrapped(channel_map, node)
        own = getattr(node.operation, "activity_regularizer", None)
        if own is None or _is_of_keras(own):
            continue
        for tensor in node.outputs:
            channels = channel_map.tensors[id(tensor)]
            sizes = tuple(n or _BATCH for n in tensor.shape)
            for axis, n in enumerate(channels.shape):
                shape = _one_less(sizes, axis)
                if n > 1 and shape is not None and not _takes(own, "regularizer", shape):
                    channel_map.freeze(
                        np.unique(channels[channels >= 0]), _cause(node.operation, own)
                    )


def _freeze_for_wrapped(channel_map: ChannelMap, node: Any) -> None:
    """Freezes what a layer makes that wraps one with a regularizer of activity of the user's.

    What that is called on, such as one step of a sequence, no tensor of the graph shows.
    """
    for layer in sublayers(node.operation):
        own = getattr(layer, "activity_regularizer", None)
        for tensor in () if _is_of_keras(own) else node.outputs:
            channels = channel_map.tensors[id(tensor)]
            channel_map.freeze(np.unique(channels[channels >= 0]), _cause(layer, own))


def _cause(layer: Any, own: Any) -> Cause:
    return Cause("width", f"the {type(own).__name__} of '{getattr(layer, 'name', layer)}'")


def _of_variable(layer: Any, variable: keras.Variable, kind: str) -> Any:
    """What hangs on a variable and is not Keras's own; None if nothing does."""
    own = getattr(variable, kind, None)
    if kind == "initializer":
        first = variable.name.removesuffix("_kernel")  # depthwise, pointwise, recurrent
        names = (f"{name}_initializer" for name in (variable.name, first, "depthwise"))
        own = next((getattr(layer, name) for name in names if hasattr(layer, name)), None)
        holds = isinstance(own, keras.initializers.Constant) and np.ndim(own.value)
        return own if holds or not _is_of_keras(own) else None
    return None if _is_of_keras(own) else own


def _is_of_keras(value: Any) -> bool:
    named = value is None or isinstance(value, str)  # the name of one of Keras's
    return named or type(value).__module__.split(".")[0] in ("keras", "ptkeras")


def _one_less(shape: tuple[int, ...], axis: int) -> tuple[int, ...] | None:
    """A shape with one position less along an axis; None where there is only one."""
    if shape[axis] < 2:
        return None
    return (*shape[:axis], shape[axis] - 1, *shape[axis + 1 :])


def _takes(own: Callable, kind: str, shape: tuple[int, ...]) -> bool:
    try:
        if kind == "initializer":
            return tuple(own(shape, dtype="float32").shape) == shape
        result = own(keras.ops.zeros(shape))
        if kind == "constraint":
            return tuple(result.shape) == shape
    except Exception:  # whatever the user's code says of the width
        return False
    return True
