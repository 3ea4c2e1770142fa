"""Channel gating: which channels of a shortcut each layer on it keeps for itself."""

from __future__ import annotations

from collections import Counter

import keras
import numpy as np

from ptkeras.channels import ChannelMap
from ptkeras.importance import Measure, group_magnitudes, kernel_slices
from ptkeras.keras_compat.tracking import flatten_layers
from ptkeras.surgery.variables import Gate


def shortcut_gates(
    channel_map: ChannelMap, keep: np.ndarray, threshold: float, measure: Measure
) -> dict[int, Gate]:
    """Finds the layers that use fewer channels than the shortcut which they read or add to has.

    Under channel union a channel of a shortcut stays as long as one layer there uses it. Under
    channel gating (PruneTrain, section 4.2) each layer drops the channels whose own group is under
    the threshold, and selects the others.

    Args:
        channel_map: the channels of a model.
        keep: a bool per channel, what channel union keeps.
        threshold: the sparsity threshold.
        measure: how large a group is, see `group_magnitudes`.

    Returns:
        The `Gate` for the `id` of each layer that drops channels of its own.
    """
    rows = kernel_slices(channel_map)
    gateable = _gateable(channel_map)
    makers = Counter(c for row in rows if row.role == "output" for c in np.unique(row.channels))
    shared = np.zeros(len(channel_map), bool)
    shared[[channel for channel, count in makers.items() if count > 1]] = True
    wanted: dict[int, dict[str, np.ndarray]] = {}
    for row in (row for row in rows if id(row.layer) in gateable):
        used = ~(group_magnitudes(channel_map, row, measure) < threshold)
        own = used | ~shared | channel_map.frozen
        wanted.setdefault(id(row.layer), {})[row.role] = _at_least_one(row.channels, own, keep)
    return {
        key: Gate(masks["input"], masks["output"])
        for key, masks in wanted.items()
        if {"input", "output"} == set(masks) and _drops(channel_map, key, masks, keep)
    }


def _gateable(channel_map: ChannelMap) -> set[int]:
    """The layers with one kernel axis that reads and one that makes channels, by `id`.

    Attention and recurrent layers have more; layers in a row have no place for a selection.
    """
    roles = Counter((id(row.layer), row.role) for row in kernel_slices(channel_map))
    in_a_row = {
        id(layer)
        for model in flatten_layers(channel_map.model)
        if isinstance(model, keras.Sequential)
        for layer in model.layers
    }
    layers = {id(row.layer) for row in kernel_slices(channel_map)} - in_a_row
    return {key for key in layers if roles[key, "input"] == roles[key, "output"] == 1}


def _at_least_one(channels: np.ndarray, own: np.ndarray, keep: np.ndarray) -> np.ndarray:
    """The positions that a layer keeps; a layer that would keep none is left as it is."""
    mask = own[channels]
    return mask if (mask & keep[channels]).any() else np.ones(len(channels), bool)


def _drops(
    channel_map: ChannelMap, layer: int, masks: dict[str, np.ndarray], keep: np.ndarray
) -> bool:
    """Whether a layer drops a channel that stays in the network, so that it needs a gate."""
    rows = (r for r in kernel_slices(channel_map) if id(r.layer) == layer)
    return any((~masks[row.role] & keep[row.channels]).any() for row in rows)
