"""Optimizers that get other weights: those of a network that is loaded, or of layers put in."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

import keras
import numpy as np

from ptkeras.keras_compat.optimizers import WEIGHTS, copy_exclusions, learning_rate_of, weights_of
from ptkeras.utils.arrays import numbers

Slicer = Callable[[keras.Variable, np.ndarray, tuple[int, ...]], np.ndarray]

_PROBE_SIZES = (2, 3, 5, 7, 11, 13, 17)


def carry_over(
    optimizer: keras.optimizers.Optimizer,
    weights: list[keras.Variable],
    renewed: dict[int, keras.Variable],
    slicer: Slicer,
    added: Collection[int] = (),
) -> None:
    """Makes an optimiser serve the smaller weights, in place.

    A new optimiser of the same config is built on the new weights, takes every number of the old
    one over, and is moved into the old object, so that whoever holds that holds the new one.

    Args:
        optimizer: the optimiser, built.
        weights: the model's trainable variables now. The new optimiser has them in this order,
            since Keras pairs them by position (on JAX, and for weight averages); a branch that left
            the graph may have changed the order of the layers.
        renewed: the new variable for the `id` of each old trainable variable that lives on.
        slicer: `slicer(old variable, values, axes)` drops from `values` what its variable loses,
            where `axes` are the variable's axes that the axes of `values` stand for.
        added: the `id`s of weights that the model did not have before, whose slots begin anew.
    """
    old_weights = weights_of(optimizer)
    positions = {id(renewed[id(v)]): i for i, v in enumerate(old_weights) if id(v) in renewed}
    served = [v for v in weights if id(v) in positions or id(v) in added]
    origins = [positions.get(id(v)) for v in served]
    pairs = [(v, renewed[id(v)]) for v in old_weights if id(v) in renewed]
    fresh = _anew(optimizer, served, pairs)
    _copy(optimizer, fresh, origins, slicer)
    become(optimizer, fresh)


def renew(
    optimizer: keras.optimizers.Optimizer,
    weights: list[keras.Variable],
    pairs: Collection[tuple[keras.Variable, keras.Variable]],
) -> None:
    """Makes an optimiser serve other weights, in place; its slots begin anew.

    Args:
        optimizer: the optimiser, built or not.
        weights: the weights, in the order of its slots.
        pairs: variables before, and what each of them has become.
    """
    become(optimizer, _anew(optimizer, weights, pairs))


def _anew(
    optimizer: keras.optimizers.Optimizer,
    weights: list[keras.Variable],
    pairs: Collection[tuple[keras.Variable, keras.Variable]],
) -> keras.optimizers.Optimizer:
    """A new optimiser of the same config and attributes, built on `weights`."""
    fresh = twin(optimizer)
    fresh.build(weights)
    _copy_attributes(optimizer, fresh, pairs)
    return fresh


def _copy_attributes(
    old: Any, new: Any, pairs: Collection[tuple[keras.Variable, keras.Variable]]
) -> None:
    """Copies what a config cannot say: attributes that a user set, weights without decay too."""
    for name, value in vars(old).items():
        if name not in vars(new):
            setattr(new, name, value)
        elif isinstance(value, keras.optimizers.Optimizer):  # inside of a LossScaleOptimizer
            _copy_attributes(value, getattr(new, name), pairs)
    copy_exclusions(old, new, pairs)


def twin(optimizer: keras.optimizers.Optimizer) -> keras.optimizers.Optimizer:
    """A new optimiser of the same config, not built.

    Args:
        optimizer: any Keras optimiser; its learning rate may be a function of the user's, which a
            config could not say.
    """
    config = optimizer.get_config()
    if isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
        return type(optimizer)(**config | {"inner_optimizer": twin(optimizer.inner_optimizer)})
    learning_rate = learning_rate_of(optimizer)
    if not isinstance(learning_rate, keras.Variable):
        config["learning_rate"] = learning_rate
    return type(optimizer).from_config(config)


def become(optimizer: keras.optimizers.Optimizer, other: keras.optimizers.Optimizer) -> None:
    """Moves `other` into `optimizer`, so that whoever holds that holds the new one."""
    vars(optimizer).clear()
    vars(optimizer).update(vars(other))


def _copy(old: Any, new: Any, origins: list[int | None], slicer: Slicer) -> None:
    """Copies all numbers; `origins` has the position of the old weight for each new one."""
    weights = weights_of(old)
    for name, value in vars(old).items():
        other: Any = getattr(new, name, None)
        if isinstance(value, keras.Variable):
            other.assign(value)
        elif isinstance(value, keras.optimizers.Optimizer):
            _copy(value, other, origins, slicer)
        elif _is_slots(value, weights) and name != WEIGHTS:
            for i, slot in zip(origins, other, strict=True):
                if i is not None and value[i] is not None:
                    axes = _axes(old, name, weights[i], value[i])
                    values = numbers(value[i])
                    slot.assign(slicer(weights[i], values, axes))


def _is_slots(value: Any, weights: list[keras.Variable]) -> bool:
    return (
        isinstance(value, (list, tuple))
        and len(value) == len(weights) > 0
        and all(v is None or isinstance(v, keras.Variable) for v in value)
    )


def _axes(
    optimizer: keras.optimizers.Optimizer, name: str, weight: keras.Variable, slot: keras.Variable
) -> tuple[int, ...]:
    """The axes of a weight that the axes of its slot stand for.

    Most slots have the weight's shape. Adafactor's have an axis less, and their sizes alone cannot
    tell which: a weight whose axes all differ in size can.
    """
    if tuple(slot.shape) == tuple(weight.shape):
        return tuple(range(len(weight.shape)))
    if len(slot.shape) == 0:
        return ()
    sizes = _PROBE_SIZES[: len(weight.shape)]
    probe = keras.Variable(np.zeros(sizes), dtype=weight.dtype)
    other = twin(optimizer)
    other.build([probe])
    return tuple(sizes.index(n) for n in getattr(other, name)[0].shape)
