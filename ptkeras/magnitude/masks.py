"""Masks that hold the zeros of kernels, whatever an optimiser does to them."""

from __future__ import annotations

import warnings
import weakref
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from ptkeras.keras_compat.optimizers import (
    moving_averages_of,
    track_variable,
    untrack_variable,
    weights_of,
)
from ptkeras.magnitude.held_mask import HeldMask, known_mask_of, mask_of
from ptkeras.magnitude.kernels import Kernel
from ptkeras.surgery.functions import refresh_functions
from ptkeras.surgery.holders import refresh_holders
from ptkeras.surgery.reconfigure import scope_of
from ptkeras.utils.arrays import numbers
from ptkeras.utils.trainers import optimizers_of


class Masks:
    """The masks on some kernels of a model; those that kernels have already stay as they are.

    Args:
        model: a built model, which trains the kernels.
        kernels: its kernels to hold, or those of models in it.
    """

    def __init__(self, model: keras.Model, kernels: Sequence[Kernel]) -> None:
        self.model = model
        self.kernels = list(kernels)
        with scope_of(model):
            lifted = self._shared_switch()
            self.lifted = _variable(np.float32(0), "lifted") if lifted is None else lifted
            changed = [self._hold(kernel) for kernel in self.kernels]
        if any(changed):
            refresh_holders(model)  # compiled steps have read the constraints as they were

    def _shared_switch(self) -> keras.Variable | None:
        """What lifts masks that these kernels have, unless it would lift those of others too."""
        mine = {id(kernel.variable) for kernel in self.kernels}
        held = _held(self.model)
        others = {id(mask.lifted) for v, mask in held if id(v) not in mine}
        free = (mask.lifted for v, mask in held if id(v) in mine)
        return next((lifted for lifted in free if id(lifted) not in others), None)

    def _hold(self, kernel: Kernel) -> bool:
        """Puts a mask on a kernel that has none; returns whether its constraint has changed."""
        held, is_new = mask_of(kernel.variable), False
        if held is None:
            mask = _variable(np.ones(kernel.variable.shape, kernel.values.dtype), "mask")
            held = HeldMask(mask, self.lifted, kernel.variable.constraint)
            kernel.variable.constraint, is_new = held, True
        changed = is_new or held.lifted is not self.lifted
        held.lifted, held.trainer = self.lifted, weakref.ref(self.model)
        return changed

    @property
    def variables(self) -> list[keras.Variable]:
        """All that the constraints read."""
        return [known_mask_of(k.variable).mask for k in self.kernels] + [self.lifted]

    def read(self) -> list[np.ndarray]:
        """A bool array for each kernel: the weights that stay."""
        return [_mask(kernel.variable) for kernel in self.kernels]

    def write(self, masks: Sequence[np.ndarray], apply: bool = True) -> None:
        """Sets the masks, and, with `apply`, the weights that they drop to zero."""
        for kernel, mask in zip(self.kernels, masks, strict=True):
            known_mask_of(kernel.variable).mask.assign(mask)
        if apply:
            self.apply(masks)

    def apply(self, masks: Sequence[np.ndarray] | None = None) -> None:
        """Sets the weights that the masks drop to zero, and their averages over the steps."""
        averages = averages_of(self.model)
        for kernel, mask in zip(self.kernels, self.read() if masks is None else masks, strict=True):
            if not mask.all():
                _drop(kernel.variable, mask)
                if id(kernel.variable) in averages:
                    _drop(averages[id(kernel.variable)], mask)

    def take_hold(self) -> None:
        """Drops what a step without masks or an average over the steps has brought back.

        What somebody has set since stays, and its zeros are held: `EarlyStopping` may bring back
        the weights of an epoch that had other masks, and more is not to be dropped unasked.
        """
        lifted = ops.convert_to_numpy(self.lifted.value)
        self.lift(False)
        if lifted or averages_of(self.model):
            self.apply()
        elif _tell_of_comeback(self.model, [k.variable for k in self.kernels]):
            self.write([kernel.values != 0 for kernel in self.kernels], apply=False)

    def lift(self, lifted: bool) -> None:
        """Lets go of the zeros, or holds them again."""
        self.lifted.assign(float(lifted))


def strip(model: keras.Model) -> keras.Model:
    """Takes the masks off a model, in place, and leaves the zeros: a plain Keras model.

    ```python
    model.fit(x, y, callbacks=[ptkeras.MagnitudePruning(schedule)])
    ptkeras.magnitude.strip(model)
    ```

    Whoever trains the model afterwards trains all of its weights. Weights that have been loaded
    since the masks were made stay as they are, with a warning. Saving needs no strip: masks are
    in no file.

    Args:
        model: any Keras model.

    Returns:
        `model`.
    """
    held = _held(model)
    trainers = _trainers(model, [mask for _, mask in held])
    averages: dict[int, keras.Variable] = {}
    for trainer in trainers:
        if hasattr(trainer, "jax_state_sync"):
            trainer.jax_state_sync()
        averages |= averages_of(trainer)
    whole = []
    for variable, constraint in held:
        # A fit that broke off, in a step before masks change, has left other numbers there, and
        # one that ended with averages too.
        if ops.convert_to_numpy(constraint.lifted.value) or id(variable) in averages:
            _drop(variable, _mask(variable))
        else:
            whole.append(variable)
    _tell_of_comeback(model, whole)
    for variable, constraint in held:
        variable.constraint = constraint.base
    if held:
        for trainer in trainers:
            leave(trainer)
            refresh_functions(trainer)
    return model


