"""Selecting channels inside a graph, for channel gating: gather before a layer, scatter behind."""

from __future__ import annotations

from typing import Any, NamedTuple

import keras
import numpy as np

ZERO = -1


class Selection(NamedTuple):
    """A tensor that is not in the graph yet: positions of another one, or zeros.

    Kept apart until something reads it, so that a gather of a gather becomes one.

    Attributes:
        source: the symbolic tensor that is selected from.
        indices: int array, the position of `source` that each position shows; `ZERO` for a zero.
        axis: the axis along which positions are counted.
    """

    source: Any
    indices: np.ndarray
    axis: int

    def tensor(self) -> Any:
        """The selection as operations of plain Keras."""
        size = self.source.shape[self.axis]
        source = self.source
        if (self.indices == ZERO).any():
            widths = [[0, 0] for _ in source.shape]
            widths[self.axis] = [0, 1]
            source = keras.ops.pad(source, widths)
        indices = np.where(self.indices == ZERO, size, self.indices)
        first = int(indices[0]) if indices.size else 0  # of an empty part of a split
        last = first + indices.size
        if not np.array_equal(indices, np.arange(first, last)):
            return keras.ops.take(source, indices.tolist(), axis=self.axis)
        if (first, last) == (0, source.shape[self.axis]):
            return source
        key = [slice(None)] * len(source.shape)
        key[self.axis] = slice(first, last)
        return source[tuple(key)]


def select(value: Any, indices: np.ndarray, axis: int) -> Selection:
    """Selects from a symbolic tensor, or from what is a selection itself.

    Args:
        value: a symbolic tensor or a `Selection` along the same axis.
        indices: positions of `value` to show, `ZERO` for a zero.
        axis: the axis along which to select.
    """
    indices = np.asarray(indices, int)
    if isinstance(value, Selection) and value.axis == axis:
        extended = np.append(value.indices, ZERO)
        return Selection(value.source, extended[indices], axis)
    return Selection(materialise(value), indices, axis)


def materialise(value: Any) -> Any:
    """A symbolic tensor for `value`, be it a `Selection` or one already."""
    return value.tensor() if isinstance(value, Selection) else value
