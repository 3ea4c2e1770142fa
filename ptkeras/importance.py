"""Criteria: a score per channel, computed over all slices of a channel together."""

from __future__ import annotations

from collections import defaultdict
from typing import Literal

import numpy as np

from ptkeras.channels import ChannelMap, Slice

Measure = Literal["max", "mean"]


def kernel_slices(channel_map: ChannelMap) -> list[Slice]:
    """The groups of PruneTrain: input and output axes of convolution and dense kernels.

    Depthwise kernels are left out (as the authors have it), and so are tables that read no
    channels, such as embeddings.
    """
    roles = defaultdict(set)
    for row in channel_map.slices:
        roles[id(row.variable)].add(row.role)
    return [
        row
        for row in channel_map.slices
        if row.role in ("input", "output") and {"input", "output"} <= roles[id(row.variable)]
    ]


def group_magnitudes(channel_map: ChannelMap, row: Slice, measure: Measure) -> np.ndarray:
    """The size of each group of one kernel axis.

    Args:
        channel_map: the channels of a model.
        row: one of its `kernel_slices`.
        measure: `"max"`, the group's largest absolute weight, or `"mean"` of its absolute weights.

    Returns:
        Array of shape `(len(channel_map),)`; 0 for channels that are not on the axis.
    """
    reduce = np.max if measure == "max" else np.mean
    (values,) = channel_map.reduce(lambda v, axes: reduce(np.abs(v), axis=axes), [row])
    result = np.zeros(len(channel_map))
    if measure == "max":
        np.maximum.at(result, row.channels, values)
        return result
    counts = np.bincount(row.channels, minlength=len(result))
    return np.bincount(row.channels, values, len(result)) / np.maximum(counts, 1)


def channel_magnitudes(channel_map: ChannelMap, measure: Measure = "max") -> np.ndarray:
    """The largest of each channel's groups (channel union: a channel goes when all groups agree).

    Args:
        channel_map: the channels of a model.
        measure: how large a group is, see `group_magnitudes`.

    Returns:
        Array of shape `(len(channel_map),)`; infinite for channels that no kernel has a group of.
    """
    result = np.full(len(channel_map), -np.inf)
    for row in kernel_slices(channel_map):
        present = np.unique(row.channels)
        magnitudes = group_magnitudes(channel_map, row, measure)
        result[present] = np.maximum(result[present], magnitudes[present])
    result[np.isneginf(result)] = np.inf
    return result


def round_up(
    channel_map: ChannelMap,
    keep: np.ndarray,
    scores: np.ndarray,
    *,
    least: int = 1,
    multiple: int = 1,
    dead_ok: bool = False,
) -> np.ndarray:
    """Keeps more channels, the best of those that were to go, until the counts of all layers suit.

    Args:
        channel_map: the channels of a model.
        keep: a bool per channel.
        scores: a number per channel; of the channels that were to go the highest stay.
        least: the least number of output channels a layer keeps.
        multiple: what the number of a layer's output channels is a multiple of, unless the layer
            has fewer or its own number is none.
        dead_ok: whether a layer may lose all of its channels.

    Returns:
        A new keep mask.
    """
    keep = keep.copy()
    # Raising one layer's count may raise that of another which shares some of its channels.
    while True:
        before = keep.copy()
        for row in channel_map.slices:
            if row.role == "output":
                _round_up_row(row.channels, keep, scores, least, multiple, dead_ok)
        if (keep == before).all():
            return keep


def _round_up_row(
    channels: np.ndarray,
    keep: np.ndarray,
    scores: np.ndarray,
    least: int,
    multiple: int,
    dead_ok: bool,
) -> None:
    count = int(keep[channels].sum())
    if count == 0 and dead_ok:
        return
    target = min(-(-max(count, least) // multiple) * multiple, len(channels))
    candidates = np.unique(channels[~keep[channels]])
    for channel in candidates[np.argsort(-scores[candidates], kind="stable")]:
        if keep[channels].sum() >= target:
            return
        keep[channel] = True
