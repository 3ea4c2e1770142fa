"""Variables that travel with the state of an optimizer.

`Optimizer._variables`, the list that the state is made of, is private in all of Keras 3.12 to 3.15;
a public way to add a variable without a slot would make this module needless.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import keras

_METHODS = ("save_own_variables", "load_own_variables")


def add_state(
    optimizer: keras.optimizers.Optimizer,
    variables: Sequence[keras.Variable],
    owners: Sequence[keras.optimizers.Optimizer] = (),
) -> None:
    """Has JAX hand variables to each compiled step with the state of an optimizer.

    What a compiled JAX step reads otherwise is a constant in it. Files get no such variables, so
    that they can be loaded without them. On other backends, whose steps read variables as they are,
    this does nothing.

    Args:
        optimizer: the optimizer that the steps call.
        variables: what to add to its state.
        owners: optimizers that have it inside of them, as a `LossScaleOptimizer` has.
    """
    if keras.config.backend() == "jax":
        extra = _Extra.on(optimizer) or _Extra(optimizer, owners)
        extra.variables += variables
        optimizer._variables.extend(variables)


def remove_state(
    optimizer: keras.optimizers.Optimizer, variables: Sequence[keras.Variable]
) -> None:
    """Takes variables out of the state again, if they are in it.

    Args:
        optimizer: the optimizer.
        variables: what was added.
    """
    extra = _Extra.on(optimizer)
    if extra is None:
        return
    _take_out(optimizer, variables)
    gone = {id(v) for v in variables}
    extra.variables = [v for v in extra.variables if id(v) not in gone]
    if not extra.variables:
        extra.remove()


class _Extra:
    """What was added to the state of an optimizer, and keeps it out of files."""

    def __init__(
        self,
        optimizer: keras.optimizers.Optimizer,
        owners: Sequence[keras.optimizers.Optimizer],
    ) -> None:
        self.optimizer = optimizer
        self.variables: list[keras.Variable] = []
        self._wrapped = [optimizer, *owners]
        for one in self._wrapped:
            for name in _METHODS:
                setattr(one, name, functools.partial(self._without, getattr(one, name)))

    @staticmethod
    def on(optimizer: keras.optimizers.Optimizer) -> _Extra | None:
        """Returns that of an optimizer, None if there is none."""
        method = vars(optimizer).get(_METHODS[0])
        owner = getattr(getattr(method, "func", None), "__self__", None)
        return owner if isinstance(owner, _Extra) and owner.optimizer is optimizer else None

    def remove(self) -> None:
        """Gives the optimizers their own methods back."""
        for one in self._wrapped:
            for name in _METHODS:
                vars(one).pop(name, None)

    def _without(self, method: Callable[[Any], None], store: Any) -> None:
        _take_out(self.optimizer, self.variables)
        try:
            method(store)
        finally:
            self.optimizer._variables.extend(self.variables)


def _take_out(optimizer: keras.optimizers.Optimizer, variables: Sequence[keras.Variable]) -> None:
    gone = {id(v) for v in variables}
    own = optimizer._variables
    own[:] = [v for v in own if id(v) not in gone]
