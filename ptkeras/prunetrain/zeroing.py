"""Which parameters have to be zero so that a channel goes without loss."""

from __future__ import annotations

from typing import NamedTuple

import keras
import numpy as np

from ptkeras.channels import ChannelMap, Slice
from ptkeras.channels.silencing import exact_with_statistics, scale_slices, silenced_by_scale
from ptkeras.importance import kernel_slices
from ptkeras.utils.arrays import numbers


class ZeroingGroups(NamedTuple):
    """The group of each channel that has to be zero before it can go without loss.

    Of a channel that passes a batch normalisation before anything reads it, on each path: its γ
    and β there, of all layers that a shortcut ties. The filter that makes it may have any weights,
    since a batch normalisation undoes whatever their scale is. Of any other channel: all of its
    trainable parameters.

    Attributes:
        rows: slices of trainable variables, and for each a bool per position: whether the position
            is in the group of its channel.
        free: bool array, the channels that training can bring to zero so.
    """

    rows: list[tuple[Slice, np.ndarray]]
    free: np.ndarray

    def zero(self) -> np.ndarray:
        """Returns the channels whose group is exactly zero, a bool per channel."""
        result = self.free.copy()
        for row, used in self.rows:
            values = numbers(row.variable)
            others = tuple(a for a in range(values.ndim) if a != row.axis)
            # Written so that NaN is not zero.
            left = ~(values == 0).all(axis=others) & used
            result[row.channels[left]] = False
        return result

    def variables(self) -> list[keras.Variable]:
        """Returns the variables that have positions in a group."""
        return list({id(row.variable): row.variable for row, _ in self.rows}.values())


def zeroing_groups(channel_map: ChannelMap) -> ZeroingGroups:
    """Finds the group of each channel of a model, see `ZeroingGroups`.

    Channels with weights in kernels that do not train are kept, and in no group.

    Args:
        channel_map: the channels of the model.
    """
    scales = scale_slices(channel_map)
    rows = [r for r in channel_map.slices if not r.variable.name.startswith(_STATISTICS)]
    trains = ~_in_fixed(channel_map, kernel_slices(channel_map))
    by_scale = silenced_by_scale(channel_map) & trains & ~_in_fixed(channel_map, scales)
    whole = exact_with_statistics(channel_map) & ~_in_fixed(channel_map, rows) & ~by_scale
    grouped = [(r, by_scale[r.channels]) for r in scales] + [(r, whole[r.channels]) for r in rows]
    free = np.zeros(len(channel_map), bool)
    for row, used in grouped:
        free[row.channels[used]] = True
    return ZeroingGroups([pair for pair in grouped if pair[1].any()], free)


# What a batch normalisation gathers; it is no parameter, and does not train.
_STATISTICS = ("moving_", "renorm_")


def _in_fixed(channel_map: ChannelMap, rows: list[Slice]) -> np.ndarray:
    """Returns the channels that lie in one of some rows whose variable does not train."""
    fixed = np.zeros(len(channel_map), bool)
    for row in rows:
        if not row.variable.trainable:
            fixed[row.channels] = True
    return fixed
