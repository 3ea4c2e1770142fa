"""The learning rate of each epoch."""

from __future__ import annotations

import math
from collections.abc import Sequence

_RISE = 0.2  # the part of a one-cycle training in which the rate rises


def learning_rate(
    schedule: str, peak: float, epoch: int, epochs: int, drops: Sequence[int] = (), warmup: int = 0
) -> float:
    """Returns the learning rate of an epoch.

    - "steps": a tenth after each drop.
    - "cosine": peak · (1 + cos(πt)) / 2, where t goes from 0 to 1 over the epochs (SGDR without
      restarts, Loshchilov and Hutter, 2017, equation 5).
    - "one_cycle": up to the peak in a fifth of the epochs, and down to 0 in the rest, both in a
      line (Smith and Topin, 2019); the rate of an epoch is that of its middle.

    Args:
        schedule: its name.
        peak: the highest rate.
        epoch: the epoch, from 0.
        epochs: how many there are.
        drops: for "steps", the epochs after which the rate drops.
        warmup: the number of epochs in which the rate rises in a line to that of the schedule.
    """
    if schedule == "steps":
        rate = peak / 10 ** sum(epoch >= drop for drop in drops)
    elif schedule == "cosine":
        done = max(0, epoch - warmup) / max(1, epochs - warmup)
        rate = peak * (1 + math.cos(math.pi * done)) / 2
    else:
        middle = (epoch + 0.5) / epochs
        rate = peak * min(middle / _RISE, (1 - middle) / (1 - _RISE))
    return rate * min(1.0, (epoch + 1) / (warmup + 1))
