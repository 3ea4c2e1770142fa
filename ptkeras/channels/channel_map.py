"""What tracing a model yields: its channels, and where in its variables each one lives."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import keras
import numpy as np

from ptkeras.channels.graph import functional_of
from ptkeras.keras_compat.nodes import maker_of
from ptkeras.keras_compat.variables import shape_of
from ptkeras.utils.arrays import numbers

Role = Literal["output", "input", "vector", "depthwise"]

_BLOCK = 2**17  # numbers


class Slice(NamedTuple):
    """One axis of one variable, and the channel that each of its positions belongs to.

    Attributes:
        variable: the Keras variable.
        axis: the axis of `variable` that channels lie along.
        channels: int array of shape `(variable.shape[axis],)`.
        role: what the axis is to its layer: `"output"` (a kernel axis that makes the channels),
            `"input"` (a kernel axis that reads them), `"vector"` (one number per channel: bias,
            batch norm) or `"depthwise"` (one filter per channel).
        layer: the layer that owns the variable.
        repeats: how many positions make one of the layer's output: 1, and the number of gates of a
            recurrent layer, whose kernel has the columns of one gate after those of the other.
    """

    variable: keras.Variable
    axis: int
    channels: np.ndarray
    role: Role
    layer: Any
    repeats: int = 1

    @property
    def made(self) -> np.ndarray:
        """The channels of an `"output"` row, one per position of the layer's output."""
        return self.channels[: len(self.channels) // self.repeats]


class Cause(NamedTuple):
    """What froze a channel.

    Attributes:
        kind: `"input"` or `"output"` of the model; `"unknown"`, an operation that nobody has a rule
            for; `"rule"`, one whose rule says that it needs the channel; `"size"`, a layer
            whose code computes with the number of channels; `"alone"`, an operation that needs a
            tensor whose only channel it is; or `"width"`, a regularizer, constraint or
            initializer that is made for their number.
        what: the symbolic tensor, the operation, or the name of what is made for a width.
    """

    kind: Literal["input", "output", "unknown", "rule", "size", "alone", "width"]
    what: Any

    def rank(self) -> int:
        """Which of several causes is told: first those that nothing can lift."""
        kinds = ("input", "output", "unknown", "rule", "size", "alone", "width")
        return kinds.index(self.kind)

    @property
    def name(self) -> str:
        """The name of the operation that froze the channel or, of the model's own, that made it."""
        if self.kind == "width":
            return self.what
        maker = maker_of(self.what)
        return (self.what if maker is None else maker).name

    def __str__(self) -> str:
        if self.kind in ("input", "output"):
            return f"part of an {self.kind} of the model, that of '{self.name}'"
        if self.kind == "width":
            return f"needed by {self.what}, which is made for the width that it has"
        operation = f"'{self.name}' (a {type(self.what).__name__})"
        if self.kind == "unknown":
            return f"read or made by {operation}, which no rule is known for"
        if self.kind == "alone":
            return f"the only channel of a tensor that {operation} needs"
        if self.kind == "size":
            return f"in {operation}, whose code computes with the number of channels"
        return f"needed by {operation}, which would make something else of the others without it"


class Inner(NamedTuple):
    """Channels inside a layer, of which one has to stay, such as the heads of an attention.

    Stands for a tensor that the graph does not show: `ChannelMap.tensors` has its channels.

    Attributes:
        layer: the layer.
        number: which of the layer's, counted from 0.
        shape: how many they are, as the shape of a tensor.
    """

    layer: Any
    number: int
    shape: tuple[int]


class Graph(NamedTuple):
    """What was walked to find the channels of a model.

    Attributes:
        models: the model and the models inside of it that have a graph of their own.
        nodes: every call of a layer or operation, in the order in which they run.
        symbolic: the symbolic tensors of the graphs of `models`.
        opened: (symbolic tensor, name of the layer) for what was found inside of layers that were
            seen through.
        seen_through: what those layers are made of, `ptkeras.channels.opening.Opened` each.
        sized: attributes that say how many channels there are, as `SizeAttribute`s.
    """

    models: list[Any]
    nodes: list[Any]
    symbolic: list[Any]
    opened: list[tuple[Any, str]]
    seen_through: list[Any]
    sized: list[Any]


class ChannelMap:
    """The channels of a model.

    A channel is everything that must go together: the filter that makes it, its batch-norm
    numbers, the slices of every kernel that reads it and, where layers add their outputs, the same
    things of all those layers. Made by `ptkeras.channels.trace`.

    Attributes:
        model: the traced model.
        slices: list of `Slice`, one for each axis of a variable that channels lie along.
        frozen: bool array of shape `(len(self),)`: the channels that may not go.
        causes: list of length `len(self)`: the `Cause` for each frozen channel, None for others.
        tensors: for the `id` of each symbolic tensor of the graph an int array that broadcasts
            against the tensor's shape and says which channel each position belongs to; -1 marks
            positions that belong to none (padding).
        inner: list of `Inner`, channels that no symbolic tensor shows; `tensors` has them too.
        zeros: the `id` of each symbolic tensor in which a channel is known to be zero where all of
            its parameters are.
        exact: what `trace` was called with.
        input_shape: likewise.
    """

    def __init__(
        self,
        model: keras.Model,
        slices: list[Slice],
        causes: list[Cause | None],
        tensors: dict[int, np.ndarray],
        inner: list[Inner] | None = None,
        zeros: frozenset[int] = frozenset(),
        graph: Graph | None = None,
        exact: bool = True,
        input_shape: Any = None,
    ) -> None:
        self.model = model
        self.slices = slices
        self.causes = causes
        self.frozen = np.array([cause is not None for cause in causes], bool)
        self.tensors = tensors
        self.inner = inner or []
        self.zeros = zeros
        self.exact = exact
        self.input_shape = input_shape
        self.graph = graph or Graph([], [], [], [], [], [])

    def __len__(self) -> int:
        return len(self.frozen)

    def __repr__(self) -> str:
        return (
            f"<ChannelMap of '{self.model.name}': {len(self)} channels, "
            f"{int((~self.frozen).sum())} prunable, {len(self.slices)} slices>"
        )

    def freeze(self, channels: np.ndarray, cause: Cause) -> None:
        """Says that channels may not be removed, and why."""
        for channel in channels.tolist():
            self.causes[channel] = self.causes[channel] or cause
        self.frozen[channels] = True

    @functools.cached_property
    def slice_of(self) -> dict[tuple[int, int], Slice]:
        """The slice of each axis of a variable, by the variable's `id` and the axis."""
        return {(id(row.variable), row.axis): row for row in self.slices}

    @property
    def prunable(self) -> np.ndarray:
        """Bool array of shape `(len(self),)`: the channels that a layer makes and that may go."""
        made = np.zeros(len(self), bool)
        for row in self.slices:
            if row.role == "output":
                made[row.channels] = True
        return made & ~self.frozen

    def why_frozen(self, channel: int) -> str | None:
        """Why a channel may not go, as the end of a sentence; None if it may.

        ```python
        layer = channel_map.produced()["conv1"]
        print(f"The first filter is {channel_map.why_frozen(layer[0])}.")
        ```

        Args:
            channel: the number of the channel.
        """
        cause = self.causes[channel]
        return None if cause is None else str(cause)

    def check_model(self, model: keras.Model) -> None:
        """Raises a ValueError unless these are the channels of `model` as it is now."""
        fits = all(shape_of(row.variable)[row.axis] == len(row.channels) for row in self.slices)
        edited = any(
            id(x) not in self.tensors for g in self.graph.models for x in functional_of(g).outputs
        )
        if self.model is model and fits and not edited:
            return
        why = "was traced before that changed" if self.model is model else "is of another model"
        raise ValueError(
            f"The channel_map given for '{model.name}' {why}: pass "
            "ptkeras.channels.trace(model), or leave it out."
        )

    def check_keep(self, keep: Any) -> np.ndarray:
        """Validates a keep mask.

        Args:
            keep: a bool per channel, shape `(len(self),)`; True keeps the channel.

        Returns:
            The mask as a NumPy bool array.

        Raises:
            ValueError: the mask has another shape or type, or drops a frozen channel.
        """
        try:
            keep = np.asarray(keep)
        except ValueError:  # lists of other lengths in a list
            keep = np.asarray(keep, dtype=object)
        if keep.dtype != bool or keep.shape != (len(self),):
            raise ValueError(
                f"keep must be a bool array of shape ({len(self)},), one per channel of "
                f"'{self.model.name}'; received {keep.dtype} of shape {keep.shape}."
            )
        dropped = np.flatnonzero(self.frozen & ~keep)
        if len(dropped):
            raise ValueError(
                f"keep drops {len(dropped)} frozen channels. The first, channel {dropped[0]}, is "
                f"{self.why_frozen(dropped[0])}: keep them with `keep | channel_map.frozen`."
            )
        return keep

    def reduce(
        self, measure: Callable[[np.ndarray, tuple[int, ...]], np.ndarray], rows: list[Slice]
    ) -> list[np.ndarray]:
        """`measure(values, other axes)` for each of `rows`: one number per position of its axis."""
        results = []
        for row in rows:
            values = numbers(row.variable).astype("float32", copy=False)
            axes = tuple(a for a in range(values.ndim) if a != row.axis)
            results.append(measure(values, axes))
        return results

    def sums(self, of: Callable[[np.ndarray], np.ndarray], rows: list[Slice]) -> list[np.ndarray]:
        """The sums of `of(values)`, an elementwise function, over the other axes of each of `rows`.

        One number per position of its axis. Each variable is read once, a block at a time that fits
        in a processor's cache.
        """
        by_variable: dict[int, list[Slice]] = {}
        for row in rows:
            by_variable.setdefault(id(row.variable), []).append(row)
        found: dict[tuple[int, int], np.ndarray] = {}
        for key, own in by_variable.items():
            values = numbers(own[0].variable)
            totals = {row.axis: np.zeros(values.shape[row.axis]) for row in own}
            _add_blocks(of, values, totals)
            found.update({(key, axis): total for axis, total in totals.items()})
        return [found[id(row.variable), row.axis] for row in rows]

    def squared_norms(self) -> np.ndarray:
        """Sum of the squares of all of each channel's parameters, shape `(len(self),)`."""
        total = np.zeros(len(self))
        squares = self.sums(np.square, self.slices)
        for row, square in zip(self.slices, squares, strict=True):
            total += np.bincount(row.channels, weights=square, minlength=len(self))
        return total

    def kept(self, keep: np.ndarray, channels: np.ndarray) -> np.ndarray:
        """Bool of the shape of `channels`: which positions stay; positions of no channel do."""
        if not len(keep):
            return np.ones(channels.shape, bool)
        return keep[channels] | (channels < 0)

    def is_dead(self, keep: np.ndarray, tensor: Any) -> bool:
        """Whether every channel of a symbolic tensor goes."""
        return 0 not in tensor.shape and not self.kept(keep, self.channels_of(tensor)).any()

    def channels_of(self, tensor: Any) -> np.ndarray:
        """The channels of a symbolic tensor, or of an `Inner` of this or another trace."""
        if isinstance(tensor, Inner):
            tensor = next(
                x for x in self.inner if x.layer is tensor.layer and x.number == tensor.number
            )
        return self.tensors[id(tensor)]

    def kept_shape(self, keep: np.ndarray, tensor: Any) -> tuple[int | None, ...]:
        """The shape of a symbolic tensor once the channels that are not in `keep` are gone."""
        kept = self.kept(keep, self.tensors[id(tensor)])
        if kept.size == max(kept.shape, default=1):  # channels along one axis: nearly all tensors
            count = int(np.count_nonzero(kept))
            return tuple(
                count if n > 1 else size for n, size in zip(kept.shape, tensor.shape, strict=True)
            )
        return tuple(
            int(np.moveaxis(kept, axis, 0).reshape(n, -1).all(1).sum()) if n > 1 else size
            for axis, (n, size) in enumerate(zip(kept.shape, tensor.shape, strict=True))
        )

    def kept_variable_shape(self, keep: np.ndarray, variable: keras.Variable) -> tuple[int, ...]:
        """The shape of a variable once the channels that are not in `keep` are gone."""
        shape = shape_of(variable)
        rows = [self.slice_of.get((id(variable), axis)) for axis in range(len(shape))]
        return tuple(
            size if row is None else int(keep[row.channels].sum())
            for row, size in zip(rows, shape, strict=True)
        )

    def produced(self) -> dict[str, np.ndarray]:
        """For each layer that makes channels, by path: the channels, one per output position.

        Of a `Bidirectional` layer those of one direction, since the other's are tied to them.
        """
        return {
            getattr(row.layer, "path", row.variable.path): row.made
            for row in self.slices
            if row.role == "output"
        }


def _add_blocks(
    of: Callable[[np.ndarray], np.ndarray], values: np.ndarray, totals: dict[int, np.ndarray]
) -> None:
    """Adds to `totals`, for some axes of an array, the sums of `of(values)` over all others."""
    step = max(1, _BLOCK // max(1, values[:1].size))
    for start in range(0, len(values), step):
        part = of(values[start : start + step].astype("float32", copy=False))
        for axis, total in totals.items():
            place = total[start : start + step] if axis == 0 else total
            place += part.sum(tuple(a for a in range(part.ndim) if a != axis))
