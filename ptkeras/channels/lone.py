"""Channels that are alone in a tensor that a model cannot do without."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
from keras import layers

from ptkeras.channels.channel_map import Cause, ChannelMap
from ptkeras.channels.graph import functional_of, is_graph, nodes_of
from ptkeras.keras_compat.nodes import maker_of
from ptkeras.keras_compat.operations import keras_numpy

ADDS = (layers.Add, keras_numpy.Add)
MULTIPLIES = (layers.Multiply, keras_numpy.Multiply)
JOINS = (layers.Concatenate, keras_numpy.Concatenate)


def freeze_lone(found: ChannelMap) -> None:
    """Freezes each channel that is the only one of a tensor, if what reads it cannot do without.

    A tensor that loses all of its channels leaves a constant, which may be added, multiplied or
    left out of a concatenation. Any other reader needs it, also that of what is computed from the
    constant alone.

    Args:
        found: the channels of a model.
    """
    for channel in sorted(_lone(found)):
        reader = next(_in_need(found, channel), None)
        if reader is not None:
            found.freeze(np.array([channel]), Cause("alone", reader))


def _lone(found: ChannelMap) -> set[int]:
    lone = set()
    for labels in found.tensors.values():
        if labels.size and (first := int(labels.flat[0])) >= 0 and (labels == first).all():
            lone.add(first)
    return {channel for channel in lone if not found.frozen[channel]}


def _in_need(found: ChannelMap, channel: int) -> Iterator[Any]:
    """Yields operations that could not do without a channel."""
    keep = np.ones(len(found), bool)
    keep[channel] = False
    constant: set[int] = set()
    for graph in found.graph.models:
        for node in nodes_of(graph):
            if _needs(found, keep, node, constant, isinstance(graph, keras.Sequential)):
                yield node.operation
        for tensor in functional_of(graph).outputs:
            if id(tensor) in constant:
                yield maker_of(tensor)
    yield from (one.layer for one in found.inner if found.is_dead(keep, one))
    yield from (maker_of(x) for x, _ in found.graph.opened if found.is_dead(keep, x))


def _needs(
    found: ChannelMap, keep: np.ndarray, node: Any, constant: set[int], in_a_row: bool
) -> bool:
    """Says whether a node needs what is constant without a channel; adds what it makes of it."""
    dead = {id(x) for x in node.outputs if found.is_dead(keep, x)}
    if dead and in_a_row:
        return True
    given = [x for x in node.input_tensors if id(x) in constant]
    if given and len(dead) < len(node.outputs):
        if len(given) == len(node.input_tensors):
            if is_graph(node.operation):
                return True
            dead |= {id(x) for x in node.outputs}
        elif not isinstance(node.operation, (*ADDS, *MULTIPLIES)):
            joins = isinstance(node.operation, JOINS)
            if not joins or not all(found.is_dead(keep, x) for x in given):
                return True
    constant |= dead
    return False
