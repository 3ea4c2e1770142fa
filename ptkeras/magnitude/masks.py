"""Masks that hold the zeros of kernels, whatever an optimiser does to them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from ptkeras._held_mask import HeldMask, mask_of
from ptkeras._numbers import numbers
from ptkeras.magnitude.kernels import Kernel
from ptkeras.surgery.reconfigure import refresh_functions, scope_of


class Masks:
    """The masks on some kernels of a model; those that kernels have already stay as they are.

    Args:
        model: a built model.
        kernels: its kernels to hold.
    """

    def __init__(self, model: keras.Model, kernels: Sequence[Kernel]) -> None:
        self.model = model
        self.kernels = list(kernels)
        with scope_of(model):
            lifted = self._shared_switch()
            self.lifted = _variable(np.float32(0), "lifted") if lifted is None else lifted
            changed = [self._hold(kernel) for kernel in self.kernels]
        if any(changed):
            refresh_functions(model)  # a compiled step has read the constraints as they were

    def _shared_switch(self) -> keras.Variable | None:
        """What lifts masks that these kernels have, unless it would lift those of others too."""
        mine = {id(kernel.variable) for kernel in self.kernels}
        held = [v for v in self.model.variables if mask_of(v) is not None]
        others = {id(mask_of(v).lifted) for v in held if id(v) not in mine}
        free = (mask_of(v).lifted for v in held if id(v) in mine)
        return next((lifted for lifted in free if id(lifted) not in others), None)

    def _hold(self, kernel: Kernel) -> bool:
        """Puts a mask on a kernel that has none; returns whether its constraint has changed."""
        held = mask_of(kernel.variable)
        if held is None:
            mask = _variable(np.ones(kernel.variable.shape, kernel.values.dtype), "mask")
            kernel.variable.constraint = HeldMask(mask, self.lifted, kernel.variable.constraint)
            return True
        changed = held.lifted is not self.lifted
        held.lifted = self.lifted
        return changed

    @property
    def variables(self) -> list[keras.Variable]:
        """All that the constraints read."""
        return [mask_of(k.variable).mask for k in self.kernels] + [self.lifted]

    def read(self) -> list[np.ndarray]:
        """A bool array for each kernel: the weights that stay."""
        return [ops.convert_to_numpy(mask.value) != 0 for mask in self.variables[:-1]]

    def write(self, masks: Sequence[np.ndarray], apply: bool = True) -> None:
        """Sets the masks, and, with `apply`, the weights that they drop to zero."""
        for kernel, mask in zip(self.kernels, masks, strict=True):
            mask_of(kernel.variable).mask.assign(mask)
        if apply:
            self.apply(masks)

    def apply(self, masks: Sequence[np.ndarray] | None = None) -> None:
        """Sets the weights that the masks drop to zero."""
        for kernel, mask in zip(self.kernels, self.read() if masks is None else masks, strict=True):
            if not mask.all():
                _drop(kernel.variable, mask)

    def lift(self, lifted: bool) -> None:
        """Lets go of the zeros, or holds them again."""
        self.lifted.assign(float(lifted))


def strip(model: keras.Model) -> keras.Model:
    """Takes the masks off a model, in place, and leaves the zeros: a plain Keras model.

    ```python
    model.fit(x, y, callbacks=[ptkeras.MagnitudePruning(schedule)])
    ptkeras.magnitude.strip(model)
    ```

    Whoever trains the model afterwards trains all of its weights. Saving needs no strip: masks are
    in no file.

    Args:
        model: any Keras model.

    Returns:
        `model`.
    """
    if hasattr(model, "jax_state_sync"):
        model.jax_state_sync()
    held = [v for v in model.variables if mask_of(v) is not None]
    for variable in held:
        # A fit that broke off, in a step before masks change, has left other numbers there.
        _drop(variable, ops.convert_to_numpy(mask_of(variable).mask.value) != 0)
        variable.constraint = variable.constraint.base
    if held:
        refresh_functions(model)
    return model


@contextlib.contextmanager
def _without(optimizer: Any, variables: list[keras.Variable]) -> Iterator[None]:
    for variable in variables:
        optimizer._untrack_variable(variable)
    try:
        yield
    finally:
        for variable in variables:
            optimizer._track_variable(variable)


class Passenger:
    """Variables that travel with an optimiser's own through Keras's compiled JAX step.

    On JAX a compiled step sees the optimiser's variables as they are, and any others as they were
    when it was compiled. Files are written and read without the passengers.

    Args:
        model: a compiled model whose optimiser is built.
        variables: the variables.
    """

    def __init__(self, model: keras.Model, variables: list[keras.Variable]) -> None:
        self.model = model
        self.outer = model.optimizer
        # Only the inner optimiser of one that scales the loss sees its variables while it applies.
        self.inner = getattr(self.outer, "inner_optimizer", self.outer)
        self.variables = variables

    def board(self) -> None:
        """Adds the variables to the optimiser's."""
        self.leave()  # those of a fit that an exception has ended
        for variable in self.variables:
            self.inner._track_variable(variable)
        for name in ("save_own_variables", "load_own_variables"):
            setattr(self.outer, name, self._alone(getattr(self.outer, name)))
        refresh_functions(self.model)

    def leave(self) -> None:
        """Takes them away again."""
        for variable in self.variables:
            self.inner._untrack_variable(variable)
        for name in ("save_own_variables", "load_own_variables"):
            vars(self.outer).pop(name, None)
        refresh_functions(self.model)

    def _alone(self, method: Any) -> Any:
        def call(store: Any) -> None:
            with _without(self.inner, self.variables):
                method(store)

        return call


def _drop(variable: keras.Variable, mask: np.ndarray) -> None:
    values = numbers(variable)
    variable.assign(np.where(mask, values, np.zeros((), values.dtype)))


def _variable(value: Any, name: str) -> keras.Variable:
    return keras.Variable(value, trainable=False, dtype=str(value.dtype), name=name)
