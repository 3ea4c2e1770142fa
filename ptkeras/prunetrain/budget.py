"""PruneTrain by a budget: channels are chosen, taken to exactly zero, and removed without loss."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal

import keras
import numpy as np

from ptkeras.channels import ChannelMap
from ptkeras.prunetrain import shrinking
from ptkeras.prunetrain.epochs import Epochs, check_interval
from ptkeras.prunetrain.multiples import check_multiple, find_multiple
from ptkeras.prunetrain.schedule import Stage, stages
from ptkeras.prunetrain.shrinking import Shrinkage
from ptkeras.prunetrain.zeroing import ZeroingGroups, zeroing_groups
from ptkeras.pruning.budget import Budget, Request, check, criterion_of
from ptkeras.surgery.places import by_place
from ptkeras.surgery.variables import Gate
from ptkeras.utils.arguments import check_count, check_number
from ptkeras.utils.arrays import numbers

_CALLER = "PruneTrain"
_MISSED = 1.01  # times the target
_AT_ONCE = 1e9  # times the strength: what takes a channel to zero in any step
_ZERO_BEFORE = 0.9  # the part of a stage after which its channels are zero: the rest adapts to it


class BudgetSparsifier:
    """Takes to zero the channels that a pruning to the budget would take, and no others.

    See `PruneTrain` for the arguments.

    Attributes:
        cost: what the model cost before anything was removed, None before a training.
        stages: the plan of the training, empty before it.
        held: the channels that are at zero and are removed later, by place.
    """

    dead_branches = False
    step_type = shrinking.ShrinkStep

    def __init__(
        self,
        target: float,
        of: str = "flops",
        leave_alone: Iterable[str] = (),
        overrides: Mapping[str, float] | None = None,
        min_channels: int = 1,
        channel_multiple: int | Literal["auto"] = 1,
        interval: int | Literal["auto"] | None = None,
        epochs: int | None = None,
        input_shape: Any = None,
    ) -> None:
        check_number("target of PruneTrain", target, lambda t: 0 < t < 1, "over 0 and under 1")
        named = of in ("flops", "params", "channels")
        check(_CALLER, "of", of, named, '"flops", "params" or "channels"')
        self.target = float(target)
        self.interval = None if interval is None else check_interval(interval)
        self.epochs = None if epochs is None else check_count("epochs of PruneTrain", epochs)
        self._multiple = check_multiple(channel_multiple)
        self._request = Request(
            caller=_CALLER,
            model=None,
            share=1 - self.target,
            of=of,
            criterion=criterion_of("l2", _CALLER),
            scope="global",
            overrides={} if overrides is None else dict(overrides),
            leave_alone=leave_alone,
            channel_multiple=1,  # see begin
            min_channels=min_channels,
            input_shape=input_shape,
        )
        self.arguments = {
            "target": self.target,
            "of": of,
            "leave_alone": list(self._request.leave_alone),
            "overrides": dict(self._request.overrides),
            "min_channels": self._request.min_channels,
            "channel_multiple": self._multiple,
            "interval": self.interval,
            "epochs": self.epochs,
        }
        self.forget()

    @property
    def is_auto(self) -> bool:
        """Whether channels at zero are removed when that saves time, rather than at an interval."""
        return self.interval == "auto"

    @property
    def _length(self) -> int | None:
        return None if self.interval == "auto" else self.interval

    def forget(self) -> None:
        """Starts again, for another model."""
        self.cost: float | None = None
        self.stages: list[Stage] = []
        self.scores = np.zeros(0)
        self._overridden: dict[str, int] = {}
        self._done = 0  # stages that are over
        self._last = 0  # epochs trained in the end
        self._chosen: dict[str, list[int]] = {}  # by place, of what is being taken to zero
        self.held: dict[str, list[int]] = {}
        self._has_arrived = False  # whether all that is chosen was zero at the last look
        self._left: list[float] = []  # steps that remain, by optimizer, when last set or saved
        self._started: list[float] = []  # the same at the start of the epoch
        self._steps: list[float] = []  # of the last epoch
        self._shrinkages: list[Shrinkage] = []
        self._groups = ZeroingGroups([], np.zeros(0, bool))

    def get_state(self) -> dict[str, Any]:
        """Returns what has to survive when a training is stopped."""
        return {
            "cost": self.cost,
            "overridden": self._overridden,
            "stages": self.stages,
            "last": self._last,
            "done": self._done,
            "chosen": self._chosen,
            "held": self.held,
            "left": self._read_left(),
            "started": self._started,
            "steps": self._steps,
            "multiple": self._request.channel_multiple,
        }

    def set_state(self, state: dict[str, Any]) -> None:
        """Takes back what `get_state` returned."""
        self.cost, self._overridden = state["cost"], state["overridden"]
        self.stages = [Stage(*stage) for stage in state["stages"]]
        self._done, self._chosen, self._left = state["done"], state["chosen"], state["left"]
        self._started, self._steps = state["started"], state["steps"]
        self._last, self.held = state["last"], state.get("held", {})
        self._set_multiple(state.get("multiple", self._request.channel_multiple))
        self._resume()

    def free(self, channel_map: ChannelMap) -> np.ndarray:
        """Returns the channels that can be brought to zero without loss, a bool per channel."""
        self._map = channel_map
        self._groups = zeroing_groups(channel_map)
        return self._groups.free

    def begin(self, channel_map: ChannelMap, trainer: keras.Model) -> None:
        """Notes what the budget is a share of, and finds out whether it can be reached.

        Raises:
            ValueError: If the budget is out of reach.
        """
        if self.cost is None:
            self._set_multiple(find_multiple(self._multiple, trainer))
        self._budget = self._budget_of(channel_map)
        if self.cost is None:
            self._check_within_reach(channel_map)
            self.cost, self._overridden = self._budget.cost, self._budget.overridden
            return
        self._budget.cost, self._budget.overridden = self.cost, self._overridden
        keep = self.keep(channel_map)
        returned = bool((keep & self._mask(self.held)).any())
        if returned or (self.is_over and self._left_of(channel_map, keep) > self._missed):
            # An earlier network was brought back, or other weights: all is chosen anew.
            self.stages, self._done, self.held, self._chosen = [], 0, {}, {}

    def _check_within_reach(self, channel_map: ChannelMap) -> None:
        """Raises a ValueError if the budget is out of reach; an automatic multiple gives way."""
        while True:
            try:
                self._budget.keep(channel_map, fixed=~self._groups.free)
                return
            except ValueError:
                multiple = self._request.channel_multiple
                if multiple == 1 or self._multiple != "auto":
                    raise
                self._set_multiple(multiple // 2)
                self._budget = self._budget_of(channel_map)

    def _budget_of(self, channel_map: ChannelMap) -> Budget:
        return Budget(dataclasses.replace(self._request, model=channel_map.model), channel_map)

    def _set_multiple(self, multiple: int) -> None:
        self._request = dataclasses.replace(self._request, channel_multiple=multiple)

    def plan(self, epochs: Epochs) -> None:
        """Plans the stages of the training, unless they are planned."""
        if not self.stages:
            first = max(epochs.trained, epochs.first)
            self._last = epochs.planned if self.epochs is None else self.epochs
            self.stages = stages(first, self._last, self.target, self._length)

    @property
    def is_over(self) -> bool:
        """Whether all stages are over."""
        return 0 < len(self.stages) == self._done

    def attach(self, channel_map: ChannelMap, trainer: keras.Model) -> None:
        """Has the optimizers of a `fit` shrink what is chosen."""
        self.detach(channel_map.model, trainer)
        if not self.is_over or self.held:
            self._shrinkages = shrinking.attach(self._groups, channel_map.model, trainer)
            self._resume()

    def bind(self, channel_map: ChannelMap, optimizer: Any) -> None:
        """Has an optimizer of a loop shrink what is chosen; without one `after_step` does."""
        model = channel_map.model
        self.detach(model, model)
        if self.is_over:
            return
        if keras.config.backend() == "jax":
            if optimizer is None:
                raise ValueError(
                    "PruneTrain.bind needs the Keras optimizer of the loop on JAX, for a target: "
                    "its steps take the channels to zero. Received None."
                )
            if not optimizer.built:  # the state that a loop reads has to be whole
                optimizer.build(model.trainable_variables)
        self._shrinkages = [Shrinkage(self._groups, model, optimizer)]
        self._resume()

    def detach(self, model: keras.Model, trainer: keras.Model) -> None:
        """Shrinks no longer."""
        if self._shrinkages:
            self._left = self._read_left()
        shrinking.detach(trainer, model)
        for shrinkage in self._shrinkages:
            shrinkage.remove()
        self._shrinkages = []

    def watched(self, model: keras.Model) -> list[keras.Variable]:
        """Returns the variables that are shrunk."""
        return self._groups.variables()

    def after_step(self, model: keras.Model) -> None:
        """Shrinks after a step of an optimizer that is not Keras's."""
        for shrinkage in self._shrinkages:
            if shrinkage.step is None:
                shrinkage.shrink(model.trainable_variables)

    def removes_after(self, epochs: Epochs) -> bool:
        """Returns whether there is something to remove after the epoch just trained."""
        if self._chosen and epochs.trained >= self.stages[self._done].remove_after:
            return True
        return bool(self.held) and epochs.is_last

    def zero_held(self) -> None:
        """Sets the groups of the channels that are held to zero, which an average may not be."""
        held = self._mask(self.held)
        for row, used in self._groups.rows:
            gone = used & held[row.channels]
            if gone.any():
                values = np.array(numbers(row.variable))
                np.moveaxis(values, row.axis, 0)[gone] = 0
                row.variable.assign(values)

    def keep(self, channel_map: ChannelMap) -> np.ndarray:
        """Returns the channels that were not chosen; all of them until all of those are zero."""
        self.scores = self._request.criterion(channel_map)
        zero, held, chosen = self._groups.zero(), self._mask(self.held), self._mask(self._chosen)
        self._has_arrived = not (chosen & ~zero).any()
        keep = np.ones(len(channel_map), bool)
        if self._has_arrived:
            keep &= ~chosen
        if not (held & ~zero).any():
            keep &= ~held
        return keep

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Takes what it has added off the optimizers, while the model is changed."""
        for shrinkage in self._shrinkages:
            shrinkage.pause()
        try:
            yield
        finally:
            for shrinkage in self._shrinkages:
                shrinkage.go_on()

    def round_up(self, channel_map: ChannelMap, keep: np.ndarray, dead_ok: bool) -> np.ndarray:
        """Returns the keep mask."""
        return keep

    def removed(self) -> None:
        """Ends the stage: its channels have just been removed.

        If only those that were held have been, the channels of the stage are chosen again.
        """
        if self._has_arrived:
            self._end_stage()
        self._chosen, self.held, self._left = {}, {}, []

    def postpone(self) -> None:
        """Ends the stage; its channels are held at zero, and removed later."""
        if not self._has_arrived:
            return
        for key, positions in self._chosen.items():
            self.held[key] = sorted({*self.held.get(key, ()), *positions})
        self._end_stage()
        self._resume()

    def _end_stage(self) -> None:
        if self._chosen:
            self._chosen, self._done = {}, self._done + 1

    def gates(self, channel_map: ChannelMap, keep: np.ndarray) -> dict[int, Gate]:
        """Returns no selections."""
        return {}

    def count_epoch(self, is_loop: bool = False) -> None:
        """Counts the steps of an epoch, by which it is known how many the next ones have.

        Raises:
            ValueError: If a loop of the user's own has made none.
        """
        left = self._read_left()
        if len(left) != len(self._started):  # it acts no longer
            return
        self._steps = [before - now for before, now in zip(self._started, left, strict=True)]
        self._started = left
        if is_loop and left and not any(self._steps):
            raise ValueError(
                "PruneTrain has seen no step in this epoch: train by the Keras optimizer that bind "
                "was given, or call after_step() after each step of another one."
            )

    def after_epoch(self, channel_map: ChannelMap, epochs: Epochs, pace: float = 1.0) -> str | None:
        """Chooses the channels of the next stage, if it is time, and returns a line about it.

        Args:
            channel_map: the channels of the model.
            epochs: the epochs so far.
            pace: the number of steps of the next epoch over that of the last one.
        """
        if self.is_over or self._chosen or epochs.trained >= self._last:
            return None
        stage = self.stages[self._done]
        if epochs.trained < stage.choose_after:
            return None
        if np.isnan(self._request.criterion(channel_map)).any():
            return f"PruneTrain, epoch {epochs.trained}: no channels are chosen: weights are NaN."
        is_last = self._done == len(self.stages) - 1
        fixed, held = ~self._groups.free, self._mask(self.held)
        try:
            keep = self._budget.keep(channel_map, stage.progress, fixed, fill=is_last, gone=held)
        except ValueError as error:  # out of reach now: what was trained is not to be lost
            self._done = len(self.stages)
            return f"PruneTrain, epoch {epochs.trained}: no more channels are chosen. {error}"
        new = ~keep & ~held
        if not new.any():
            self._done += 1
            return None
        self._choose(new, max(1, stage.remove_after - epochs.trained) * pace)
        free = self._groups.free & channel_map.prunable & ~held
        count, total = int(new.sum()), int(free.sum())
        left = self._left_of(channel_map, keep)
        until = max(stage.remove_after, epochs.trained + 1)
        return (
            f"PruneTrain, epoch {epochs.trained}: {count} of {total} channels shrink to zero until "
            f"the end of epoch {until}, which leaves {left:.1%} of the {self._request.of}."
        )

    def figures(self, channel_map: ChannelMap) -> dict[str, float]:
        """Returns a lasso of 0: nothing is added to the loss."""
        return {"lasso": 0.0}

    def nothing_removed(self, channel_map: ChannelMap) -> str:
        """Returns why nothing has been removed, as the end of a sentence."""
        alive = int((self._mask(self._chosen) & ~self._groups.zero()).sum())
        why = "yet"
        if all(left <= 0 for left in self._read_left()):
            why = "although their steps are over: put PruneTrain before callbacks that set weights"
        return f"{alive} of the channels that are shrunk are not zero {why}"

    def outcome(self, channel_map: ChannelMap, epochs: Epochs, has_removed: bool) -> str | None:
        """Returns a sentence about the end of a training that has not met the budget."""
        if self.epochs is not None and epochs.trained < self.epochs:  # the end of a piece of it
            return None
        left = self._left_of(channel_map)
        if left <= self._missed:
            return None
        cause = "The training ended early"
        if self.is_over:
            cause = "Another callback has set weights, of an earlier network or an average"
        return (
            f"PruneTrain has not met its target: {left:.1%} of the {self._request.of} are left, "
            f"{self.target:.1%} were wanted. {cause}: call fit again, or prune the rest by "
            "ptkeras.prune."
        )

    def _left_of(self, channel_map: ChannelMap, keep: np.ndarray | None = None) -> float:
        """Returns the share of the cost that is left, of the model or of what a mask keeps."""
        keep = np.ones(len(channel_map), bool) if keep is None else keep
        return self._budget.remaining(channel_map)(keep) / self._budget.cost

    @property
    def _missed(self) -> float:
        """The share of the cost over which the target is missed."""
        return self.target * _MISSED

    def _mask(self, places: Mapping[str, list[int]]) -> np.ndarray:
        """Returns the channels at some places, a bool per channel."""
        mask = np.zeros(len(self._map), bool)
        if places:
            variables = by_place(self._map.model)
            for key, positions in places.items():
                place, axis = key.rsplit(":", 1)
                row = self._map.slice_of[id(variables[place]), int(axis)]
                mask[row.channels[positions]] = True
        return mask

    def _choose(self, chosen: np.ndarray, epochs: float) -> None:
        places = {id(v): place for place, v in by_place(self._map.model).items()}
        known = np.zeros(len(chosen), bool)
        for row in self._map.slices:
            new = np.flatnonzero(chosen[row.channels] & ~known[row.channels])
            if new.size and id(row.variable) in places:
                self._chosen[f"{places[id(row.variable)]}:{row.axis}"] = new.tolist()
                known[row.channels[new]] = True
        steps = max(1.0, round(_ZERO_BEFORE * epochs * max(self._steps, default=0.0)))
        self._left = [steps] * len(self._shrinkages)
        self._started = list(self._left)
        self._resume()

    def _read_left(self) -> list[float]:
        return [float(numbers(shrinkage.left)) for shrinkage in self._shrinkages]

    def _resume(self) -> None:
        """Has the optimizers at hand go on from the state, if there are any."""
        if not self._shrinkages:
            return
        if len(self._left) != len(self._shrinkages):  # new, or compiled again meanwhile
            self._left = [max(self._left, default=0.0)] * len(self._shrinkages)
            self._started = list(self._left)
        pull = self._mask(self._chosen) + _AT_ONCE * self._mask(self.held)
        for shrinkage, left in zip(self._shrinkages, self._left, strict=True):
            shrinkage.chosen.assign(pull)
            shrinkage.left.assign(left)
