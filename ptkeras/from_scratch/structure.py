"""The structure of a network for a budget of FLOPs, from gates that were learned."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import keras
import numpy as np

from ptkeras.channels import ChannelMap
from ptkeras.cost.prediction import Prediction, weighted_macs
from ptkeras.pruning.plan import protected
from ptkeras.surgery.fresh import fresh
from ptkeras.surgery.reconfigure import without
from ptkeras.utils.arguments import check_number

# How near to the budget a structure is to come, as a share of the budget.
NEAR = 0.01

# How often FLOPs that are guessed are set right by those of the structure that came of them.
TRIES = 4


@dataclasses.dataclass(frozen=True, eq=False)
class Search:
    """What `learn_gates` found.

    Attributes:
        channel_map: the channels of the network that was searched, the expanded one.
        flops: the FLOPs of one forward pass of the model as it was given.
        gates: an array of a number per channel of the map: its gate; infinite for those that stay.
        epoch: the number of the epoch, counted from 1, that the gates are of.
        history: a dict for each epoch: `accuracy`, that on the validation data, and `open`, the
            share of gates that are not zero.
        seconds: what the search took.
    """

    channel_map: ChannelMap
    flops: int
    gates: np.ndarray
    epoch: int
    history: list[dict[str, float]]
    seconds: float
    _kept: dict[float, np.ndarray] = dataclasses.field(default_factory=dict, init=False, repr=False)

    def keep(self, budget: float) -> np.ndarray:
        """The structure whose FLOPs come nearest to a budget, by bisection on the gates' threshold.

        Channels go in the order of their gates; of equal gates, such as closed ones, in a random
        order that is always the same. One channel of every layer stays. Where the threshold's steps
        are coarser than 1 %, as in narrow networks whose shortcuts tie a channel of many layers,
        channels next in the order stand in for one that would take too much.

        Args:
            budget: the share of the model's FLOPs, over 0.

        Returns:
            A bool per channel of `channel_map`.

        Raises:
            ValueError: the budget is not a number over 0, or no structure comes within 1 % of it.
        """
        wanted = "a share of the model's FLOPs, over 0"
        check_number("budget of Pruning from Scratch", budget, lambda b: b > 0, wanted)
        if budget not in self._kept:
            self._kept[budget] = self._nearest(budget)
        return self._kept[budget].copy()

    def _nearest(self, budget: float) -> np.ndarray:
        free = np.isfinite(self.gates) & ~protected(self.channel_map, self.gates, 1)
        candidates = np.random.default_rng(0).permutation(np.flatnonzero(free))
        order = candidates[np.argsort(self.gates[candidates], kind="stable")]
        flops = flops_of(self.channel_map)
        goal = budget * self.flops

        def without(count: int) -> np.ndarray:
            keep = np.ones(len(self.gates), bool)
            keep[order[:count]] = False
            return keep

        low, high = 0, len(order)
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if flops(without(middle)) > goal else (low, middle)

        def off(keep: np.ndarray) -> float:
            return abs(flops(keep) / goal - 1)

        nearest = min(without(low), without(high), key=off)
        if off(nearest) > NEAR:
            filled = begin = without(low)
            for _ in range(TRIES):
                guess = _guess_of(self.channel_map, filled, flops(filled))
                filled = _filled_up(begin, order[low:], guess, goal)
                nearest = min(nearest, filled, key=off)
                right = guess(filled) == flops(filled)  # the next guess would be the same
                if right or off(nearest) <= NEAR:
                    break
        share = flops(nearest) / self.flops
        if abs(share / budget - 1) > NEAR:
            raise ValueError(
                f"The structure of '{self.channel_map.model.name}' nearest to a budget of {budget} "
                f"of the FLOPs has {share:.4f} of them: choose a budget near that, or another "
                "channel_expansion."
            )
        return nearest

    def build(self, budget: float) -> keras.Model:
        """The network for a budget, with fresh weights, to be compiled and trained from scratch.

        Args:
            budget: the share of the model's FLOPs, over 0; met within 1 %.

        Returns:
            A new model of plain Keras.

        Raises:
            ValueError: as `keep` does.
        """
        return fresh(self.channel_map, self.keep(budget))

    def budget_epochs(self, epochs: int, budget: float) -> int:
        """Budget training: epochs that cost a built network what `epochs` cost the model.

            epochs · FLOPs of the model / FLOPs of the network, rounded

        Args:
            epochs: for which the model would be trained.
            budget: the share of the model's FLOPs, over 0.

        Returns:
            The epochs, at least one unless there are none.

        Raises:
            ValueError: as `keep` does.
        """
        return grown(epochs, self.flops, flops_of(self.channel_map)(self.keep(budget)))


def grown(epochs: int, model_flops: float, network_flops: float) -> int:
    """The formula of `Search.budget_epochs`.

    Args:
        epochs: for which the model would be trained.
        model_flops: of a forward pass of the model.
        network_flops: of a forward pass of the network that stands in for it.
    """
    return max(1, round(epochs * model_flops / network_flops)) if epochs else 0


def _filled_up(
    keep: np.ndarray, order: np.ndarray, flops: Callable[[np.ndarray], float], goal: float
) -> np.ndarray:
    """The mask without those channels, first to go first, that leave `goal · (1 - NEAR)` or more.

    Args:
        keep: the mask to begin with; it is not changed.
        order: the channels, the first to go first.
        flops: tells the FLOPs of a mask.
        goal: the FLOPs that are wanted; within `NEAR` of them nothing more goes.
    """
    keep = keep.copy()
    for channel in order:
        keep[channel] = False
        left = flops(keep)
        keep[channel] = left < goal * (1 - NEAR)
        if not keep[channel] and left <= goal * (1 + NEAR):
            break
    return keep


def flops_of(channel_map: ChannelMap) -> Callable[[np.ndarray], float]:
    """A function that tells the FLOPs of a forward pass of the model that a keep mask would leave.

    Args:
        channel_map: the channels of the model.
    """
    prediction = Prediction(channel_map)
    if prediction.exact:
        return lambda keep: 2 * sum(prediction.macs(keep))
    known: dict[bytes, float] = {}

    def flops(keep: np.ndarray) -> float:
        """Products without a kernel (attention scores) are counted on the graph as it would be."""
        key = keep.tobytes()
        if key not in known:
            with without(channel_map, keep) as smaller:
                known[key] = 2 * weighted_macs(smaller, None)
        return known[key]

    return flops


def _guess_of(
    channel_map: ChannelMap, near: np.ndarray, flops: float
) -> Callable[[np.ndarray], float]:
    """FLOPs of masks close to one whose FLOPs are known, without building any graph."""
    prediction = Prediction(channel_map)
    missing = flops - 2 * sum(prediction.macs(near))  # 0 if the prediction is exact
    return lambda keep: 2 * sum(prediction.macs(keep)) + missing
