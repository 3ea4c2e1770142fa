"""Epochs of a training that may be in several calls of `fit`."""

from __future__ import annotations

from typing import Any, Literal

from ptkeras.utils.arguments import check_number

_AUTO = 0.05  # the part of the epochs that lies between two reconfigurations at least


class Epochs:
    """Counts the epochs of a training, and says after which of them it reconfigures.

    A call of `fit` that is shorter than the interval is a piece of a training, and its end is not
    the end of the training. An epoch that Keras numbers 0 follows those that were trained before.

    Args:
        interval: the reconfiguration interval; "auto" for a twentieth of the epochs of `fit`.

    Attributes:
        trained: the number of epochs trained.
        reconfigured: the number of epochs trained before the last reconfiguration.
        first: the number of epochs before this call of `fit`, by Keras's numbers.
    """

    def __init__(self, interval: int | Literal["auto"]) -> None:
        self._is_auto = interval == "auto"
        self.interval = 1 if interval == "auto" else interval
        self.trained = self.reconfigured = self.first = 0
        self._offset = 0  # what is added to Keras's number of an epoch
        self._start = 0  # epochs trained before this call of fit
        self._planned = 0  # epochs trained when this call of fit ends
        self._continues = False  # a call of fit that another process began

    def renewed(self) -> Epochs:
        """Returns those of another training, with the same interval."""
        return Epochs("auto" if self._is_auto else self.interval)

    def get_state(self) -> dict[str, int]:
        """Returns what has to survive when a training is stopped."""
        return {
            "trained": self.trained,
            "reconfigured": self.reconfigured,
            "offset": self._offset,
            "start": self._start,
        }

    def set_state(self, state: dict[str, Any]) -> None:
        """Takes back what `get_state` returned, for a call of `fit` that goes on."""
        self.trained, self.reconfigured = state["trained"], state["reconfigured"]
        self._offset, self._start = state["offset"], state["start"]
        self._continues = True

    def begin(self, epoch: int, epochs: int) -> None:
        """Starts a call of `fit` with its first epoch.

        Args:
            epoch: Keras's number of that epoch, from 0.
            epochs: the `epochs` of `fit`.
        """
        if not self._continues:
            self._offset = self.trained if epoch == 0 else self._offset
            if self._offset + epoch != self.trained:  # numbers of the user's own
                self._offset = 0
            self._start = self._offset + epoch if self.trained else 0
        self._continues = False
        self.first = self._offset + epoch
        self._planned = self._offset + epochs
        if self._is_auto:
            self.interval = max(1, round(_AUTO * self.length))

    @property
    def planned(self) -> int:
        """Number of epochs trained when this call of `fit` ends."""
        return self._planned

    @property
    def length(self) -> int:
        """Number of epochs that this call of `fit` was to train."""
        return self._planned - self._start

    @property
    def is_piece(self) -> bool:
        """Whether this call of `fit` is too short to be a training."""
        return self.length < self.interval

    def end_epoch(self, epoch: int) -> None:
        """Counts an epoch, by Keras's number of it."""
        self.trained = self._offset + epoch + 1

    @property
    def is_last(self) -> bool:
        """Whether the training ends with the epoch just trained."""
        return self.trained == self._planned and not self.is_piece

    @property
    def is_due(self) -> bool:
        """Whether a reconfiguration follows the epoch just trained."""
        return self.is_last or self.trained % self.interval == 0


def check_interval(interval: Any) -> int | Literal["auto"]:
    """Returns a reconfiguration interval.

    Raises:
        ValueError: If it is neither "auto" nor a number of epochs.
    """
    if isinstance(interval, str) and interval == "auto":
        return "auto"
    wanted = 'a whole number of epochs from 1, or "auto"'
    check_number("interval of PruneTrain", interval, lambda n: n == int(n) >= 1, wanted)
    return int(interval)
