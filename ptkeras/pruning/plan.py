"""Which channels go: candidates, the order in which they go, and how many it takes."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from typing import Literal

import numpy as np

from ptkeras.channels import ChannelMap
from ptkeras.importance import Criterion, round_up
from ptkeras.pruning.ranking import first_makers, layer_groups, mean_normalised, ranks_within

Scope = Literal["global", "layer", "group"]

# What floating point may make of `share * total`, as a part of the total.
ROUNDING = 1e-9

# Filling up ends this close to the goal, as a part of it, or after this many exchanges.
_CLOSE = 0.002
_MOST_ROUNDS = 5


class Plan:
    """The keep masks of a model from everything to as little as may be, one channel at a time.

    `keep(n)` drops the n channels that go first, and then keeps some of them again where a layer's
    number has to be a multiple. At least one channel of every tensor stays, so `reconfigure` takes
    every mask.

    Attributes:
        order: the channels that may go, first to go first.
    """

    def __init__(
        self,
        channel_map: ChannelMap,
        criterion: Criterion,
        scope: Scope,
        left_alone: np.ndarray,
        quotas: Mapping[str, tuple[np.ndarray, int]],
        *,
        multiple: int = 1,
        least: int = 1,
        gone: np.ndarray | None = None,
    ) -> None:
        """Ranks the channels.

        Args:
            channel_map: the channels of a model.
            criterion: scores them.
            scope: what is ranked together, see `ptkeras.prune`.
            left_alone: a bool per channel: those that stay whatever their score.
            quotas: by layer name, which channels the layer makes and how many of them go.
            multiple: what the number of a layer's channels is a multiple of.
            least: the least number of channels a layer keeps.
            gone: a bool per channel: those that go in any case, quotas among them; None for none.

        Raises:
            ValueError: a quota is more than may go of its layer.
        """
        scores = checked_scores(channel_map, criterion)
        gone = np.zeros(len(channel_map), bool) if gone is None else gone
        free = ~channel_map.frozen & np.isfinite(scores) & ~left_alone & ~gone
        self._map = channel_map
        self._multiple = multiple
        self._values = _values(channel_map, scores, free, scope)
        self._values[gone] = -np.inf
        free &= ~protected(channel_map, self._values, least)
        self._base = ~gone
        for name, (channels, count) in quotas.items():
            candidates = channels[free[channels]]
            count -= int(gone[channels].sum())
            if count > len(candidates):
                raise ValueError(
                    f"The override of '{name}' asks for {count} of its channels to go, and at most "
                    f"{len(candidates)} can: ask for less, or lower min_channels."
                )
            candidates = candidates[np.argsort(self._values[candidates], kind="stable")]
            self._base[candidates[: max(0, count)]] = False
        for channels, _ in quotas.values():
            free[channels] = False
        candidates = np.flatnonzero(free)
        self.order = candidates[np.argsort(self._values[candidates], kind="stable")]

    def keep(self, count: int) -> np.ndarray:
        """The keep mask without the first `count` channels of the order."""
        keep = self._base.copy()
        keep[self.order[:count]] = False
        if self._multiple > 1:
            keep = round_up(self._map, keep, self._values, multiple=self._multiple)
        return keep

    def fit(self, remaining: Callable[[np.ndarray], float], goal: float) -> np.ndarray | None:
        """The keep mask of the fewest channels gone with which `remaining` is at most `goal`.

        Args:
            remaining: what a keep mask leaves of the cost.
            goal: what it may leave.

        Returns:
            The mask; None if even the last one leaves more.
        """
        if remaining(self.keep(0)) <= goal:
            return self.keep(0)
        misses, meets = 0, len(self.order)
        if remaining(self.keep(meets)) > goal:
            return None
        while meets - misses > 1:
            middle = (misses + meets) // 2
            if remaining(self.keep(middle)) <= goal:
                meets = middle
            else:
                misses = middle
        return self.keep(meets)

    def filled(
        self, keep: np.ndarray, remaining: Callable[[np.ndarray], float], goal: float
    ) -> np.ndarray:
        """Returns a keep mask that leaves as much as it may, or nearly.

        The last channel to go may have been a large one, such as that of a shortcut, and `keep`
        leaves less than the goal then. A local search lets the best channels of some layers come
        back, in exchange for the next to go of one other.

        Args:
            keep: a mask that `fit` has returned.
            remaining: what a keep mask leaves of the cost.
            goal: what it may leave.
        """
        if self._multiple > 1:  # a channel alone would not suit
            return keep
        groups = layer_groups(self._map)
        left = remaining(keep)
        ways = [(None, 0), *itertools.product(np.unique(groups[self.order]).tolist(), (1, 2, 3))]
        for _ in range(_MOST_ROUNDS):
            best, most = keep, left
            for group, count in ways:
                if most > goal * (1 - _CLOSE):
                    return best
                trial = self._exchanged(keep, groups, group, count, remaining, goal)
                if (now := remaining(trial)) > most:
                    best, most = trial, now
            if most == left:
                break
            keep, left = best, most
        return keep

    def _exchanged(
        self,
        keep: np.ndarray,
        groups: np.ndarray,
        giving: int | None,
        count: int,
        remaining: Callable[[np.ndarray], float],
        goal: float,
    ) -> np.ndarray:
        """Returns a mask without the next to go of one group, and with what there is room for then.

        Args:
            keep: the mask.
            groups: the group of each channel.
            giving: the group; None for none.
            count: how many of it.
            remaining: what a keep mask leaves of the cost.
            goal: what it may leave.
        """
        trial = keep.copy()
        if giving is not None:
            own = self.order[keep[self.order] & (groups[self.order] == giving)]
            trial[own[:count]] = False
        full = {giving}  # a group none of whose channels fits any more
        for channel in self.order[~keep[self.order]][::-1]:
            if groups[channel] in full:
                continue
            trial[channel] = True
            if remaining(trial) > goal:
                trial[channel] = False
                full.add(int(groups[channel]))
        return trial


def checked_scores(channel_map: ChannelMap, criterion: Criterion) -> np.ndarray:
    """What a criterion returns, if it is a score per channel."""
    scores = np.asarray(criterion(channel_map), dtype=float)
    if scores.shape != (len(channel_map),) or np.isnan(scores).any():
        raise ValueError(
            f"The criterion must return {len(channel_map)} scores, one per channel of "
            f"'{channel_map.model.name}', none of them NaN; it returned an array of shape "
            f"{scores.shape} with {int(np.isnan(scores).sum())} NaN."
        )
    return scores


def _values(
    channel_map: ChannelMap, scores: np.ndarray, free: np.ndarray, scope: Scope
) -> np.ndarray:
    """Numbers to rank all channels by; infinite for those that stay."""
    groups = layer_groups(channel_map)
    if scope == "global":
        return mean_normalised(scores, groups, free)
    if scope == "layer":
        makers = first_makers(channel_map)
        # What no kernel makes is ranked with what it is tied to.
        groups = np.where(makers >= 0, makers, makers.max(initial=0) + 1 + groups)
    return ranks_within(scores, groups, free)


def protected(channel_map: ChannelMap, values: np.ndarray, least: int) -> np.ndarray:
    """The best channels of every layer and tensor: those without which too few would be left.

    Channels go in the order of their values, so the best ones of a layer are its last: to keep them
    in any case is the same as to stop in time.
    """
    protected = np.zeros(len(channel_map), bool)
    for labels in channel_map.tensors.values():
        channels = labels[labels >= 0]
        if channels.size:
            protected[channels[np.argmax(values[channels])]] = True
    for row in channel_map.slices:
        if row.role == "output":
            channels, positions = np.unique(row.made, return_counts=True)
            order = np.argsort(-values[channels], kind="stable")
            enough = np.searchsorted(positions[order].cumsum(), least) + 1
            protected[channels[order[:enough]]] = True
    return protected
