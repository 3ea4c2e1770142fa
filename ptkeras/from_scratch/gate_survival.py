"""A search for gates that is stopped goes on from its last epoch."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any, Protocol

import keras
import numpy as np

from ptkeras.from_scratch.gated_network import GatedNetwork
from ptkeras.surgery.reconfigure import scope_of
from ptkeras.survival.checkpoint import read_arrays, read_state
from ptkeras.survival.resume import generators, set_generators
from ptkeras.survival.saving_fit import InterruptedTrainingError, SavingFit

_GATES, _SLOT, _OTHER, _BEST = "gates", "slot_", "other_", "best"


class Best(Protocol):
    """The best epoch of a search so far."""

    history: list[dict[str, float]]
    gates: np.ndarray | None
    epoch: int


class GateSurvival(SavingFit):
    """Saves a search for gates at the end of each epoch, and takes it up again where it ended.

    `Survival` wants a graph, which a `GatedNetwork` has not. Here the `.keras` file holds the
    network that is searched, with its moving statistics, and beside it the gates, the optimiser's
    slots, the states of random generators and what the best epoch was. It is sealed, kept twice and
    found again as the checkpoints of `Survival` are.

    SIGTERM and Ctrl-C end the search behind the step at hand; it goes on with that epoch.

    Put it last in the list of callbacks.

    Args:
        path: the file, ending in `.keras`.
        best: what keeps the best epoch; the callback takes it up too.
        arguments: those of the search by name, which a file has to have been written with, under
            the same backend of Keras.

    Attributes:
        epoch: the number of epochs that are done.
        seconds: what those took that were done before `fit`.

    Raises:
        InterruptedTrainingError: in `fit`, a KeyboardInterrupt: a signal has ended it.
        LockedError: in `fit`, a ValueError: another search writes the same file.
        ValueError: no file can be read, or it is that of another search.
    """

    def __init__(self, path: str | Path, best: Best, arguments: dict[str, Any]) -> None:
        super().__init__(path, "checkpoint of learn_gates")
        self.best = best
        self.arguments = _as_json(arguments | {"KERAS_BACKEND": keras.config.backend()})
        self.epoch = 0
        self.seconds = 0.0
        self._begun = time.perf_counter()

    # The hooks of Keras, in the order in which fit calls them.

    def on_train_begin(self, logs: dict | None = None) -> None:
        """Goes on where the file ends, if there is one."""
        with self._leaving_if_it_fails():
            self._lock.take()
            path = self.checkpoints.find()
            if path is not None:
                self._restore(path)
                self.model._initial_epoch = self.epoch  # as Keras's BackupAndRestore does
        self._signals.catch()

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        """Ends the search, if a signal has come."""
        self._stop_if_told()

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Saves."""
        self.epoch = epoch + 1
        with self._leaving_if_it_fails():
            self._save()
        self._stop_if_told()

    def on_train_end(self, logs: dict | None = None) -> None:
        """Leaves signals to whoever had them before."""
        self._stop_if_told()
        self._leave()

    # What they are made of.

    def _stop_if_told(self) -> None:
        number = self._signals.received
        if number is None:
            return
        self._leave()
        where = f"epoch {self.epoch}" if self.epoch else "the beginning"
        raise InterruptedTrainingError(
            number, f" while gates were learned; the same call goes on from {where} of that."
        )

    def _save(self) -> None:
        model: GatedNetwork = self.model
        state = {
            "epoch": self.epoch,
            "arguments": self.arguments,
            "history": self.best.history,
            "best_epoch": self.best.epoch,
            "seconds": self.seconds + time.perf_counter() - self._begun,
            "shapes": self._shapes(),
        }
        arrays = {name: keras.ops.convert_to_numpy(v.value) for name, v in self._variables()}
        arrays |= generators() | {_BEST: self.best.gates}
        self.checkpoints.write(model.network, state, arrays)

    def _restore(self, path: Path) -> None:
        state, arrays = read_state(path), read_arrays(path)
        self._check(path, state)
        with scope_of(self.model):
            self.model.optimizer.build([self.model.gates])  # which fit leaves to the first step
            self.model.network.load_weights(path)
            for name, variable in self._variables():
                variable.assign(arrays[name])
        set_generators(self.model, arrays)
        self.epoch, self.seconds = state["epoch"], state["seconds"]
        self.best.history = list(state["history"])
        self.best.epoch, self.best.gates = state["best_epoch"], arrays[_BEST]

    def _check(self, path: Path, state: dict[str, Any]) -> None:
        remedy = "delete it to begin anew, or choose another checkpoint."
        there = state.get("arguments")
        if not isinstance(there, dict):
            raise ValueError(f"'{path}' is no checkpoint of a search for gates: {remedy}")
        for name, value in self.arguments.items():
            if json.dumps(there.get(name, value)) != json.dumps(value):  # older files have fewer
                raise ValueError(
                    f"'{path}' holds another search ({name} is {there[name]} there and {value} "
                    f"here): {remedy}"
                )
        if state["shapes"] != self._shapes():
            raise ValueError(f"'{path}' holds the search of another network: {remedy}")

    def _shapes(self) -> list[list[int]]:
        """What tells whether a file is of a network like this one."""
        return [list(v.shape) for v in (self.model.gates, *self.model.network.weights)]

    def _variables(self) -> list[tuple[str, keras.Variable]]:
        """What a `.keras` file of the network leaves out, by the name in the file."""
        model: GatedNetwork = self.model
        saved = {id(v) for v in model.network.weights}
        others = [v for v in model.network.variables if id(v) not in saved]
        return [
            (_GATES, model.gates),
            *((f"{_SLOT}{i}", v) for i, v in enumerate(model.optimizer.variables)),
            *((f"{_OTHER}{i}", v) for i, v in enumerate(others)),
        ]


def settings_of(loss: Any) -> Any:
    """What losses are set to, such as their label smoothing; None for those that do not say so.

    Args:
        loss: a loss as `compile` takes it, or a list or dict of some.

    Returns:
        The config of each, in the structure of `loss`.
    """
    return keras.tree.map_structure(_settings_of_one, loss)


def _settings_of_one(loss: Any) -> dict[str, Any] | None:
    if not isinstance(loss, keras.losses.Loss):
        return None
    try:
        config = _as_json(loss.get_config())
    except Exception:  # a user's own
        return None
    return {key: value for key, value in config.items() if key != "name"}  # names may count on


def _as_json(value: Any) -> Any:
    """A value as JSON gives it back; None in the place of what JSON does not know."""
    return json.loads(json.dumps(value, default=_plain))


def _plain(value: Any) -> Any:
    return value.tolist() if isinstance(value, np.generic | np.ndarray) else None
