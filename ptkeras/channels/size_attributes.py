"""Attributes of layers that say sizes, found by where in a user's code their numbers land.

An attribute that merely equals a number of channels may mean something else, so that equality is
not enough: the code runs once with integers that know which attributes they were computed from.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from ptkeras.channels.choices import key_along
from ptkeras.channels.opening import Opened
from ptkeras.channels.trial import MismatchError, Smaller, run_smaller
from ptkeras.keras_compat.operations import keras_core, keras_numpy

_MOST = 3  # attributes that are set together: trying all choices among more would take too long


class SizeAttribute(NamedTuple):
    """An attribute of a layer that says how many positions an axis of a tensor has.

    Attributes:
        owner: the layer.
        name: the name of the attribute.
        tensor: the symbolic tensor.
        axis: the axis.
    """

    owner: Any
    name: str
    tensor: Any
    axis: int


class _Source(NamedTuple):
    """The attribute that a number of a user's code comes from."""

    layer: Any
    name: str
    value: int


class SizeAttributes:
    """The attributes that say sizes in the code of a layer.

    Args:
        opened: what the layer is made of.
    """

    def __init__(self, opened: Opened) -> None:
        self._opened = opened

    @functools.cached_property
    def _landed(self) -> list[tuple[Any, int, _Noted]]:
        """(tensor, axis, number) for the numbers of attributes that say a size of a tensor."""
        try:
            nodes = run_smaller(self._opened, lambda x: tuple(x.shape), {}, _Notes)
        except MismatchError:  # code that wants plain integers
            return []
        pairs = zip(self._opened.nodes, nodes, strict=True)
        return [place for before, after in pairs for place in _places(before, after)]

    def candidates(
        self, former: Mapping[int, list[tuple[Any, int]]]
    ) -> Iterator[list[SizeAttribute]]:
        """Yields attributes to set for sizes that are going to change, the likeliest first.

        Args:
            former: for a size that is going to change the (tensor, axis) that have it.
        """
        changing = {(id(tensor), axis) for pairs in former.values() for tensor, axis in pairs}
        found: dict[tuple[int, str], SizeAttribute] = {}
        for tensor, axis, number in self._landed:
            for layer, name, value in number.sources if (id(tensor), axis) in changing else ():
                if value == tensor.shape[axis]:
                    found[id(layer), name] = SizeAttribute(layer, name, tensor, axis)
                elif value in former:  # a factor of the size, or what it is a part of
                    place = former[value][0]
                    found.setdefault((id(layer), name), SizeAttribute(layer, name, *place))
        attributes = list(found.values())[:_MOST]
        for count in range(len(attributes), 0, -1):
            yield from map(list, itertools.combinations(attributes, count))


class _Noted(int):
    """An integer that knows which attributes it was computed from."""

    sources: frozenset[_Source]

    def __new__(cls, value: int, sources: frozenset[_Source]) -> _Noted:
        self = super().__new__(cls, value)
        self.sources = sources
        return self


def _noting(name: str) -> Callable:
    """An operator of integers whose result has the sources of both operands."""
    plain = getattr(int, name)

    def operator(self: _Noted, *others: Any) -> Any:
        result = plain(self, *others)
        if type(result) is not int:
            return result
        return _Noted(result, self.sources.union(*(getattr(x, "sources", ()) for x in others)))

    return operator


for _name in ("add", "sub", "mul", "floordiv", "mod"):
    for _side in ("", "r"):
        setattr(_Noted, f"__{_side}{_name}__", _noting(f"__{_side}{_name}__"))


class _Notes(Smaller):
    """Runs code whose integers know which attributes they come from."""

    def _open_attributes(self, original: Any, own: dict) -> None:
        super()._open_attributes(original, own)
        for name, value in vars(original).items():
            if type(value) is int and value > 1:
                own[name] = _Noted(value, frozenset([_Source(original, name, value)]))


def _places(before: Any, after: Any) -> Iterator[tuple[Any, int, _Noted]]:
    """The (tensor, axis, number) for each number of an attribute that says sizes in a call.

    Args:
        before: the node of the call, whose tensors are to be told.
        after: the same node with numbers that know where they come from.
    """
    operation = after.operation
    if isinstance(operation, keras_numpy.GetItem):
        tensor = before.input_tensors[0]
        for axis in range(len(tensor.shape)):
            key = key_along(after, axis, len(tensor.shape))
            ends = (key.start, key.stop) if isinstance(key, slice) else ()
            yield from ((tensor, axis, n) for n in ends if isinstance(n, _Noted))
        return
    sizes = None
    for kind, name in _SIZES.items():
        sizes = getattr(operation, name) if isinstance(operation, kind) else sizes
    for axis, n in enumerate(sizes if isinstance(sizes, (tuple, list)) else ()):
        if isinstance(n, _Noted):
            yield before.outputs[0], axis, n


# What says the sizes of its output, one an axis, and by which attribute.
_SIZES = {
    keras_numpy.Reshape: "newshape",
    keras_numpy.BroadcastTo: "shape",
    keras_numpy.Tile: "repeats",
    keras_core.Slice: "shape",
}
