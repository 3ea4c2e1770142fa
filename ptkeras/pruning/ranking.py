"""Orders in which channels go: scores of different layers, made comparable."""

from __future__ import annotations

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from ptkeras.channels import ChannelMap


def layer_groups(channel_map: ChannelMap) -> np.ndarray:
    """Which channels are made together: by one layer, or by layers whose channels are tied.

    Args:
        channel_map: the channels of a model.

    Returns:
        Int array of shape `(len(channel_map),)`: the number of each channel's group.
    """
    made = [row.channels for row in channel_map.slices if row.role == "output"]
    first = np.concatenate([np.zeros(0, int), *(np.full(len(c), c[0]) for c in made)])
    other = np.concatenate([np.zeros(0, int), *made])
    links = coo_array((np.ones(len(first), bool), (first, other)), shape=(len(channel_map),) * 2)
    return connected_components(links, directed=False)[1]


def first_makers(channel_map: ChannelMap) -> np.ndarray:
    """Which layer makes a channel, the first in the order of the graph where several do.

    Args:
        channel_map: the channels of a model.

    Returns:
        Int array of shape `(len(channel_map),)`: a number for the layer of each channel; -1 where
        no kernel makes it.
    """
    result = np.full(len(channel_map), -1)
    for number, row in enumerate(r for r in channel_map.slices if r.role == "output"):
        result[row.channels[result[row.channels] < 0]] = number
    return result


def mean_normalised(scores: np.ndarray, groups: np.ndarray, among: np.ndarray) -> np.ndarray:
    """Scores that can be compared across layers: each over the mean of its group.

        score(c) / mean of score(d),  d in `among` of the group of c

    so that a layer of large weights or many readers is pruned no later for that. (The default
    normaliser of Torch-Pruning, Fang et al. 2023.)

    Args:
        scores: a number per channel.
        groups: the group of each channel, such as `layer_groups` returns.
        among: a bool per channel: those that count, all with finite scores.

    Returns:
        The normalised scores, infinite for channels that are not in `among`.
    """
    size = int(groups.max(initial=-1)) + 1
    total = np.bincount(groups[among], scores[among], size)
    mean = total / np.maximum(np.bincount(groups[among], minlength=size), 1)
    result = np.full(len(scores), np.inf)
    result[among] = scores[among] / np.where(mean > 0, mean, 1.0)[groups[among]]
    return result


def ranks_within(scores: np.ndarray, groups: np.ndarray, among: np.ndarray) -> np.ndarray:
    """The place of each channel within its group, from 0, for the lowest score, to 1.

        (number of channels of the group with a lower score + 1/2) / number of channels

    Taking channels in this order takes the same share of every group.

    Args:
        scores: a number per channel.
        groups: the group of each channel, not below 0 where `among`.
        among: a bool per channel: those that count.

    Returns:
        The places, infinite for channels that are not in `among`.
    """
    result = np.full(len(scores), np.inf)
    channels = np.flatnonzero(among)
    channels = channels[np.lexsort((scores[channels], groups[channels]))]
    _, start, sizes = np.unique(groups[channels], return_index=True, return_counts=True)
    place = np.arange(len(channels)) - np.repeat(start, sizes)
    result[channels] = (place + 0.5) / np.repeat(sizes, sizes)
    return result
