"""The callback that saves a training, and takes it up again after a kill."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn, Protocol

import keras

from ptkeras import multi_worker
from ptkeras.keras_compat.messages import print_msg
from ptkeras.keras_compat.trainers import model_of_callback, set_initial_epoch
from ptkeras.multi_worker.replicas import average_statistics
from ptkeras.survival import contents, resume
from ptkeras.survival.checkpoint import Checkpoints, read_arrays, read_state
from ptkeras.survival.fingerprint import (
    Fingerprint,
    check_fingerprint,
    fingerprint_of,
    take_names,
)
from ptkeras.survival.finite import broken_loss, broken_variable
from ptkeras.survival.keras_callbacks import KerasState
from ptkeras.survival.running_fit import callbacks_beside, is_in_fit
from ptkeras.survival.signals import InterruptedTrainingError, Signals
from ptkeras.utils.files import check_writable_name
from ptkeras.utils.lock import Lock
from ptkeras.utils.models import check_model

_STEPS_BETWEEN_QUESTIONS = 10  # to the other workers: each question is a message and an answer


class NonFiniteLossError(ValueError):
    """The loss, a weight or a slot of the optimizer has become NaN or infinite."""


class Stateful(Protocol):
    """Whatever has to survive with the model: a callback, or any other object."""

    def get_state(self) -> dict[str, Any]:
        """Returns what JSON can hold."""

    def set_state(self, state: dict[str, Any]) -> None:
        """Takes back what `get_state` returned in another process, before the training begins.

        Called once more after every callback's `on_train_begin`.
        """


def _leaves_if_it_fails(hook: Callable[..., None]) -> Callable[..., None]:
    """Wraps a hook of `Survival`, which releases the file and the signals if it raises."""

    @functools.wraps(hook)
    def wrapped(self: Survival, *args: Any, **kwargs: Any) -> None:
        try:
            hook(self, *args, **kwargs)
        except BaseException:
            self._leave()
            raise

    return wrapped


class Survival(keras.callbacks.Callback):
    """Saves all of a training at the end of each epoch, and resumes it there after a kill.

    Keras's BackupAndRestore saves only weights, which no longer fit once the network has been
    pruned. Here the architecture is saved too, with the optimizer's slots, the states of random
    generators and whatever `stateful` names. The file is a `.keras` file that plain Keras loads. It
    has a checksum, and the file before it is kept. If the last one is damaged, that one is used.

    ```python
    pruning = ptkeras.PruneTrain()
    survival = ptkeras.Survival("run/last.keras", [pruning])
    model.fit(x, y, epochs=60, callbacks=[pruning, survival])  # the same call goes on after a kill
    ```

    The History that `fit` returns has all epochs, and Keras's CSVLogger keeps its rows.

    The order of the data is not saved. That of `ptkeras.data`, with its `EpochSeed`, depends on the
    epoch alone, so that a resumed run ends bit for bit like one that was not killed. What
    `keras.random` draws without a seed is saved, and so are PyTorch's own generators.

    The same call has to resume it: a file of another backend of Keras, network, optimizer, list of
    `stateful` or other settings of `PruneTrain` is refused. A model without a graph has to be built
    before.

    SIGTERM and Ctrl-C end the training after the current step, or after the current validation. If
    there is a `dataset`, the epoch so far is saved, and the same call goes on after that step.
    Without it, the same call begins that epoch again.

    A training that `EarlyStopping` has stopped is over: the same call trains no more. If another
    callback has set `stop_training`, the same call goes on.

    If several workers train together, the chief alone writes the file, and sends it to the others
    on resume. A signal to one of them ends the training of all after the same step; they ask each
    other every ten steps.

    Put it last in the list of callbacks, so that it saves what the others have done to an epoch.

    Args:
        path: the file, ending in `.keras`. It is replaced as a whole: a kill never leaves half.
        stateful: objects with `get_state()` and `set_state(state)`, such as `PruneTrain`, or
            callbacks of Keras that count, such as `ReduceLROnPlateau` and `EarlyStopping`, whose
            best weights are kept too.
        dataset: what `ptkeras.data.load` returned, or anything with its `train` and `first_step`,
            if `fit` trains on `dataset.train`.

    Attributes:
        epoch: the number of epochs in the file, 0 if there is none.

    Raises:
        NonFiniteLossError: In `fit`, once the loss is NaN or infinite, or at the end of an epoch a
            weight or a slot of the optimizer; the file stays as it is.
        InterruptedTrainingError: In `fit`, a KeyboardInterrupt, after a signal.
        LockedError: In `fit`, a ValueError, if another training writes the same file.
        ValueError: If no file can be read, it is that of another training, or Keras would not load
            the model in safe mode.
    """

    def __init__(self, path: str | Path, stateful: Sequence[Any] = (), dataset: Any = None) -> None:
        super().__init__()
        self.path = Path(path)
        if self.path.suffix != ".keras":
            raise ValueError(f"The path of Survival must end in .keras; received '{path}'.")
        self.checkpoints = Checkpoints(self.path)
        try:
            check_writable_name(self.checkpoints.previous)
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", error)
            raise ValueError(
                f"The path of Survival, '{path}', cannot be used ({reason})."
            ) from error
        self.stateful = [one if hasattr(one, "get_state") else KerasState(one) for one in stateful]
        self.dataset = dataset
        self.epoch = 0
        self._lock = Lock(self.path, in_use=lambda: is_in_fit(self))
        self._signals = Signals(lambda: is_in_fit(self))
        self._fingerprint: Fingerprint = {}
        self._callbacks: list[keras.callbacks.Callback] = [self]  # of the fit
        self._resumed: keras.Model | None = None  # until its fit begins, and again after its end
        self._state: dict[str, Any] | None = None  # that of the file
        self._arrays: dict[str, Any] = {}
        self._past: dict[str, Any] | None = None  # the History, until Keras's can be given it
        self._is_as_resumed = False
        self._epoch_now = 0
        self._steps_before = 0  # the steps of this epoch that are not run again
        self._last_step = -1
        self._asked_at = 0

    def resume(self, model: keras.Model) -> int:
        """Restores a model, compiled and as it was built first, from the file.

        `fit` does so by itself. Call it only if you need the state before.

        Args:
            model: the model that is about to be trained.

        Returns:
            The number of epochs that it has been trained for.
        """
        resume.check_built(model)
        self._fingerprint = fingerprint_of(model, self.stateful)
        with multi_worker.file_of_chief(
            multi_worker.strategy_of(model), self.checkpoints.find
        ) as path:
            if path is None:
                resume.check_loads(model)
            else:
                state = read_state(path)
                check_fingerprint(state.get("origin"), self._fingerprint, path)
                self._fingerprint |= state["origin"]  # an older one lacks the backend
                take_names(model, self._fingerprint)
                self._state, self._arrays = state, read_arrays(path)
                self.epoch = state["epoch"]
                resume.restore(model, path, state)
                self._set_states(state["states"])
        self._resumed = model
        return self.epoch

    @property
    def progress(self) -> str:
        """Where the file goes on from: "epoch 3", "step 7 of epoch 4", or "" if there is none."""
        if steps := (self._state or {}).get("step", 0):
            return f"step {steps} of epoch {self.epoch + 1}"
        return f"epoch {self.epoch}" if self.epoch else ""

    # The hooks of Keras, in the order in which fit calls them.

    @_leaves_if_it_fails
    def set_model(self, model: keras.Model) -> None:
        """Resumes before any callback's `on_train_begin`, which is to see the pruned network."""
        check_model(model)
        super().set_model(model)
        self._callbacks = callbacks_beside(self)
        multi_worker.from_chief(self._strategy, self._lock.take)
        if self._resumed is not model:
            self.resume(model)
        if self._state is not None:
            resume.keep_rows(self._callbacks, self.epoch)

    @_leaves_if_it_fails
    def on_train_begin(self, logs: dict | None = None) -> None:
        """Sets the first epoch of `fit`."""
        self._epoch_now = self.epoch
        state = self._state
        if state is not None:
            self._set_states(state["states"])  # another callback's on_train_begin may have reset it
            resume.restore_arrays(self.stateful, state["states"], self._arrays)
            resume.restore_generators(self.model, self._arrays)
            self._past = state["history"]
            # As Keras's BackupAndRestore does. Early stopping may have come before the kill.
            is_over = state["stopped_by"] is not None
            set_initial_epoch(self.model, self.params["epochs"] if is_over else self.epoch)
            self._report_stop(state)
        self._is_as_resumed = state is not None  # nothing has been saved since
        self._resumed = None
        self._signals.catch()

    @_leaves_if_it_fails
    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        """Goes on in the middle of an epoch if it ended there."""
        set_initial_epoch(self.model, None)  # fit has read it, and another fit must not
        self._epoch_now = epoch
        self._give_past()
        state = self._state or {}
        self._steps_before = state.get("step", 0) if epoch == state.get("epoch") else 0
        if self._steps_before:
            resume.restore_metrics(self.model, state["metrics"], self.dataset.train)
            # The beginning of an epoch may have drawn from them.
            resume.restore_generators(self.model, self._arrays)
        self._asked_at = self._steps_before
        self._last_step = -1  # unknown
        if self.dataset is not None:
            self.dataset.first_step.assign(self._steps_before)
            self._last_step = self._steps_before + int(self.dataset.train.cardinality())

    @_leaves_if_it_fails
    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        """Ends the training if a signal has come."""
        self._check_loss(logs)
        step = self._steps_before + batch + 1
        # After the last step the end of the epoch is near, and an epoch cannot begin after it.
        if step != self._last_step and (number := self._signal(step)):
            self._interrupt(number, step)

    @_leaves_if_it_fails
    def on_test_end(self, logs: dict | None = None) -> None:
        # The loss of an epoch's last step does not show what that step has done to the weights.
        self._check_loss(logs)

    @_leaves_if_it_fails
    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Saves."""
        self._save(epoch + 1, history=contents.history_of(self.model, epoch, logs))
        if number := self._signal():
            self._interrupt(number)

    @_leaves_if_it_fails
    def on_train_end(self, logs: dict | None = None) -> None:
        """Leaves the model to other calls of `fit`."""
        if number := self._signal():  # it came while other callbacks finished
            self._interrupt(number)
        self._give_past()  # if no epoch was left
        self._state, self._arrays = None, {}
        self._resumed = model_of_callback(self)
        self._leave()

    # What they are made of.

    @property
    def _strategy(self) -> Any:
        return multi_worker.strategy_of(self.model)

    def _save(self, epoch: int, **more: Any) -> None:
        average_statistics(self.model)
        if path := broken_variable(self.model):  # no loss shows what the last step has broken
            self._refuse(f"'{path}' became NaN or infinite")
        state = contents.state_of(self.model, self.stateful, self._callbacks)
        state |= more | {"epoch": epoch, "origin": self._fingerprint}

        def write() -> None:
            with contents.savable(self.model):
                self.checkpoints.write(self.model, state, contents.arrays_of(self.stateful))

        # The others wait, so that none ends before the file is whole, and all see a failure.
        multi_worker.from_chief(self._strategy, write)
        self.epoch, self._state, self._is_as_resumed = epoch, state, False

    def _interrupt(self, number: int, steps: int = 0) -> NoReturn:
        """Ends the training after a step, or between two epochs."""
        if steps and self.dataset is not None:
            metrics = [contents.to_list(variable) for variable in self.model.metrics_variables]
            history = contents.history_of(self.model)
            self._save(self.epoch, step=steps, metrics=metrics, history=history)
        where = self.progress or "the beginning"
        raise InterruptedTrainingError(number, f"; the same call goes on from {where}.")

    def _leave(self) -> None:
        """Releases what a fit must not keep."""
        if model_of_callback(self) is not None:
            set_initial_epoch(self.model, None)
        self._signals.release()
        self._lock.release()

    def _set_states(self, states: Sequence[Any]) -> None:
        for one, state in zip(self.stateful, states, strict=True):
            one.set_state(state)

    def _give_past(self) -> None:
        """Fills Keras's History, which is emptied after this callback's `on_train_begin`."""
        if self._past is not None:
            resume.restore_history(self.model, self._past)
            self._past = None

    def _report_stop(self, state: dict[str, Any]) -> None:
        """Prints whether a training that a callback has stopped goes on."""
        by = state["stopped_by"]
        meaning = "and not by EarlyStopping: it goes on"
        if by is not None:
            meaning = f"for good, by {by}: to train on, delete '{self.path}'"
        is_short = state["stopped"] and self.epoch < self.params["epochs"]
        if is_short and multi_worker.is_chief(self.model):
            print_msg(f"The training was stopped after epoch {self.epoch}, {meaning}.")

    def _signal(self, step: int | None = None) -> int:
        """Returns the number of a signal to any worker, 0 without one: all stop after one step.

        Args:
            step: of the epoch; None at the end of an epoch or of the training.
        """
        received = self._signals.received or 0
        if self._strategy is None:
            return received
        if step is not None:
            if step - self._asked_at < _STEPS_BETWEEN_QUESTIONS:
                return 0
            self._asked_at = step
        return multi_worker.largest(self._strategy, received)

    def _check_loss(self, logs: dict | None) -> None:
        if broken := broken_loss(logs):
            name, value = broken
            self._refuse(f"The {name} became {float(value)}")

    def _refuse(self, what: str) -> NoReturn:
        saved = f"what was saved after epoch {self.epoch} stays" if self.epoch else "unsaved"
        remedy = "a lower learning rate may help"
        previous = self.checkpoints.previous
        # The same call would come to the same end.
        if self._is_as_resumed and previous.exists():
            remedy += f", or to delete '{self.path}' and go on from '{previous.name}' before it"
        raise NonFiniteLossError(
            f"{what} in epoch {self._epoch_now + 1}: the training has stopped, {saved}; {remedy}."
        )
