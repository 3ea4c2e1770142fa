"""Python's garbage collector, held back."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator


@contextlib.contextmanager
def held_back() -> Iterator[None]:
    """Keeps the garbage collector from running meanwhile.

    Building a network makes objects by the hundred thousand, which sets it off, again and again,
    over all that the process holds, for some fifth of a second each time; there is nothing to find.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
