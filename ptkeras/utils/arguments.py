"""Numbers that a caller gave, in their range or told of."""

from __future__ import annotations

import numbers
import sys
from collections.abc import Callable
from typing import Any


def check_number(name: str, value: Any, right: Callable[[float], bool], wanted: str) -> None:
    """Refuses what is no finite number in its range.

    Args:
        name: what to call it, such as "ratio of EigenDamage".
        value: what was given.
        right: whether a finite number is in the range.
        wanted: the range in words, such as "over 0 and under 1".

    Raises:
        ValueError: so it is.
    """
    number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if not number or not abs(value) <= sys.float_info.max or not right(value):
        raise ValueError(f"The {name} must be {wanted}; received {value!r}.")


def check_count(name: str, value: Any) -> int:
    """Refuses what is no whole number from 1; hands others back as `int`.

    Args:
        name: what to call it.
        value: what was given; 3.0 is a whole number too.

    Raises:
        ValueError: so it is.
    """
    check_number(name, value, lambda n: n == int(n) >= 1, "a whole number from 1")
    return int(value)


def check_share(name: str, value: Any) -> float:
    """Refuses what is no share that leaves something; hands others back as `float`.

    Args:
        name: what to call it.
        value: what was given.

    Raises:
        ValueError: so it is.
    """
    check_number(name, value, lambda share: 0 <= share < 1, "a number from 0 and under 1")
    return float(value)
