"""A run that is killed and started again goes on from its last finished epoch."""

from __future__ import annotations

import json
import math
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import keras

from ptkeras._files import aside
from ptkeras.surgery.adopt import adopt
from ptkeras.surgery.optimizers import become, carry_over, twin
from ptkeras.surgery.reconfigure import refresh_functions, scope_of

_STATE = "state.json"


class NonFiniteLossError(ValueError):
    """The loss has become NaN or infinite."""


class Stateful(Protocol):
    """Whatever has to survive beside the model: a callback, or any other object."""

    def get_state(self) -> dict[str, Any]:
        """What JSON can hold."""

    def set_state(self, state: dict[str, Any]) -> None:
        """Takes back what `get_state` returned in another process, before the training begins.

        Called once more after every callback's `on_train_begin`.
        """


class Survival(keras.callbacks.Callback):
    """Saves all of a training at the end of each epoch, and takes it up again where it ended.

    Keras's BackupAndRestore saves weights alone, and they no longer fit once the network has been
    pruned; here the architecture is saved too, with the optimiser's slots, the states of random
    generators and whatever `stateful` names. The file is a `.keras` file that plain Keras loads.

    ```python
    pruning = ptkeras.PruneTrain()
    survival = Survival("run/last.keras", [PruningState(pruning)])
    model.fit(x, y, epochs=60, callbacks=[pruning, survival])  # the same call goes on after a kill
    ```

    The order of the data is not part of it: that of `ptkeras.data`, with its `EpochSeed`, depends
    on the epoch alone, so that a run which was killed ends bit for bit like one that was not.

    Put it last in the list of callbacks, so that it saves what the others have done to an epoch.

    Args:
        path: the file, ending in `.keras`. It is replaced as a whole: a kill never leaves half.
        stateful: objects with `get_state()` and `set_state(state)`.

    Attributes:
        epoch: the number of epochs in the file, 0 if there is none.

    Raises:
        NonFiniteLossError: in `fit`, once the loss is NaN or infinite; the file stays as it is.
        ValueError: the file cannot be read.
    """

    def __init__(self, path: str | Path, stateful: Sequence[Stateful] = ()) -> None:
        super().__init__()
        self.path = Path(path)
        if self.path.suffix != ".keras":
            raise ValueError(f"The path of Survival must end in .keras; received '{path}'.")
        self.stateful = list(stateful)
        self.epoch = 0
        self._state: dict[str, Any] | None = None
        self._resumed: keras.Model | None = None

    def resume(self, model: keras.Model) -> int:
        """Makes a model, compiled and as it was built first, what is in the file.

        `fit` does so by itself; whoever needs the state before calls it.

        Args:
            model: the model that is about to be trained.

        Returns:
            The number of epochs that it has been trained for.
        """
        self._resumed = model
        if self.path.exists():
            self._state = _read_state(self.path)
            self.epoch = self._state["epoch"]
            _restore(model, self.path, self._state)
            self._set_states()
        return self.epoch

    # The hooks of Keras, in the order in which fit calls them.

    def set_model(self, model: keras.Model) -> None:
        """Resumes, before any callback's `on_train_begin`: they are to see the pruned network."""
        super().set_model(model)
        if self._resumed is not model:
            self.resume(model)

    def on_train_begin(self, logs: dict | None = None) -> None:
        """Sets the first epoch of `fit`."""
        self._epoch_now = self.epoch
        if self._state is not None:
            self._set_states()  # what another callback's on_train_begin has started anew
            self.model._initial_epoch = self.epoch  # as Keras's BackupAndRestore does

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        self._epoch_now = epoch

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        self._check_loss((logs or {}).get("loss"))

    def on_test_end(self, logs: dict | None = None) -> None:
        # The last step of an epoch may have broken the weights behind the back of its own loss.
        self._check_loss((logs or {}).get("loss"))

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Saves."""
        self.epoch = epoch + 1
        state = {
            "epoch": self.epoch,
            "states": [one.get_state() for one in self.stateful],
            "optimizer": [v.path for v in self.model.optimizer._trainable_variables],
            "seeds": [keras.ops.convert_to_numpy(v).tolist() for v in _seeds(self.model)],
        }
        with aside(self.path) as new:
            self.model.save(new)
            with zipfile.ZipFile(new, "a") as archive:
                archive.writestr(_STATE, json.dumps(state))

    def on_train_end(self, logs: dict | None = None) -> None:
        """Leaves the model to other calls of `fit`."""
        self.model._initial_epoch = None
        self._state = None

    def _set_states(self) -> None:
        for one, state in zip(self.stateful, self._state["states"], strict=True):
            one.set_state(state)

    def _check_loss(self, loss: Any) -> None:
        if loss is not None and not math.isfinite(loss):
            saved = f"what was saved after epoch {self.epoch} stays" if self.epoch else "unsaved"
            raise NonFiniteLossError(
                f"The loss became {float(loss)} in epoch {self._epoch_now + 1}: the training has "
                f"stopped, {saved}; a lower learning rate may help."
            )


class PruningState:
    """What of a `PruneTrain` has to survive beside the model.

    Args:
        callback: the `PruneTrain` of the fit.
    """

    def __init__(self, callback: Any) -> None:
        self.callback = callback

    def get_state(self) -> dict[str, Any]:
        state = {name: getattr(self.callback, name) for name in self._NAMES}
        if self.callback._adjustment is not None:
            state["batch_size"] = self.callback._adjustment.size
            state["memory"] = self.callback._adjustment.memory
        return state

    def set_state(self, state: dict[str, Any]) -> None:
        for name in self._NAMES:
            setattr(self.callback, name, state[name])
        if self.callback._adjustment is not None:
            self.callback._adjustment.variable.assign(state["batch_size"])
            self.callback._adjustment.memory = state["memory"]

    _NAMES = ("strength", "training_flops", "reconfigurations")


def _read_state(path: Path) -> dict[str, Any]:
    try:
        with zipfile.ZipFile(path) as archive:
            return json.loads(archive.read(_STATE))
    except (zipfile.BadZipFile, KeyError, ValueError) as error:
        raise ValueError(
            f"'{path}' is not a checkpoint that a run can go on from: delete it to begin anew."
        ) from error


def _restore(model: keras.Model, path: Path, state: dict[str, Any]) -> None:
    """Moves the saved graph into the model, and the saved numbers into that."""
    regularizers = {v.path: v.regularizer for v in model.trainable_variables}
    with scope_of(model):
        adopt(model, keras.models.load_model(path, compile=False))
        for variable in model.trainable_variables:
            # Those that hang on variables are not in a saved config.
            variable.regularizer = variable.regularizer or regularizers.get(variable.path)
        _renew_optimizer(model, state["optimizer"])
    model.load_weights(path)
    # The slots are saved in the order of another process, and Keras pairs them by position.
    same = {id(v): v for v in model.trainable_variables}
    carry_over(model.optimizer, model.trainable_variables, same, lambda v, values, axes: values)
    for variable, value in zip(_seeds(model), state["seeds"], strict=True):
        variable.assign(value)
    refresh_functions(model)


def _renew_optimizer(model: keras.Model, paths: list[str]) -> None:
    """An optimiser of the same config for the saved weights, in the old object.

    Args:
        model: the model, compiled.
        paths: the weights in the order of the saved slots; that of a pruned model's layers may be
            another one.
    """
    optimizer = model.optimizer
    weights = {v.path: v for v in model.trainable_variables}
    fresh = twin(optimizer)
    fresh.build([weights[path] for path in paths])
    become(optimizer, fresh)


def _seeds(model: keras.Model) -> list[Any]:
    """The states of random generators, dropout's among them; `.keras` files leave them out."""
    return [v for v in model.variables if v.path.endswith("seed_generator_state")]
