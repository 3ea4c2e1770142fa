"""SIGTERM and Ctrl-C in the middle of a `fit`."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any

import keras


class Signals:
    """Notes the first SIGTERM or SIGINT that comes while a callback's `fit` runs.

    A second one does what it did before, and so does one that finds no such `fit` on the stack: an
    exception may have ended it.

    Args:
        callback: the callback; its model is the one whose `fit` counts.

    Attributes:
        received: the number of the signal, or None.
    """

    def __init__(self, callback: keras.callbacks.Callback) -> None:
        self.callback = callback
        self.received: int | None = None
        self._former: dict[int, Any] = {}

    def catch(self) -> None:
        """Begins to catch them, where that can be done: in the main thread."""
        self.received = None
        if threading.current_thread() is threading.main_thread() and not self._former:
            for number in (signal.SIGTERM, signal.SIGINT):
                self._former[number] = signal.signal(number, self._handle)

    def release(self) -> None:
        """Leaves them to whoever had them before."""
        while self._former:
            number, handler = self._former.popitem()
            signal.signal(number, signal.SIG_DFL if handler is None else handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        fitting = self._is_fitting(frame)
        former = self._former.get(number)
        self.release()
        if fitting:
            self.received = number
        elif callable(former):
            former(number, frame)
        else:
            signal.raise_signal(number)

    def _is_fitting(self, frame: FrameType | None) -> bool:
        while frame is not None:
            if frame.f_code.co_name == "fit" and frame.f_locals.get("self") is self.callback._model:
                return True
            frame = frame.f_back
        return False
