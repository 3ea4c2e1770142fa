"""SIGTERM and Ctrl-C in the middle of a `fit`."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any


class InterruptedTrainingError(KeyboardInterrupt):
    """A signal has ended the training; what was done is saved.

    Args:
        signal_number: the number of the signal.
        ending: the rest of the sentence "Stopped by SIGTERM", such as "; the same call goes on from
            epoch 3."

    Attributes:
        signal: the number of the signal.
    """

    __module__ = "ptkeras.survival"  # where users find it

    def __init__(self, signal_number: int, ending: str) -> None:
        super().__init__(f"Stopped by {signal.Signals(signal_number).name}{ending}")
        self.signal = signal_number
        self._ending = ending

    def __reduce__(self) -> tuple[type, tuple[int, str]]:
        return type(self), (self.signal, self._ending)


class Signals:
    """Notes the first SIGTERM or SIGINT that comes while a `fit` runs.

    A second one does what it did before. So does one that comes after an exception has ended the
    `fit`.

    Args:
        in_fit: returns whether the `fit` runs.

    Attributes:
        received: the number of the signal, or None.
    """

    def __init__(self, in_fit: Callable[[], bool]) -> None:
        self.received: int | None = None
        self._in_fit = in_fit
        self._former: dict[int, Any] = {}

    def catch(self) -> None:
        """Begins to catch signals in the main thread; no other thread can."""
        self.received = None
        if threading.current_thread() is threading.main_thread() and not self._former:
            for number in (signal.SIGTERM, signal.SIGINT):
                self._former[number] = signal.signal(number, self._handle)

    def release(self) -> None:
        """Leaves the signals to whoever had them before."""
        while self._former:
            number, handler = self._former.popitem()
            signal.signal(number, signal.SIG_DFL if handler is None else handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        former = self._former.get(number)
        self.release()
        if self._in_fit():
            self.received = number
        elif callable(former):
            former(number, frame)
        else:
            signal.raise_signal(number)