def _held(model: keras.Model) -> list[tuple[keras.Variable, HeldMask]]:
    """Returns the masked kernels of a model, each with what holds its zeros."""
    pairs = ((variable, mask_of(variable)) for variable in model.variables)
    return [(variable, mask) for variable, mask in pairs if mask is not None]


def _trainers(model: keras.Model, masks: Iterable[HeldMask]) -> list[keras.Model]:
    """Returns a model and those that train its masked kernels, which it may be a part of."""
    references = (mask.trainer for mask in masks)
    trainers = [model, *(reference() for reference in references if reference is not None)]
    return list({id(trainer): trainer for trainer in trainers if trainer is not None}.values())


def _tell_of_comeback(model: keras.Model, variables: Iterable[keras.Variable]) -> bool:
    """Warns if weights are not zero that are held at zero; returns whether."""
    pairs = [(numbers(variable) != 0, _mask(variable)) for variable in variables]
    if not any((now & ~held).any() for now, held in pairs):
        return False
    size = sum(now.size for now, _ in pairs)
    zeros = [size - sum(np.count_nonzero(pair[i]) for pair in pairs) for i in (0, 1)]
    warnings.warn(
        f"Weights of '{model.name}' that were pruned have been set to other numbers, as "
        "load_weights and EarlyStopping(restore_best_weights=True) do: the zeros that it has now "
        "stay, "
        f"{zeros[0] / size:.1%} and not {zeros[1] / size:.1%}. EarlyStopping is to start when the "
        "schedule has ended: give it start_from_epoch.",
        stacklevel=4,
    )
    return True


def _mask(variable: keras.Variable) -> np.ndarray:
    return ops.convert_to_numpy(known_mask_of(variable).mask.value) != 0


def averages_of(model: keras.Model) -> dict[int, keras.Variable]:
    """The average over the steps (`use_ema`) of each variable that has one, by its `id`."""
    averages: dict[int, keras.Variable] = {}
    for optimizer in optimizers_of(model):
        if optimizer.use_ema and optimizer.built:
            pairs = zip(weights_of(optimizer), moving_averages_of(optimizer), strict=True)
            averages |= {id(variable): average for variable, average in pairs}
    return averages


# On JAX a compiled step sees the optimiser's variables as they are, and any others as they were
# when it was compiled. So masks travel with the optimiser's own, but go into no file.
_ABOARD: weakref.WeakKeyDictionary[Any, list[keras.Variable]] = weakref.WeakKeyDictionary()
_OF_FILES = ("save_own_variables", "load_own_variables")


def board(model: keras.Model, variables: Iterable[keras.Variable]) -> None:
    """Adds variables to those of a model's optimiser; files are written and read without them.

    Args:
        model: a compiled model whose optimiser is built.
        variables: the variables; those that are aboard already stay so.
    """
    outer = model.optimizer
    aboard = _ABOARD.setdefault(outer, [])
    for part in (_whole, _inside):  # a file holds both, where the outer scales losses
        for name in _OF_FILES:
            setattr(part(outer), name, _alone(outer, part, name))
    for variable in variables:
        # A fit that broke off leaves its list, and what resumes it an optimiser without them.
        if not _is_among(variable, _inside(outer).variables):
            track_variable(_inside(outer), variable)
        if not _is_among(variable, aboard):
            aboard.append(variable)
    refresh_functions(model)


def leave(model: keras.Model) -> None:
    """Takes away from a model's optimiser whatever is aboard."""
    outer = model.optimizer if model.compiled else None
    if outer is None or outer not in _ABOARD:
        return
    for variable in _ABOARD.pop(outer):
        untrack_variable(_inside(outer), variable)
    for part in (_whole, _inside):
        for name in _OF_FILES:
            vars(part(outer)).pop(name, None)
    refresh_functions(model)


def _whole(optimizer: Any) -> Any:
    return optimizer


def _inside(optimizer: Any) -> Any:
    """The optimiser that sees its variables in a step, where the outer scales losses."""
    return getattr(optimizer, "inner_optimizer", optimizer)


def _is_among(variable: keras.Variable, others: Iterable[keras.Variable]) -> bool:
    return any(variable is other for other in others)


def _alone(outer: Any, part: Callable[[Any], Any], name: str) -> Callable[[Any], None]:
    """A method of an optimiser, or of that inside, that sees nothing of what is aboard."""

    def call(store: Any) -> None:
        now, inner = part(outer), _inside(outer)  # a resumed optimiser has another one inside
        aboard = [v for v in _ABOARD.get(outer, []) if _is_among(v, inner.variables)]
        for variable in aboard:
            untrack_variable(inner, variable)
        try:
            getattr(type(now), name)(now, store)
        finally:
            for variable in aboard:
                track_variable(inner, variable)

    return call


def _drop(variable: keras.Variable, mask: np.ndarray) -> None:
    values = numbers(variable)
    variable.assign(np.where(mask, values, np.zeros((), values.dtype)))


def _variable(value: Any, name: str) -> keras.Variable:
    return keras.Variable(value, trainable=False, dtype=str(value.dtype), name=name)
