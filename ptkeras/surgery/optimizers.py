"""Momentum and every other slot of an optimiser, sliced like the weight it belongs to."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

import keras
import numpy as np

from ptkeras._numbers import numbers

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
    old_weights = optimizer._trainable_variables
    positions = {id(renewed[id(v)]): i for i, v in enumerate(old_weights) if id(v) in renewed}
    served = [v for v in weights if id(v) in positions or id(v) in added]
    origins = [positions.get(id(v)) for v in served]
    fresh = twin(optimizer)
    fresh.build(served)
    _copy(optimizer, fresh, origins, slicer)
    # What a config cannot say: attributes that a user set.
    for name, value in vars(optimizer).items():
        if name not in vars(fresh):
            setattr(fresh, name, value)
    if hasattr(fresh, "_exclude_from_weight_decay"):
        excluded = [v for v in old_weights if not optimizer._use_weight_decay(v)]
        fresh._exclude_from_weight_decay = {
            fresh._var_key(renewed[id(v)]) for v in excluded if id(v) in renewed
        }
        fresh._exclude_from_weight_decay_cache = {}
    become(optimizer, fresh)


def twin(optimizer: keras.optimizers.Optimizer) -> keras.optimizers.Optimizer:
    """A new optimiser of the same config, not built.

    Args:
        optimizer: any Keras optimiser; its learning rate may be a function of the user's, which a
            config could not say.
    """
    config = optimizer.get_config()
    if isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
        return type(optimizer)(**config | {"inner_optimizer": twin(optimizer.inner_optimizer)})
    if not isinstance(optimizer._learning_rate, keras.Variable):
        config["learning_rate"] = optimizer._learning_rate
    return type(optimizer).from_config(config)


def become(optimizer: keras.optimizers.Optimizer, other: keras.optimizers.Optimizer) -> None:
    """Moves `other` into `optimizer`, so that whoever holds that holds the new one."""
    vars(optimizer).clear()
    vars(optimizer).update(vars(other))


def _copy(old: Any, new: Any, origins: list[int | None], slicer: Slicer) -> None:
    """Copies all numbers; `origins` has the position of the old weight for each new one."""
    weights = old._trainable_variables
    for name, value in vars(old).items():
        other = getattr(new, name, None)
        if isinstance(value, keras.Variable):
            other.assign(value)
        elif isinstance(value, keras.optimizers.Optimizer):
            _copy(value, other, origins, slicer)
        elif _is_slots(value, weights) and name != "_trainable_variables":
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
    optimizer: Any, name: str, weight: keras.Variable, slot: keras.Variable
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
