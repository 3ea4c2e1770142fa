"""Freezes the channels that a user's code cannot follow, and finds the attributes to set."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import keras
import numpy as np

from ptkeras.channels.channel_map import Cause, ChannelMap
from ptkeras.channels.opening import Opened, variable_of
from ptkeras.channels.rules_moves import CHOOSERS, is_move, moved
from ptkeras.channels.size_attributes import SizeAttribute, SizeAttributes
from ptkeras.channels.trial import MismatchError, run_smaller
from ptkeras.keras_compat.tracking import own_variables, sublayers

Ties = list[tuple[np.ndarray, np.ndarray]]


def settle(channel_map: ChannelMap, opened: Iterable[Opened]) -> Ties:
    """Tries for each kind of channels in what was seen through whether the code follows.

    Channels that it does not follow are frozen in the map; `channel_map.graph.sized` gets the
    attributes that say how many channels there are.

    Args:
        channel_map: the channels of a model.
        opened: the layers that were seen through.

    Returns:
        Pairs of arrays of channels that have to be one, because one attribute says the number of
        both: with any, the map has to be made again with them tied, and settled again.
    """
    read = _variables_read(channel_map)
    for one in opened:
        _freeze_for_unread(channel_map, one, read)
        ties = _settle_one(channel_map, one)
        if ties:
            return ties
    return []


def _variables_read(channel_map: ChannelMap) -> set[int]:
    """The variables that any call reads, by `id`."""
    read = {id(row.variable) for row in channel_map.slices}
    inside = {id(opened.layer) for opened in channel_map.graph.seen_through}
    for node in channel_map.graph.nodes:
        values = keras.tree.flatten((node.arguments.args, node.arguments.kwargs))
        read |= {id(v) for v in values if isinstance(v, keras.Variable)}
        if id(node.operation) not in inside:
            read |= {id(v) for v in getattr(node.operation, "variables", ())}
        read.add(id(getattr(node.operation, "variable", None)))
    return read


def _freeze_for_unread(channel_map: ChannelMap, opened: Opened, read: set[int]) -> None:
    """Freezes channels as many as a variable has positions that only other calls read.

    A mask token, say, that a layer adds if it is given a mask: it would not fit a smaller stream.
    """
    own = own_variables(opened.layer)
    unread = [v for v in own if id(v) not in read and "float" in v.dtype]
    sizes = {n for variable in unread for n in variable.shape if n > 1}
    for tensor in _tensors(opened) if sizes else ():
        channels = channel_map.tensors[id(tensor)].reshape(-1)
        if len(channels) in sizes:
            channel_map.freeze(channels[channels >= 0], Cause("size", opened.layer))


def _settle_one(channel_map: ChannelMap, opened: Opened) -> Ties:
    failing = []
    families = _families(channel_map, opened)
    if not families or _all_follow(channel_map, opened, families):
        return []
    said = SizeAttributes(opened)
    for family in families:
        attributes = _follows(channel_map, opened, said, family)
        if attributes is None:
            failing.append(family)
        else:
            channel_map.graph.sized.extend(attributes)
    by_size: dict[int, list[np.ndarray]] = {}
    for family in failing:
        by_size.setdefault(len(family), []).append(family)
    for same in by_size.values():
        if len(same) > 1 and _follows(channel_map, opened, said, *same) is not None:
            return [(same[0], other) for other in same[1:]]
    for family in failing:
        channel_map.freeze(family, Cause("size", opened.layer))
    return []


def _tensors(opened: Opened) -> list[Any]:
    inputs = [own for own, _ in opened.inputs]
    return [*inputs, *(x for node in opened.nodes for x in node.outputs)]


def _families(channel_map: ChannelMap, opened: Opened) -> list[np.ndarray]:
    """The channels that may be removed, those together that lie in one tensor, in its order."""
    families: list[np.ndarray] = []
    for tensor in _tensors(opened):
        channels = channel_map.tensors[id(tensor)].reshape(-1)
        channels = channels[channels >= 0]
        channels = channels[~channel_map.frozen[channels]]
        _, first = np.unique(channels, return_index=True)
        own = channels[np.sort(first)]
        if not len(own):
            continue
        apart = [f for f in families if not np.isin(f, own).any()]
        joined = [f for f in families if np.isin(f, own).any()]
        together = np.concatenate([*joined, own])
        _, first = np.unique(together, return_index=True)
        families = [*apart, together[np.sort(first)]]
    return [family for family in families if len(family) > 1]


def _all_follow(channel_map: ChannelMap, opened: Opened, families: list[np.ndarray]) -> bool:
    """Whether the code follows if all kinds of channels get fewer, each to a number of its own."""
    rng = np.random.default_rng(0)
    dropped = [
        rng.choice(family, 1 + number % (len(family) - 1), replace=False)
        for number, family in enumerate(families)
    ]
    keep = _keep(channel_map, opened, families, dropped)
    return _runs(channel_map, opened, keep, _known(channel_map, opened))


def _keep(
    channel_map: ChannelMap, opened: Opened, families: list[np.ndarray], dropped: list[np.ndarray]
) -> np.ndarray:
    """A bool per channel: all but those that are dropped, and one of each tensor at least.

    A tensor that has some of the families' channels, as a part of a concatenation has, loses one
    of them where nothing of it is dropped: else nobody would see whether the code follows there.
    """
    keep = np.ones(len(channel_map), bool)
    for channels in dropped:
        keep[channels] = False
    tried = np.concatenate(families)
    for tensor in _tensors(opened):
        channels = channel_map.tensors[id(tensor)].reshape(-1)
        if keep[channels].all() and len(own := np.intersect1d(channels, tried)) > 1:
            keep[own[-1]] = False
    for tensor in _tensors(opened):
        channels = channel_map.tensors[id(tensor)].reshape(-1)
        if len(channels) and not channel_map.kept(keep, channels).any():
            keep[channels[0]] = True
    return keep


def _known(channel_map: ChannelMap, opened: Opened) -> list[SizeAttribute]:
    """The attributes of a layer and of those in it that are to be set already."""
    own = {id(opened.layer), *map(id, sublayers(opened.layer))}
    return [x for x in channel_map.graph.sized if id(x.owner) in own]


def _follows(
    channel_map: ChannelMap, opened: Opened, said: SizeAttributes, *families: np.ndarray
) -> list[SizeAttribute] | None:
    """The attributes to set for the code to follow; None if it does not follow."""
    keep = _keep(channel_map, opened, [*families], [family[1::2] for family in families])
    known = _known(channel_map, opened)
    if _runs(channel_map, opened, keep, known):
        return []
    former: dict[int, list[tuple[Any, int]]] = {}
    for tensor in _tensors(opened):
        new = channel_map.kept_shape(keep, tensor)
        for axis, (old, size) in enumerate(zip(tensor.shape, new, strict=True)):
            if old != size:
                former.setdefault(old, []).append((tensor, axis))
    for attributes in said.candidates(former):
        if _runs(channel_map, opened, keep, [*known, *attributes]):
            return attributes
    return None


def _runs(
    channel_map: ChannelMap, opened: Opened, keep: np.ndarray, attributes: list[SizeAttribute]
) -> bool:
    try:
        check(channel_map, opened, keep, attributes)
    except MismatchError:
        return False
    return True


def loses_channels(channel_map: ChannelMap, opened: Opened, keep: np.ndarray) -> bool:
    """Whether any tensor of a layer that was seen through loses channels."""
    return not all(
        channel_map.kept(keep, channel_map.tensors[id(x)]).all() for x in _tensors(opened)
    )


def check(
    channel_map: ChannelMap, opened: Opened, keep: np.ndarray, attributes: list[SizeAttribute]
) -> None:
    """Runs a user's code with the tensors that it is going to have.

    Args:
        channel_map: the channels of a model.
        opened: a layer that was seen through.
        keep: a bool per channel.
        attributes: the attributes that are set with the sizes.

    Raises:
        MismatchError: If the code does not follow.
    """

    def shapes(tensor: Any) -> tuple[int | None, ...]:
        variable = tensor if isinstance(tensor, keras.Variable) else variable_of(tensor)
        if variable is not None:
            return channel_map.kept_variable_shape(keep, variable)
        if id(tensor) not in channel_map.tensors:
            return tuple(tensor.shape)
        return channel_map.kept_shape(keep, tensor)

    values = {(id(a.owner), a.name): shapes(a.tensor)[a.axis] for a in attributes}
    nodes = run_smaller(opened, shapes, values)
    for before, after in zip(opened.nodes, nodes, strict=True):
        if isinstance(before.operation, CHOOSERS) and not _chooses_alike(
            channel_map, keep, before, after
        ):
            raise MismatchError(f"'{before.operation.name}' chooses other channels.")


def _chooses_alike(channel_map: ChannelMap, keep: np.ndarray, before: Any, after: Any) -> bool:
    """Whether a choice among fewer channels shows those that are expected."""

    def left(tensor: Any) -> np.ndarray:
        channels = channel_map.tensors[id(tensor)]
        axis = next((a for a, n in enumerate(channels.shape) if n > 1), None)
        if axis is None:
            return channels
        return channels.compress(channel_map.kept(keep, channels).reshape(-1), axis)

    if len(before.input_tensors) != 1 or not is_move(after.operation):
        return True  # which may not choose among channels that can be removed
    found = moved(
        after.operation,
        left(before.input_tensors[0]),
        tuple(after.input_tensors[0].shape),
        [tuple(x.shape) for x in after.outputs],
        after.arguments.args,
        after.arguments.kwargs,
    )
    return found is not None and all(
        x.shape == np.broadcast_shapes(x.shape, own.shape) and (x == own).all()
        for x, own in zip(found, map(left, before.outputs), strict=True)
    )
