"""Channels that a user's code chooses by numbers: `ops.split(x, 2, -1)`, `x[..., : self.half]`.

Surgery does not edit code, so that a choice has to come out right by itself. It does if the parts
of what is chosen from lose the same channels, and the code's numbers follow.
"""

from __future__ import annotations

import math
from typing import Any

import keras
import numpy as np

from ptkeras.channels.operands import is_array
from ptkeras.channels.registry import rule_for
from ptkeras.channels.rules_merge import ARITHMETIC
from ptkeras.channels.rules_moves import CHOOSERS, SPLITS, key_of, slice_key, split_axis
from ptkeras.keras_compat.operations import keras_core, keras_numpy

_SPLITS: tuple[type[Any], ...] = (keras_numpy.Split, *SPLITS)


def parts(node: Any, labels: np.ndarray) -> np.ndarray | None:
    """Returns the labels of what a node chooses from, with a row for each equal part.

    Args:
        node: a node of code.
        labels: the label array of its input.

    Returns:
        An array of two axes. If the labels of each column are tied, the node chooses rightly
        whatever is removed. None if there is no such array.
    """
    axis = next((a for a, n in enumerate(labels.shape) if n > 1), None)
    if axis is None:
        return None
    vector, op = labels.reshape(-1), node.operation
    if isinstance(op, _SPLITS):
        count = op.indices_or_sections
        divides = isinstance(count, int) and len(vector) % count == 0
        return (
            vector.reshape(count, -1) if divides and split_axis(op) % labels.ndim == axis else None
        )
    key = key_along(node, axis, labels.ndim)
    if not isinstance(key, slice):
        return None
    start, stop, step = key.indices(len(vector))
    if step == 1:
        length = stop - start
        fits = length > 0 and len(vector) % length == 0 and start % length == 0
        return vector.reshape(-1, length) if fits else None
    fits = (
        step > 1 and len(vector) % step == 0 and len(range(start, stop, step)) * step == len(vector)
    )
    return vector.reshape(-1, step).T if fits else None


def key_along(node: Any, axis: int, rank: int) -> Any:
    """What a `GetItem` or a `Slice` takes along an axis; None for another operation."""
    arguments = node.arguments
    if isinstance(node.operation, keras_core.Slice):
        return slice_key(node.operation, arguments.args, arguments.kwargs)[axis]
    if not isinstance(node.operation, keras_numpy.GetItem):
        return None
    key = key_of(arguments.args, arguments.kwargs)
    place = next((i for i, k in enumerate(key) if k is Ellipsis), None)
    if place is not None:
        spare = rank - sum(k is not None for k in key) + 1
        key = (*key[:place], *[slice(None)] * spare, *key[place + 1 :])
    own = [k for k in key if k is not None]
    return own[axis] if axis < len(own) else slice(None)


def chooses(node: Any, inputs: list[np.ndarray], outputs: list[np.ndarray]) -> bool:
    """Whether a node of code shows some of its input's channels, or shows them elsewhere.

    Args:
        node: a node of code.
        inputs: the label arrays of what it reads.
        outputs: those of what it makes.
    """
    if not isinstance(node.operation, CHOOSERS):
        return False
    same = len(inputs) == len(outputs) == 1 and inputs[0].size == outputs[0].size
    return not same or bool((inputs[0].reshape(-1) != outputs[0].reshape(-1)).any())


def computes_with_arrays(node: Any, outputs: list[np.ndarray]) -> bool:
    """Whether a node of code has an array with a number per channel, which cannot follow.

    Args:
        node: a node of code.
        outputs: the label arrays of what it makes.
    """
    values = keras.tree.flatten((node.arguments.args, node.arguments.kwargs))
    arrays = [
        v
        for v in values
        if is_array(v) and not isinstance(v, keras.Variable) and math.prod(v.shape) > 1
    ]
    if not arrays or not isinstance(node.operation, ARITHMETIC):
        return bool(arrays) and rule_for(node.operation) is None
    labels = outputs[0]
    axis = next((a for a, n in enumerate(labels.shape) if n > 1), labels.ndim - 1)
    back = labels.ndim - axis
    return any(len(v.shape) >= back and v.shape[-back] > 1 for v in arrays)
