"""A run that is killed and started again goes on from its last finished epoch."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import keras

from ptkeras import multi_worker
from ptkeras.keras_compat.messages import print_msg
from ptkeras.multi_worker.replicas import average_statistics
from ptkeras.surgery.reconfigure import scope_of
from ptkeras.survival.checkpoint import read_arrays, read_state
from ptkeras.survival.fingerprint import check_origin, origin_of, take_names
from ptkeras.survival.finite import broken_loss, broken_variable
from ptkeras.survival.history import give_history, history_of, keep_rows
from ptkeras.survival.keras_callbacks import KerasState
from ptkeras.survival.resume import (
    check_built,
    check_loads,
    generators,
    restore,
    savable,
    set_generators,
    state_of,
    to_list,
)
from ptkeras.survival.running_fit import callbacks_beside, stopped_for_good
from ptkeras.survival.saving_fit import InterruptedTrainingError, SavingFit
from ptkeras.utils.models import check_model

_STEPS_BETWEEN_QUESTIONS = 10  # to the other workers: each question is a message and an answer


class NonFiniteLossError(ValueError):
    """The loss, a weight or a slot of the optimiser has become NaN or infinite."""


class Stateful(Protocol):
    """Whatever has to survive beside the model: a callback, or any other object."""

    def get_state(self) -> dict[str, Any]:
        """What JSON can hold."""

    def set_state(self, state: dict[str, Any]) -> None:
        """Takes back what `get_state` returned in another process, before the training begins.

        Called once more after every callback's `on_train_begin`.
        """


class Survival(SavingFit):
    """Saves all of a training at the end of each epoch, and takes it up again where it ended.

    Keras's BackupAndRestore saves weights alone, and they no longer fit once the network has been
    pruned; here the architecture is saved too, with the optimiser's slots, the states of random
    generators and whatever `stateful` names. The file is a `.keras` file that plain Keras loads. It
    carries a checksum, and the one before it is kept: where the last is damaged, that one is used.

    ```python
    pruning = ptkeras.PruneTrain()
    survival = ptkeras.Survival("run/last.keras", [pruning])
    model.fit(x, y, epochs=60, callbacks=[pruning, survival])  # the same call goes on after a kill
    ```

    The History that `fit` returns has all epochs, and Keras's CSVLogger keeps its rows.

    The order of the data is not part of it: that of `ptkeras.data`, with its `EpochSeed`, depends
    on the epoch alone, so that a run which was killed ends bit for bit like one that was not. What
    `keras.random` draws without a seed is part of it, and PyTorch's own generators.

    The same call has to go on with it: a file of another backend of Keras, network, optimiser, list
    of `stateful` or other settings of `PruneTrain` is refused. A model without a graph, which
    nothing can prune, has to be built before; its weights, slots and state are kept.

    SIGTERM and Ctrl-C end the training behind the step at hand (behind a validation that has
    begun). With a `dataset` the epoch so far is saved, and the same call goes on behind that step;
    without it, with the epoch anew.

    A training that `EarlyStopping` has stopped is over: the same call trains no more. Where another
    callback has set `stop_training`, it goes on.

    Where several workers train together, the chief alone writes the file, and hands it to the
    others when the training goes on. A signal to one of them ends the training of all, behind the
    same step; they ask each other every ten steps.

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
        NonFiniteLossError: in `fit`, once the loss is NaN or infinite, or at the end of an epoch a
            weight or a slot of the optimiser; the file stays as it is.
        InterruptedTrainingError: in `fit`, a KeyboardInterrupt: a signal has ended it.
        LockedError: in `fit`, a ValueError: another training writes the same file.
        ValueError: no file can be read; it is that of another training; or the model is one that
            Keras would not load in safe mode.
    """

    def __init__(self, path: str | Path, stateful: Sequence[Any] = (), dataset: Any = None) -> None:
        super().__init__(path, "path of Survival")
        self.stateful = [one if hasattr(one, "get_state") else KerasState(one) for one in stateful]
        self.dataset = dataset
        self.epoch = 0
        self._steps_before = 0
        self._asked_at = 0
        self._last_step = -1
        self._strategy: Any = None
        self._is_as_resumed = False
        self._state: dict[str, Any] | None = None
        self._arrays: dict[str, Any] = {}
        self._resumed: keras.Model | None = None
        self._unfinished = False  # whether a fit has begun and not come to its end
        self._past: dict[str, Any] | None = None  # what Keras's History is still to be given
        self._beside: list[keras.callbacks.Callback] = [self]  # the callbacks of the fit

    def resume(self, model: keras.Model) -> int:
        """Makes a model, compiled and as it was built first, what is in the file.

        `fit` does so by itself; whoever needs the state before calls it.

        Args:
            model: the model that is about to be trained.

        Returns:
            The number of epochs that it has been trained for.
        """
        self._resumed = model
        self._strategy = multi_worker.strategy_of(model)
        check_built(model)
        self._origin = origin_of(model, self.stateful)
        with multi_worker.file_of_chief(self._strategy, self.checkpoints.find) as path:
            if path is None:
                check_loads(model)
            else:
                state = read_state(path)
                check_origin(state.get("origin"), self._origin, path)
                self._origin |= state["origin"]  # an older one lacks the backend
                take_names(model, self._origin)
                self._state, self._arrays = state, read_arrays(path)
                self.epoch = self._state["epoch"]
                with scope_of(model):  # an optimiser notes its strategy when it is made
                    restore(model, path, self._state)
                self._set_states()
        return self.epoch

    @property
    def progress(self) -> str:
        """Where the file goes on from: "epoch 3", "step 7 of epoch 4", or "" if there is none."""
        if steps := (self._state or {}).get("step", 0):
            return f"step {steps} of epoch {self.epoch + 1}"
        return f"epoch {self.epoch}" if self.epoch else ""

    # The hooks of Keras, in the order in which fit calls them.

    def set_model(self, model: keras.Model) -> None:
        """Resumes, before any callback's `on_train_begin`: they are to see the pruned network."""
        check_model(model)
        super().set_model(model)
        self._beside = callbacks_beside(self)
        self._strategy = multi_worker.strategy_of(model)
        with self._leaving_if_it_fails():
            multi_worker.from_chief(self._strategy, self._lock.take)
            if self._resumed is not model or self._unfinished:
                self.resume(model)
            if self._state is not None:
                keep_rows(self._beside, self.epoch)

    def on_train_begin(self, logs: dict | None = None) -> None:
        """Sets the first epoch of `fit`."""
        self._epoch_now = self.epoch
        if self._state is not None:
            self._set_states()  # what another callback's on_train_begin has started anew
            self._set_arrays()
            set_generators(self.model, self._arrays)
            self._past = self._state["history"]
            # As Keras's BackupAndRestore does. Early stopping may have come before the kill.
            is_over = self._state["stopped_by"] is not None
            self.model._initial_epoch = self.params["epochs"] if is_over else self.epoch
            self._tell_of_stop()
        self._is_as_resumed = self._state is not None  # nothing has been saved since
        self._unfinished = True
        self._signals.catch()

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        """Goes on in the middle of an epoch, if there it ended."""
        self.model._initial_epoch = None  # fit has read it: another one is not to find it
        self._epoch_now = epoch
        self._give_past()
        state = self._state or {}
        self._steps_before = state.get("step", 0) if epoch == state.get("epoch") else 0
        if self._steps_before:
            self._restore_metrics(state["metrics"])
            set_generators(self.model, self._arrays)  # behind what the beginning of an epoch draws
        self._asked_at = self._steps_before
        self._last_step = -1  # which data of another kind do not tell
        if self.dataset is not None:
            self.dataset.first_step.assign(self._steps_before)
            self._last_step = self._steps_before + int(self.dataset.train.cardinality())

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        """Ends the training, if a signal has come."""
        with self._leaving_if_it_fails():
            self._check_loss(logs)
        step = self._steps_before + batch + 1
        # Behind the last step the end of the epoch is near, and nothing to begin an epoch with.
        if step != self._last_step and self._is_told_to_stop(step):
            self._interrupt(step)

    def on_test_end(self, logs: dict | None = None) -> None:
        # The last step of an epoch may have broken the weights behind the back of its own loss.
        with self._leaving_if_it_fails():
            self._check_loss(logs)

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Saves."""
        with self._leaving_if_it_fails():
            self._save(epoch + 1, history=history_of(self.model, epoch, logs))
        if self._is_told_to_stop():
            self._interrupt()

    def on_train_end(self, logs: dict | None = None) -> None:
        """Leaves the model to other calls of `fit`."""
        if self._is_told_to_stop():  # while other callbacks came to their end
            self._interrupt()
        self._give_past()  # where no epoch was left
        self._state, self._arrays = None, {}
        self._unfinished = False
        self._leave()

    # What they are made of.

    def _save(self, epoch: int, **more: Any) -> None:
        average_statistics(self.model)
        self._check_weights()
        stopped = bool(self.model.stop_training)
        state = more | {
            "epoch": epoch,
            "stopped": stopped,
            "stopped_by": stopped_for_good(self._beside) if stopped else None,
            "states": [one.get_state() for one in self.stateful],
            "origin": self._origin,
        }
        state |= state_of(self.model)

        def write() -> None:
            with savable(self.model):
                self.checkpoints.write(self.model, state, self._get_arrays())

        # The others wait, so that none ends before the file is whole, and learn if it can't be.
        multi_worker.from_chief(self._strategy, write)
        self.epoch, self._state, self._is_as_resumed = epoch, state, False

    def _give_past(self) -> None:
        """Not before: Keras's History begins anew behind this one's `on_train_begin`."""
        if self._past is not None:
            give_history(self.model, self._past)
            self._past = None

    def _tell_of_stop(self) -> None:
        """Says what becomes of a training that a callback has stopped."""
        state = self._state or {}
        by = state["stopped_by"]
        meaning = "and not by EarlyStopping: it goes on"
        if by is not None:
            meaning = f"for good, by {by}: to train on, delete '{self.path}'"
        is_short = state["stopped"] and self.epoch < self.params["epochs"]
        if is_short and multi_worker.is_chief(self.model):
            print_msg(f"The training was stopped behind epoch {self.epoch}, {meaning}.")

    def _is_told_to_stop(self, step: int | None = None) -> bool:
        """Whether a signal has come, to whichever worker: they stop behind the same step.

        Args:
            step: of the epoch; None at the end of an epoch or of the training.
        """
        if self._strategy is None:
            return self._signals.received is not None
        if step is not None:
            if step - self._asked_at < _STEPS_BETWEEN_QUESTIONS:
                return False
            self._asked_at = step
        with self._leaving_if_it_fails():
            number = multi_worker.largest(self._strategy, self._signals.received or 0)
        if number:  # a signal that came meanwhile to this one alone has to wait for the next time
            self._signals.received = number
        return number > 0

    def _interrupt(self, steps: int = 0) -> None:
        """Ends the training behind a step, or between two epochs."""
        number = self._signals.received or signal.SIGINT
        try:
            if steps and self.dataset is not None:
                metrics = [to_list(v) for v in self.model.metrics_variables]
                self._save(self.epoch, step=steps, metrics=metrics, history=history_of(self.model))
        finally:
            self._leave()
        where = self.progress or "the beginning"
        raise InterruptedTrainingError(number, f"; the same call goes on from {where}.")

    def _restore_metrics(self, values: list[Any]) -> None:
        """Gives the metrics what they had counted in the part of an epoch that is not run again."""
        model = self.model
        if len(model.metrics_variables) < len(values):  # those of compile come with the first step
            with scope_of(model):
                model._symbolic_build(data_batch=self.dataset.train.element_spec)
        for variable, value in zip(model.metrics_variables, values, strict=True):
            variable.assign(value)

    def _set_states(self) -> None:
        for one, state in zip(self.stateful, (self._state or {})["states"], strict=True):
            one.set_state(state)

    def _get_arrays(self) -> dict[str, Any]:
        return {
            f"{i}_{j}": array
            for i, one in enumerate(self.stateful)
            if isinstance(one, KerasState)
            for j, array in enumerate(one.get_arrays())
        } | generators()

    def _set_arrays(self) -> None:
        states = (self._state or {})["states"]
        for i, (one, state) in enumerate(zip(self.stateful, states, strict=True)):
            if isinstance(one, KerasState):
                count = sum(name.startswith(f"{i}_") for name in self._arrays)
                one.set_arrays([self._arrays[f"{i}_{j}"] for j in range(count)], state)

    def _check_loss(self, logs: dict | None) -> None:
        if broken := broken_loss(logs):
            name, value = broken
            self._refuse(f"The {name} became {float(value)}")

    def _check_weights(self) -> None:
        """What the last step itself has broken is in no loss yet."""
        if path := broken_variable(self.model):
            self._refuse(f"'{path}' became NaN or infinite")

    def _refuse(self, what: str) -> None:
        saved = f"what was saved after epoch {self.epoch} stays" if self.epoch else "unsaved"
        remedy = "a lower learning rate may help"
        previous = self.checkpoints.previous
        # Once more the same call would come to the same end.
        if self._is_as_resumed and previous.exists():
            remedy += f", or to delete '{self.path}' and go on from '{previous.name}' before it"
        raise NonFiniteLossError(
            f"{what} in epoch {self._epoch_now + 1}: the training has stopped, {saved}; {remedy}."
        )
