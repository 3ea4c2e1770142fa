"""Freezes the channels that a user's code cannot follow, and finds the attributes to set."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from ptkeras.channels.channel_map import Cause, ChannelMap
from ptkeras.channels.opening import Opened
from ptkeras.channels.trial import (
    MismatchError,
    SizeAttribute,
    candidates,
    computes_with_numbers,
    run_smaller,
)

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
    for one in opened:
        if computes_with_numbers(one):
            ties = _settle_one(channel_map, one)
            if ties:
                return ties
    return []


def _settle_one(channel_map: ChannelMap, opened: Opened) -> Ties:
    failing = []
    for family in _families(channel_map, opened):
        attributes = _follows(channel_map, opened, family)
        if attributes is None:
            failing.append(family)
        else:
            channel_map.graph.sized.extend(attributes)
    by_size: dict[int, list[np.ndarray]] = {}
    for family in failing:
        by_size.setdefault(len(family), []).append(family)
    for families in by_size.values():
        if len(families) > 1 and _follows(channel_map, opened, *families) is not None:
            return [(families[0], other) for other in families[1:]]
    for family in failing:
        channel_map.freeze(family, Cause("size", opened.layer))
    return []


def _tensors(opened: Opened) -> list[Any]:
    return [*opened.inputs, *(x for node in opened.nodes for x in node.outputs)]


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


def _follows(
    channel_map: ChannelMap, opened: Opened, *families: np.ndarray
) -> list[SizeAttribute] | None:
    """The attributes to set for the code to follow; None if it does not follow."""
    keep = np.ones(len(channel_map), bool)
    for family in families:
        keep[family[1::2]] = False
    for tensor in _tensors(opened):
        channels = channel_map.tensors[id(tensor)].reshape(-1)
        if len(channels) and not channel_map.kept(keep, channels).any():
            keep[channels[0]] = True

    if _runs(channel_map, opened, keep, []):
        return []
    former: dict[int, list[tuple[Any, int]]] = {}
    for tensor in _tensors(opened):
        new = channel_map.kept_shape(keep, tensor)
        for axis, (old, size) in enumerate(zip(tensor.shape, new, strict=True)):
            if old != size:
                former.setdefault(old, []).append((tensor, axis))
    for attributes in candidates(opened, former):
        if _runs(channel_map, opened, keep, attributes):
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
        if id(tensor) not in channel_map.tensors:
            return tuple(tensor.shape)
        return channel_map.kept_shape(keep, tensor)

    values = {(id(a.owner), a.name): shapes(a.tensor)[a.axis] for a in attributes}
    run_smaller(opened, shapes, values)
