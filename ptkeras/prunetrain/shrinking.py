"""The proximal step that takes chosen channels to zero at a set time."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from ptkeras.keras_compat.extra_state import add_state, remove_state
from ptkeras.prunetrain.steps import OptimizerStep, steps_of
from ptkeras.prunetrain.zeroing import ZeroingGroups
from ptkeras.surgery.reconfigure import scope_of
from ptkeras.utils.trainers import optimizers_of


class Shrinkage:
    """Shrinks the groups of chosen channels evenly, to exactly zero after a number of steps.

    After each step of the optimizer, with r steps left, the group v of a chosen channel is moved by

        v ← v · max(0, 1 − t / ‖v‖),   t = ‖v‖ / r

    the proximal operator of a group lasso (Parikh and Boyd, 2014, section 6.5.1), whose strength is
    set anew by what is left to do and the steps that remain. After the last step v is 0, and it
    stays so. Other channels have t = 0.

    Args:
        groups: the groups of the channels of a model.
        model: the model.
        optimizer: the optimizer that trains it, which shrinks after each of its steps; None if
            `shrink` is called by hand.
        owners: optimizers that have this one inside of them.

    Attributes:
        chosen: variable of shape `(channels,)`, 1 for channels that are to go; what is much larger
            takes them to zero in each step, whatever is left.
        left: scalar variable, the steps that remain; it goes on below 0.
    """

    def __init__(
        self,
        groups: ZeroingGroups,
        model: keras.Model,
        optimizer: keras.optimizers.Optimizer | None,
        owners: Sequence[keras.optimizers.Optimizer] = (),
    ) -> None:
        self._rows: dict[int, list[tuple[int, np.ndarray]]] = {}
        nowhere = len(groups.free)  # the place of a scale of 1
        for row, used in groups.rows:
            places = np.where(used, row.channels, nowhere).astype("int32")
            self._rows.setdefault(id(row.variable), []).append((row.axis, places))
        with scope_of(model):
            self.chosen = _number(np.zeros(nowhere, "float32"), "chosen")
            self.left = _number(np.zeros((), "float32"), "steps_left")
        self.step = None if optimizer is None else ShrinkStep(optimizer, self, model)
        self._owners = owners
        self.go_on()

    def remove(self) -> None:
        """Takes it off the optimizer."""
        self.pause()
        if self.step is not None:
            self.step.remove()

    def pause(self) -> None:
        """Takes its variables out of the state of the optimizer, which is about to be changed."""
        if self.step is not None:
            remove_state(self.step.optimizer, [self.chosen, self.left])

    def go_on(self) -> None:
        """Puts them back."""
        if self.step is not None:
            add_state(self.step.optimizer, [self.chosen, self.left], self._owners)

    def shrink(self, variables: Sequence[keras.Variable]) -> set[int]:
        """Makes one step.

        Args:
            variables: what has just been updated.

        Returns:
            The `id` of those that have positions in a group.
        """
        scales = ops.maximum(1.0 - self.chosen / ops.maximum(self.left, 1.0), 0.0)
        scales = ops.concatenate([scales, ops.ones((1,), "float32")])
        reached = set()
        for variable in variables:
            rows = self._rows.get(id(variable), ())
            value = variable
            for axis, places in rows:
                shape = [1] * len(variable.shape)
                shape[axis] = len(places)
                scale = ops.cast(ops.take(scales, places), variable.dtype)
                value = ops.multiply(value, ops.reshape(scale, shape))
            if rows:
                variable.assign(value)
                reached.add(id(variable))
        self.left.assign(self.left - 1.0)
        return reached


class ShrinkStep(OptimizerStep):
    """Shrinks what an optimizer has just updated."""

    def __init__(
        self, optimizer: keras.optimizers.Optimizer, shrinkage: Shrinkage, model: keras.Model
    ) -> None:
        super().__init__(optimizer)
        self.shrinkage = shrinkage
        self.model = weakref.ref(model)

    def after(self, variables: Sequence[Any]) -> None:
        self.reached |= self.shrinkage.shrink(variables)


def attach(groups: ZeroingGroups, model: keras.Model, trainer: keras.Model) -> list[Shrinkage]:
    """Has all optimizers of a training shrink what they update.

    Args:
        groups: the groups of the channels of a model.
        model: the model.
        trainer: the model in `fit`, which holds it.
    """
    detach(trainer, model)
    outer = getattr(trainer, "optimizer", None)
    return [
        Shrinkage(
            groups, model, one, [outer] if getattr(outer, "inner_optimizer", 0) is one else []
        )
        for one in optimizers_of(trainer)
    ]


def detach(trainer: keras.Model, model: keras.Model | None = None) -> bool:
    """Takes off what shrinks a model, also after a `fit` that an exception ended.

    Args:
        trainer: the model in `fit`.
        model: the model that is shrunk; None for all in `trainer`.

    Returns:
        Whether there was something.
    """
    steps = [s for s in steps_of(trainer) if isinstance(s, ShrinkStep)]
    steps = [s for s in steps if model is None or s.model() is model]
    for step in steps:
        step.shrinkage.remove()
    return bool(steps)


def _number(value: np.ndarray, name: str) -> keras.Variable:
    return keras.Variable(value, trainable=False, dtype="float32", name=name)
