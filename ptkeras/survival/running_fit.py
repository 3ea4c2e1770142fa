"""The `fit` that a callback is in, which Keras does not tell it of."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from types import FrameType
from typing import Any

import keras


def callbacks_beside(callback: keras.callbacks.Callback) -> list[keras.callbacks.Callback]:
    """All callbacks of the `fit` that calls a callback, itself among them.

    Args:
        callback: the callback, in one of its hooks. Where no list of Keras calls it, it is alone.
    """
    return next(_lists(callback, sys._getframe()), [callback])


def stopped_for_good(callbacks: list[keras.callbacks.Callback]) -> str | None:
    """The class of a callback that has ended the training, as Keras's `EarlyStopping` does.

    It says so in `stopped_epoch`. Others that set `stop_training`, after an hour perhaps, mean this
    call of `fit` alone.

    Args:
        callbacks: those of the `fit`.
    """
    stopped = (one for one in callbacks if getattr(one, "stopped_epoch", 0))
    return next((type(one).__name__ for one in stopped), None)


def is_in_fit(callback: keras.callbacks.Callback) -> bool:
    """Whether a `fit` with this callback runs in any thread: an exception may have ended it."""
    return any(next(_lists(callback, frame), None) for frame in sys._current_frames().values())


def _lists(callback: keras.callbacks.Callback, frame: FrameType | None) -> Iterator[list[Any]]:
    while frame is not None:
        # One is `callbacks` in fit, and `self` in its own methods.
        for name in ("callbacks", "self"):
            found: Any = frame.f_locals.get(name)
            is_list = isinstance(found, keras.callbacks.CallbackList)
            if is_list and any(one is callback for one in found.callbacks):
                yield found.callbacks
        frame = frame.f_back
