"""Python's garbage collector, held back."""

from __future__ import annotations

import contextlib
import gc
import threading
from collections.abc import Iterator

_LOCK = threading.Lock()
_holding = 0  # how many `with` hold it back, in all threads
_was_on = False


@contextlib.contextmanager
def held_back() -> Iterator[None]:
    """Keeps the garbage collector from running meanwhile.

    Reading a network makes objects by the hundred thousand, which sets it off, again and again,
    over all that the process holds, for some fifth of a second each time; there is nothing to find.
    """
    _hold(1)
    try:
        yield
    finally:
        _hold(-1)


def _hold(change: int) -> None:
    global _holding, _was_on
    with _LOCK:
        if not _holding:
            _was_on = gc.isenabled()
        _holding += change
        if _holding:
            gc.disable()
        elif _was_on:
            gc.enable()
