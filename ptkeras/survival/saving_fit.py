"""What the callbacks have in common that save a `fit` and end it where a signal asks for that."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from pathlib import Path

import keras

from ptkeras.survival.checkpoint import Checkpoints
from ptkeras.survival.running_fit import is_in_fit
from ptkeras.survival.signals import Signals
from ptkeras.utils.files import check_writable_name
from ptkeras.utils.lock import Lock


class InterruptedTrainingError(KeyboardInterrupt):
    """A signal has ended the training; what was done is saved.

    Args:
        signal_number: the number of the signal.
        ending: the rest of the sentence "Stopped by SIGTERM", with what stands before it: "; the
            same call goes on from epoch 3."

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


class SavingFit(keras.callbacks.Callback):
    """A callback with a file that only one `fit` at a time writes, and an ear for signals.

    Args:
        path: the file, ending in `.keras`.
        name: what to call the path in a message.

    Raises:
        ValueError: the path ends otherwise, or is too long.
    """

    def __init__(self, path: str | Path, name: str) -> None:
        super().__init__()
        self.path = Path(path)
        if self.path.suffix != ".keras":
            raise ValueError(f"The {name} must end in .keras; received '{path}'.")
        try:
            check_writable_name(self.path.with_suffix(".previous.keras"))
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", error)
            raise ValueError(f"The {name}, '{path}', cannot be used ({reason}).") from error
        self.checkpoints = Checkpoints(self.path)
        self._signals = Signals(self)
        self._lock = Lock(self.path, in_use=lambda: is_in_fit(self))

    def _leave(self) -> None:
        """Takes back what a fit must not leave behind."""
        self.model._initial_epoch = None
        self._signals.release()
        self._lock.release()

    @contextlib.contextmanager
    def _leaving_if_it_fails(self) -> Iterator[None]:
        try:
            yield
        except BaseException:
            self._leave()
            raise
