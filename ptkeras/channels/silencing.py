"""Channels that the scale and offset of batch normalisation can silence alone."""

from __future__ import annotations

from typing import Any

import numpy as np
from keras import layers

from ptkeras.channels.channel_map import ChannelMap, Role, Slice
from ptkeras.channels.labels import Labels
from ptkeras.channels.trace import Tracer
from ptkeras.utils.garbage import held_back


def silenced_by_scale(channel_map: ChannelMap) -> np.ndarray:
    """Finds the channels that are zero for all that reads them where γ and β are zero.

    A channel is removed without loss if all of its parameters are zero. Of a channel that passes a
    batch normalisation γ = β = 0 is enough if every kernel that reads it comes after one: then the
    filter that makes the channel may have any weights. Channels that are tied over a shortcut are
    silenced if all batch normalisations on them are.

    Args:
        channel_map: the channels of a model.

    Returns:
        Bool array of shape `(len(channel_map),)`; False for frozen channels.
    """
    return ~channel_map.frozen & ~_frozen_by(channel_map, _ScaleTracer)


def exact_with_statistics(channel_map: ChannelMap) -> np.ndarray:
    """Finds the channels that go without loss where only their trainable parameters are zero.

    A batch normalisation without γ keeps a moving mean, and makes something of a channel of zeros
    until that has followed. Kernels whose weights are zero too do not mind; a sum over the channels
    does.

    Args:
        channel_map: the channels of a model.

    Returns:
        Bool array of shape `(len(channel_map),)`; False for frozen channels.
    """
    if not any(_is_norm(row) and not row.layer.scale for row in channel_map.slices):
        return ~channel_map.frozen
    return ~channel_map.frozen & ~_frozen_by(channel_map, _StatisticsTracer)


def scale_slices(channel_map: ChannelMap) -> list[Slice]:
    """Returns the slices of γ and β in the batch normalisations of a model."""
    return [
        row
        for row in channel_map.slices
        if _is_norm(row) and any(row.variable is v for v in (row.layer.gamma, row.layer.beta))
    ]


def _is_norm(row: Slice) -> bool:
    return isinstance(row.layer, layers.BatchNormalization)


def _frozen_by(channel_map: ChannelMap, tracer: type[Tracer]) -> np.ndarray:
    """Returns which channels are frozen if the model is traced under other assumptions."""
    with held_back():
        other = tracer(
            channel_map.model, channel_map.exact, channel_map.input_shape, lambda: None
        ).run()
    frozen = np.zeros(len(channel_map), bool)
    for row in channel_map.slices:  # the same channels may have other numbers
        theirs = other.slice_of.get((id(row.variable), row.axis))
        frozen[row.channels] |= True if theirs is None else other.frozen[theirs.channels]
    return frozen


class _RecordingLabels(Labels):
    """Labels that freeze what kernels read unless it is zero, and note what rules record."""

    def __init__(self) -> None:
        super().__init__()
        self.reads_zero = True
        self.roles: set[Role] = set()

    def add(
        self, variable: Any, axis: int, vector: np.ndarray, role: Role, *args: Any, **kw: Any
    ) -> np.ndarray:
        self.roles.add(role)
        if role == "input" and not self.reads_zero:
            self.freeze(vector)
        return super().add(variable, axis, vector, role, *args, **kw)

    def produce(self, *args: Any, **kwargs: Any) -> np.ndarray:
        self.roles.add("output")
        return super().produce(*args, **kwargs)


class _ScaleTracer(Tracer):
    """Takes a channel for zero where γ and β of batch normalisation are, and nothing else is."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.labels: _RecordingLabels = _RecordingLabels()

    def results(self, node: Any, inputs: list, zeros: list[bool], rule: Any) -> tuple:
        if rule is None:
            return super().results(node, inputs, zeros, rule)
        self.labels.reads_zero, self.labels.roles = all(zeros), set()
        outputs, zero = super().results(node, inputs, zeros, rule)
        if isinstance(node.operation, layers.PReLU) or self.labels.roles == {"depthwise"}:
            zero = all(zeros)  # filters and slopes make zero of zero
        elif self.labels.roles and not _scales(node.operation):
            zero = False  # what the layer adds or makes is not
        return outputs, zero


class _StatisticsTracer(Tracer):
    """Takes a channel for zero where its trainable parameters are."""

    def results(self, node: Any, inputs: list, zeros: list[bool], rule: Any) -> tuple:
        outputs, zero = super().results(node, inputs, zeros, rule)
        op = node.operation
        if isinstance(op, layers.BatchNormalization) and not op.scale:
            zero = False
        return outputs, zero


def _scales(operation: Any) -> bool:
    return isinstance(operation, layers.BatchNormalization) and operation.scale
