"""The `fit` that a callback is in, read from the stack.

Keras (3.15 at least) does not hand a callback the others beside it, and calls no hook after an
exception has ended `fit`. An object that dies with `fit` does not help either: the traceback keeps
all of them alive. Only the stack answers both, and only this module reads it. It can go once Keras
has a hook for the end of a `fit` that raised.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from types import FrameType

import keras


def callbacks_beside(callback: keras.callbacks.Callback) -> list[keras.callbacks.Callback]:
    """Returns all callbacks of the `fit` that calls a hook of a callback, that one among them."""
    return next(_lists(callback, sys._getframe()), [callback])


def is_in_fit(callback: keras.callbacks.Callback) -> bool:
    """Returns whether a `fit` with this callback runs in any thread."""
    return any(next(_lists(callback, frame), None) for frame in sys._current_frames().values())


def _lists(
    callback: keras.callbacks.Callback, frame: FrameType | None
) -> Iterator[list[keras.callbacks.Callback]]:
    while frame is not None:
        for name in ("callbacks", "self"):  # in fit, and in the methods of the list itself
            value = frame.f_locals.get(name)
            listed = value.callbacks if isinstance(value, keras.callbacks.CallbackList) else []
            if any(other is callback for other in listed):
                yield listed
        frame = frame.f_back
