"""When a training chooses channels, and when it removes them."""

from __future__ import annotations

import math
from typing import NamedTuple

WARM_UP = 0.05  # the part of the epochs after which channels are first chosen
SETTLED = 0.3  # the part of the epochs after which the network has its last size
LEAST_STEP = 0.6  # what a stage leaves of the cost, at least


class Stage(NamedTuple):
    """One step on the way to the target.

    Attributes:
        choose_after: the number of epochs after which channels are chosen.
        remove_after: the number of epochs after which they are zero and are removed.
        progress: the part of what is to go in all that is gone then.
    """

    choose_after: int
    remove_after: int
    progress: float


def stages(first: int, last: int, target: float, interval: int | None = None) -> list[Stage]:
    """Plans a training: choose, shrink, remove, and train the rest of the epochs at the last size.

    The costs that the n stages leave are in a geometric series: `target ** (k / n)` after stage k.

    Args:
        first: the number of epochs trained before.
        last: the number of epochs trained in the end.
        target: the share of the cost that is left in the end, over 0 and under 1.
        interval: the number of epochs of a stage; None for as many as suit.

    Returns:
        The stages, at least one.

    Raises:
        ValueError: If there are less than two epochs.
    """
    epochs = last - first
    if epochs < 2:
        raise ValueError(
            f"PruneTrain needs two epochs and more to reach its target, one to choose channels and "
            f"one to take them to zero; received {max(epochs, 0)}. For a training in several calls "
            "of fit give the number of them all as PruneTrain(epochs=…); ptkeras.prune prunes a "
            "trained model at once."
        )
    start = max(1, round(WARM_UP * epochs))
    room = max(1, round(SETTLED * epochs) - start)
    if interval is None:
        count = min(room, math.ceil(math.log(target) / math.log(LEAST_STEP)))
        ends = [start + round(room * k / count) for k in range(1, count + 1)]
    else:
        length = min(interval, epochs - start)
        count = max(1, room // length)
        ends = [start + length * k for k in range(1, count + 1)]
    starts = [start, *ends[:-1]]
    return [
        Stage(first + begin, first + end, (1 - target ** (k / count)) / (1 - target))
        for k, (begin, end) in enumerate(zip(starts, ends, strict=True), 1)
    ]
