"""What a callback adds to the steps of an optimizer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import keras

from ptkeras.keras_compat.optimizers import weights_of
from ptkeras.utils.trainers import optimizers_of


class OptimizerStep:
    """Takes the place of `optimizer.apply`, until it is removed.

    An instance of `keras.optimizers.Optimizer` has no hook of its own, and every way to train ends
    in `apply`: `fit`, a `train_step` of the user's, `stateless_apply`.

    Args:
        optimizer: an optimizer, which gets it as an attribute.

    Attributes:
        reached: the `id` of each variable that the step has acted on.
        was_called: whether the optimizer has made a step.
    """

    def __init__(self, optimizer: keras.optimizers.Optimizer) -> None:
        self.optimizer = optimizer
        self.replaced = vars(optimizer).get("apply")  # one that the user had set
        self.plain = optimizer.apply
        self.reached: set[int] = set()
        self.was_called = False
        optimizer.apply = self

    def __call__(self, grads: Any, trainable_variables: Any = None) -> None:
        """Applies gradients, with what this adds before and after."""
        self.was_called = True
        grads = list(grads)
        if trainable_variables is not None:
            trainable_variables = list(trainable_variables)
        variables = trainable_variables or weights_of(self.optimizer)
        if len(grads) == len(variables):  # if not, the optimizer says so
            grads = self.before(grads, variables)
        self.plain(grads, trainable_variables)
        self.after(variables)

    def before(self, grads: list[Any], variables: Sequence[Any]) -> list[Any]:
        """Returns the gradients to apply instead."""
        return grads

    def after(self, variables: Sequence[Any]) -> None:
        """Acts on variables that have just been updated."""

    def remove(self) -> None:
        """Gives the optimizer back the `apply` that it had, or leaves the chain of steps."""
        on_top = vars(self.optimizer).get("apply")
        if on_top is self:
            del self.optimizer.apply
            if self.replaced is not None:
                self.optimizer.apply = self.replaced
            return
        for step in _chain(on_top):
            if step.plain is self:
                step.plain, step.replaced = self.plain, self.replaced


def steps_on(optimizer: keras.optimizers.Optimizer) -> list[OptimizerStep]:
    """Returns what has been added to the steps of an optimizer, the outermost first."""
    # An optimizer that was made from another may have its attributes.
    return [s for s in _chain(vars(optimizer).get("apply")) if s.optimizer is optimizer]


def steps_of(trainer: keras.Model) -> list[OptimizerStep]:
    """Returns what has been added to the steps of all optimizers that a model holds."""
    return [step for optimizer in optimizers_of(trainer) for step in steps_on(optimizer)]


def _chain(step: Any) -> Iterator[OptimizerStep]:
    while isinstance(step, OptimizerStep):
        yield step
        step = step.plain
