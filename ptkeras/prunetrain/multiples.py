"""What numbers of channels stay a multiple of."""

from __future__ import annotations

from typing import Any, Literal

import keras

from ptkeras.latency import preferred_multiple
from ptkeras.multi_worker.agreement import from_chief, strategy_of
from ptkeras.utils.arguments import check_number


def check_multiple(multiple: Any) -> int | Literal["auto"]:
    """Returns the `channel_multiple` of PruneTrain.

    Raises:
        ValueError: If it is neither "auto" nor a whole number from 1.
    """
    if isinstance(multiple, str) and multiple == "auto":
        return "auto"
    wanted = 'a whole number from 1, or "auto"'
    check_number("channel_multiple of PruneTrain", multiple, lambda n: n == int(n) >= 1, wanted)
    return int(multiple)


def find_multiple(multiple: int | Literal["auto"], trainer: keras.Model) -> int:
    """Returns the number that is meant: for "auto", what suits the machine of the chief."""
    if multiple == "auto":
        return from_chief(strategy_of(trainer), preferred_multiple)
    return multiple
