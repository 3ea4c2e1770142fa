"""What Keras tells of the epochs of a `fit`, where it only takes up another one's training."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from ptkeras.utils.files import aside


def history_of(
    model: keras.Model, epoch: int | None = None, logs: dict | None = None
) -> dict[str, Any]:
    """The History of a `fit` so far, for JSON.

    Args:
        model: the model.
        epoch: an epoch at its end, counted from 0, which the History may not have yet: Keras puts
            it behind all other callbacks. None between two steps.
        logs: the figures of that epoch.
    """
    history = model.history
    if not isinstance(history, keras.callbacks.History):  # the caller's own CallbackList has none
        return {"epochs": [], "figures": {}}
    epochs = list(history.epoch)
    figures = {name: [_plain(one) for one in values] for name, values in history.history.items()}
    if epoch is not None and epoch not in epochs:
        epochs.append(epoch)
        for name, value in (logs or {}).items():
            figures.setdefault(name, []).append(_plain(value))
    return {"epochs": epochs, "figures": figures}


def give_history(model: keras.Model, past: dict[str, Any]) -> None:
    """Gives the History of a `fit` that begins the epochs that it does not run again.

    Args:
        model: the model.
        past: what `history_of` returned.
    """
    if isinstance(model.history, keras.callbacks.History):
        model.history.epoch[:] = past["epochs"]
        model.history.history = {name: list(values) for name, values in past["figures"].items()}


def keep_rows(callbacks: Sequence[keras.callbacks.Callback], epochs: int) -> None:
    """Has Keras's CSVLogger keep the rows of the epochs that are not run again, and no others.

    Args:
        callbacks: those of a `fit`, before `on_train_begin`.
        epochs: how many are not run again.
    """
    for one in callbacks:
        if isinstance(one, keras.callbacks.CSVLogger) and epochs:
            one.append = True
            _cut(Path(one.filename), one.sep, epochs)


def _cut(path: Path, separator: str, epochs: int) -> None:
    """Takes rows away from the end of a file, up to that of the last epoch."""
    if not path.is_file():
        return
    with path.open(newline="") as file:
        rows = list(csv.reader(file, delimiter=separator))
    last = [i for i, row in enumerate(rows) if row[:1] == [str(epochs - 1)]]
    if not last or last[-1] == len(rows) - 1:
        return  # none of this training's, or nothing to cut
    with aside(path) as new, new.open("w", newline="") as file:
        csv.writer(file, delimiter=separator).writerows(rows[: last[-1] + 1])


def _plain(value: Any) -> Any:
    if isinstance(value, (str, bool, int, float, type(None))):
        return value
    values = np.asarray(keras.ops.convert_to_numpy(value))
    return None if values.dtype == object else values.tolist()
