"""The callback that keeps the best gates of a search, and what a resumed search has to repeat."""

from __future__ import annotations

import contextlib
import json
import math
import time
from typing import Any

import keras
import numpy as np

from ptkeras.from_scratch.accuracy import is_accuracy


class GateSearch(keras.callbacks.Callback):
    """Keeps the gates of the best epoch; `Survival` saves it with the gated network.

    Args:
        settings: those arguments of the search that another process has to repeat. What JSON does
            not know counts as None.

    Attributes:
        history: a dict for each epoch, see `Search`.
        gates: the best gates so far, by channel.
        epoch: the number of their epoch, counted from 1.
        seconds: the time that earlier processes have searched for.
    """

    def __init__(self, settings: dict[str, Any]) -> None:
        super().__init__()
        self.history: list[dict[str, float]] = []
        self.gates: Any = None  # an array after the first epoch
        self.epoch = 0
        self.seconds = 0.0
        self._settings = json.loads(json.dumps(settings, default=_plain))
        self._begun = time.perf_counter()

    def on_train_batch_end(self, batch: int, logs: dict[str, Any]) -> None:
        _check_finite("loss", logs["loss"])

    def on_epoch_end(self, epoch: int, logs: dict[str, Any]) -> None:
        gates = self.model.gates_by_channel()
        _check_finite("loss of the validation data", logs["val_loss"])
        _check_finite("sum of the gates", np.sum(gates[~np.isposinf(gates)]))
        share = float(np.mean(gates[np.isfinite(gates)] != 0))
        accuracies = [v for k, v in logs.items() if k.startswith("val_") and is_accuracy(k)]
        row = {"accuracy": float(np.mean(accuracies)), "open": share}
        logs["open"] = share
        self.history.append(row)
        *before, rank = [self._rank(row) for row in self.history]
        # The first of equal epochs that count, as in the authors' code; the last, if none counts.
        if not before or rank > max(before) or (rank == max(before) and not rank[0]):
            self.gates, self.epoch = gates, epoch + 1

    def get_settings(self) -> dict[str, Any]:
        """Returns the settings that a resumed search has to have."""
        return self._settings

    def get_state(self) -> dict[str, Any]:
        """Returns what JSON can hold."""
        return {
            "history": self.history,
            "gates": self.gates.tolist(),
            "epoch": self.epoch,
            "seconds": self.seconds + time.perf_counter() - self._begun,
        }

    def set_state(self, state: dict[str, Any]) -> None:
        """Takes back what `get_state` returned in another process."""
        self.history, self.epoch = list(state["history"]), state["epoch"]
        self.gates, self.seconds = np.array(state["gates"]), state["seconds"]

    def _rank(self, row: dict[str, float]) -> tuple[bool, float]:
        sparse = row["open"] <= self._settings["sparsity_ratio"]
        return (sparse, row["accuracy"] if sparse else -row["open"])


def config_of(loss: Any) -> Any:
    """Returns the name and the settings of losses, such as their label smoothing.

    Args:
        loss: a loss as `compile` takes it, or a list or dict of some.
    """
    return keras.tree.map_structure(_config_of_one, loss)


def _config_of_one(loss: Any) -> dict[str, Any]:
    loss = keras.losses.get(loss)
    config: dict[str, Any] = {}
    if isinstance(loss, keras.losses.Loss):  # a function has no settings, nor may a user's own
        with contextlib.suppress(Exception):
            config = loss.get_config()
    return config | {"name": getattr(loss, "__name__", type(loss).__name__)}  # others count on


def _plain(value: Any) -> Any:
    return value.tolist() if isinstance(value, np.generic | np.ndarray) else None


def _check_finite(name: str, value: Any) -> None:
    if not math.isfinite(value):
        raise ValueError(
            f"The {name} is {float(value)} in the gate search of Pruning from Scratch, so that its "
            "gates say nothing: look for NaN in the examples, or lower the learning rate."
        )
