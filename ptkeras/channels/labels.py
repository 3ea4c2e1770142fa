"""Labels: an integer for each position on a channel axis, and which of them are tied together."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from ptkeras.channels.channel_map import Cause, Role, Slice
from ptkeras.keras_compat.tracking import flatten_layers
from ptkeras.keras_compat.variables import shape_of

CONSTANT = -1


def one_axis(labels: np.ndarray) -> tuple[np.ndarray, list[tuple[np.ndarray, np.ndarray]]]:
    """Reduces a label array to one that changes along one axis at most.

    Args:
        labels: int array, one label per position of a tensor.

    Returns:
        The array with size 1 along all other axes, and the pairs of labels that have to be tied for
        that to be right. A split of channels into groups ties the same offset of every group.
    """
    varying = [a for a, n in enumerate(labels.shape) if n > 1 and _varies(labels, a)]
    keep = varying[-1] if varying else None
    ties = []
    for axis in range(labels.ndim):
        if axis == keep or labels.shape[axis] in (0, 1):  # an empty part of a split stays so
            continue
        # A constant goes along with the channel that it stands beside, hence the maximum.
        chosen = labels.max(axis=axis, keepdims=True)
        if axis in varying:
            ties.append((labels, chosen))
        labels = chosen
    return labels, ties


def _varies(labels: np.ndarray, axis: int) -> bool:
    if labels.strides[axis] == 0:  # a view of one position
        return False
    return bool((labels != labels.take([0], axis)).any())


class Labels:
    """Hands out labels; records ties, frozen labels and the axes of variables they lie along."""

    def __init__(self) -> None:
        self._count = 0
        self._ties: list[np.ndarray] = []
        self._frozen: list[tuple[Cause, np.ndarray]] = []
        self.cause = Cause("rule", None)
        self._zeros: list[np.ndarray] = []
        self._rows: dict[tuple[int, int], Slice] = {}
        self._whole: list[tuple[Cause, tuple[int, int]]] = []
        self._known: dict[int, set[tuple[int, int]]] = {}  # the axes that a layer's rule names
        self._others: list[tuple[Cause, list[int], tuple[int, int]]] = []
        self.inner: list[tuple[Any, np.ndarray]] = []

    def new(self, size: int, frozen: bool = False) -> np.ndarray:
        """`size` labels that nobody has."""
        labels = np.arange(self._count, self._count + size)
        self._count += size
        if frozen:
            self.freeze(labels)
        return labels

    def zeros(self, size: int) -> np.ndarray:
        """`size` new labels, of positions that hold nothing but zeros."""
        labels = self.new(size)
        self._zeros.append(labels)
        return labels

    def is_zero(self, labels: np.ndarray) -> np.ndarray:
        """Which of these labels are of positions that hold nothing but zeros."""
        zeros = np.concatenate([np.array([CONSTANT]), *self._zeros])
        found = np.isin(labels, zeros)
        if found.any() and self._ties:  # what a zero was added to is more than a zero
            found &= ~np.isin(labels, np.concatenate(self._ties, axis=1))
        return found

    def tie(self, a: np.ndarray, b: np.ndarray) -> None:
        """Makes the labels of `a` and `b` one, position by position; constants are left out."""
        a, b = np.broadcast_arrays(a, b)
        differ = (a != b) & (a != CONSTANT) & (b != CONSTANT)
        if differ.any():
            a, b = a[differ], b[differ]
            if a.size > self._count:  # the same few over and over, along the axes of an image
                pairs = np.unique(a * self._count + b)
                a, b = pairs // self._count, pairs % self._count
            self._ties.append(np.stack([a, b]))

    def freeze(self, labels: np.ndarray) -> None:
        """Says that these labels may not go."""
        labels = np.unique(labels)
        self._frozen.append((self.cause, labels[labels != CONSTANT]))

    def reduced(self, labels: np.ndarray) -> np.ndarray:
        """`labels` so that they change along one axis at most, with the ties that this takes."""
        labels, ties = one_axis(labels)
        for pair in ties:
            self.tie(*pair)
        return labels

    def along(self, labels: np.ndarray, axis: int, size: int | None = None) -> np.ndarray:
        """The labels along one axis; what lies along another is frozen, since it gets mixed."""
        axis %= labels.ndim
        size = labels.shape[axis] if size is None else size
        if labels.size != labels.shape[axis]:
            self.freeze(labels)
            return self.new(size, frozen=True)
        return np.broadcast_to(labels.reshape(-1), (size,))

    def add(
        self,
        variable: keras.Variable,
        axis: int,
        vector: np.ndarray,
        role: Role,
        layer: Any,
        repeats: int = 1,
        named: bool = True,
    ) -> np.ndarray:
        """Records the labels of one axis of a variable; a second call ties them to the first.

        `named` says whether it is the rule of `layer` that names the axis.
        """
        shape = shape_of(variable)
        axis %= len(shape)
        if len(vector) != shape[axis]:
            raise ValueError(
                f"Axis {axis} of '{variable.path}' has {shape[axis]} positions, but its "
                f"rule names {len(vector)} channels."
            )
        if (constant := vector == CONSTANT).any():
            vector = vector.copy()
            vector[constant] = self.new(int(constant.sum()), frozen=True)
        key = (id(variable), axis)
        if named:
            self._known.setdefault(id(layer), set()).add(key)
        if key in self._rows:
            self.tie(self._rows[key].channels, vector)
        else:
            self._rows[key] = Slice(variable, axis, np.array(vector), role, layer, repeats)
        return self._rows[key].channels

    def produce(
        self, variable: keras.Variable, axis: int, layer: Any, repeats: int = 1
    ) -> np.ndarray:
        """New labels for one axis of a variable, or those that it has from an earlier call."""
        shape = shape_of(variable)
        axis %= len(shape)
        row = self._rows.get((id(variable), axis))
        self._known.setdefault(id(layer), set()).add((id(variable), axis))
        if row is not None:
            if row.role == "vector":  # code has read the variable first
                self._rows[id(variable), axis] = row._replace(
                    role="output", layer=layer, repeats=repeats
                )
            return row.channels
        made = self.new(shape[axis])
        return self.add(variable, axis, made, "output", layer, repeats)

    def rows(self) -> list[Slice]:
        """Returns what is known of the axes of variables; `channels` has labels."""
        return list(self._rows.values())

    def keep_whole(self, variable: keras.Variable, axis: int) -> None:
        """Says that an axis of a variable is needed whole by what reads it besides its layer."""
        self._whole.append((self.cause, (id(variable), axis % len(variable.shape))))

    def leave_rest(self, layer: Any) -> None:
        """Says that a layer needs whole what its rule does not name.

        That matters for a variable that it shares with another layer, whose rule does. The rule of
        a wrapper names the variables of the layers in it.
        """
        if not isinstance(layer, keras.layers.Layer):
            return
        own = [id(x) for x in flatten_layers(layer)]
        for variable in layer.variables:
            keys = ((id(variable), axis) for axis in range(len(variable.shape)))
            self._others += [(self.cause, own, key) for key in keys]

    def channels(self) -> tuple[np.ndarray, list[Cause | None], list[Slice]]:
        """Turns labels into channels: tied labels are one.

        Returns:
            The channel of each label, with -1 for `CONSTANT` at the end so that it can be indexed
            by a label; for each channel what froze it, or None; and the slices.
        """
        ties = np.concatenate([*self._ties, np.zeros((2, 0), int)], axis=1)
        graph = coo_array((np.ones(ties.shape[1], bool), tuple(ties)), shape=(self._count,) * 2)
        count, channel = connected_components(graph, directed=False)
        causes: list[Cause | None] = [None] * count
        others = (x for x in self._others if not any(x[2] in self._known.get(i, ()) for i in x[1]))
        kept = [*self._whole, *((cause, key) for cause, _, key in others)]
        whole = [(cause, self._rows[k].channels) for cause, k in kept if k in self._rows]
        for cause, labels in sorted([*self._frozen, *whole], key=lambda pair: pair[0].rank()):
            for frozen in channel[labels].tolist():
                causes[frozen] = causes[frozen] or cause
        slices = [row._replace(channels=channel[row.channels]) for row in self._rows.values()]
        return np.append(channel, CONSTANT), causes, slices
