"""Momentum and every other slot of an optimizer, resized like the weight that it belongs to."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import keras
import numpy as np

from ptkeras.keras_compat.optimizers import (
    COLUMN_FACTORS,
    DECAY_CACHE,
    NO_SLOTS,
    ROW_FACTORS,
    WEIGHT_NUMBERS,
    key_of,
    numbers_by_key,
    state_of,
    weights_of,
)
from ptkeras.surgery.changes import Changes
from ptkeras.surgery.variables import fill, take
from ptkeras.utils.arrays import numbers


class Resized(NamedTuple):
    """A variable that has got another size.

    Attributes:
        variable: the variable.
        shape: the shape that it had.
        positions: for each of its axes the positions that it shows now.
    """

    variable: keras.Variable
    shape: tuple[int, ...]
    positions: list[np.ndarray]


def nested(optimizer: keras.optimizers.Optimizer) -> Iterator[Any]:
    """Yields an optimizer and those inside of it, as `LossScaleOptimizer` has one."""
    yield optimizer
    for value in vars(optimizer).values():
        for inner in value if isinstance(value, (list, tuple)) else (value,):
            if isinstance(inner, keras.optimizers.Optimizer):
                yield from nested(inner)


def resize_slots(
    optimizer: keras.optimizers.Optimizer, resized: Mapping[int, Resized], changes: Changes
) -> None:
    """Gives the slots of an optimizer the sizes of their weights, in the variables that they are.

    Slots are found by the weight that they belong to, wherever the optimizer keeps them: in lists
    in the order of the weights, in dicts by number, path or key, or by Keras's name for a slot.

    Args:
        optimizer: a built optimizer; learning rate, iterations and loss scale stay untouched.
        resized: what has become of the weights, by `id`.
        changes: the log that undoes it.

    Raises:
        ValueError: If a slot has a shape that its weight does not explain.
    """
    done: set[int] = set()
    for one in nested(optimizer):
        weights = weights_of(one)
        if not any(id(weight) in resized for weight in weights):
            continue
        keys = _keys_before(one, weights)
        for name, weight, slot in _slots(one, weights, keys):
            if id(slot) in done or id(weight) not in resized:
                continue
            done.add(id(slot))
            _resize(one, name, resized[id(weight)], slot, changes)
        _renew_keys(one, weights, keys, changes)


def align(
    optimizer: keras.optimizers.Optimizer, weights: list[keras.Variable], changes: Changes
) -> None:
    """Has an optimizer serve some of its weights, in their order, and the others no longer.

    Keras pairs weights and slots by position on JAX, and for weight averages.

    Args:
        optimizer: a built optimizer.
        weights: weights of a model; those that the optimizer does not know are left out.
        changes: the log that undoes it.
    """
    for one in nested(optimizer):
        own = weights_of(one)
        place = {id(weight): i for i, weight in enumerate(own)}
        order = [place[id(weight)] for weight in weights if id(weight) in place]
        if order == list(range(len(own))):
            continue
        keys = _keys_before(one, own)
        gone = set(range(len(own))) - set(order)
        dropped = {id(s) for _, w, s in _slots(one, own, keys) if place[id(w)] in gone}
        for name, value in list(vars(one).items()):
            if _is_parallel(value, own):
                changes.set(one, name, [value[i] for i in order])
            elif isinstance(value, dict) and value and all(type(k) is int for k in value):
                new = {n: value[i] for n, i in enumerate(order) if i in value}
                changes.set(one, name, new)
        state = state_of(one)
        changes.set_list(state, [v for v in state if id(v) not in dropped])
        _renew_keys(one, [own[i] for i in order], [keys[i] for i in order], changes)


def learn_keys(optimizer: keras.optimizers.Optimizer) -> None:
    """Has an optimizer know its weights by the keys that they have now.

    On TensorFlow a key is that of the tensor in the variable, which may be another one.
    """
    for one in nested(optimizer):
        weights = weights_of(one)
        _renew_keys(one, weights, _keys_before(one, weights), Changes())


def _keys_before(optimizer: keras.optimizers.Optimizer, weights: list[Any]) -> list[Any]:
    """The key by which an optimizer knows each weight, which on TensorFlow its tensor has."""
    by_index = {index: key for key, index in numbers_by_key(optimizer).items()}
    return [by_index.get(i, id(weight)) for i, weight in enumerate(weights)]


def _renew_keys(
    optimizer: keras.optimizers.Optimizer, weights: list[Any], former: list[Any], changes: Changes
) -> None:
    """Has an optimizer know its weights by the keys that they have now."""
    keys = [key_of(optimizer, weight) for weight in weights]
    renamed = dict(zip(former, keys, strict=True))
    changes.set(optimizer, WEIGHT_NUMBERS, {key: i for i, key in enumerate(keys)})
    for name, value in list(vars(optimizer).items()):
        if name == WEIGHT_NUMBERS:
            continue
        if name == DECAY_CACHE:
            changes.set(optimizer, name, {})
        elif isinstance(value, dict) and value and value.keys() <= renamed.keys():
            changes.set(optimizer, name, {renamed[key]: v for key, v in value.items()})
        elif isinstance(value, set) and value & renamed.keys():
            changes.set(optimizer, name, {renamed.get(key, key) for key in value})


def _slots(
    optimizer: keras.optimizers.Optimizer, weights: list[Any], keys: list[Any]
) -> Iterator[tuple[str, Any, keras.Variable]]:
    """Yields (name of the attribute, weight, slot) for what an optimizer keeps for its weights."""
    known = dict(zip(keys, weights, strict=True))
    known |= {id(weight): weight for weight in weights}
    known |= {weight.path: weight for weight in weights}
    seen = {id(weight) for weight in weights}
    for name, value in vars(optimizer).items():
        if name in NO_SLOTS:
            continue
        for weight, slot in _within(value, None, weights, known):
            if id(slot) not in seen:
                seen.add(id(slot))
                yield name, weight, slot
    for slot in state_of(optimizer):  # what is kept elsewhere is known by its name
        if id(slot) not in seen and slot.shape:
            weight = _named_after(slot, weights)
            if weight is not None:
                yield slot.name, weight, slot


def _within(value: Any, weight: Any, weights: list[Any], known: Mapping) -> Iterator[tuple]:
    if isinstance(value, keras.Variable):
        if weight is not None:
            yield weight, value
    elif isinstance(value, dict):
        for key, inner in value.items():
            own = weights[key] if type(key) is int and 0 <= key < len(weights) else None
            own = known.get(key, own) if isinstance(key, (int, str)) else own
            yield from _within(inner, own if own is not None else weight, weights, known)
    elif isinstance(value, (list, tuple)):
        parallel = weight is None and len(value) == len(weights)
        for number, inner in enumerate(value):
            yield from _within(inner, weights[number] if parallel else weight, weights, known)


def _is_parallel(value: Any, weights: list[Any]) -> bool:
    return (
        isinstance(value, (list, tuple))
        and len(value) == len(weights) > 0
        and all(v is None or isinstance(v, keras.Variable) for v in value)
    )


def _named_after(slot: keras.Variable, weights: list[Any]) -> Any:
    """The weight whose path Keras has put at the front of the name of a slot."""
    named = [w for w in weights if slot.name.startswith(w.path.replace("/", "_") + "_")]
    return max(named, key=lambda w: len(w.path), default=None)


def _resize(
    optimizer: keras.optimizers.Optimizer,
    name: str,
    weight: Resized,
    slot: keras.Variable,
    changes: Changes,
) -> None:
    axes = _axes(optimizer, name, weight, tuple(slot.shape))
    positions = [weight.positions[axis] for axis in axes]
    if [len(kept) for kept in positions] != list(slot.shape):
        fill(slot, take(numbers(slot), positions), changes)


def _axes(
    optimizer: keras.optimizers.Optimizer, name: str, weight: Resized, shape: tuple[int, ...]
) -> tuple[int, ...]:
    """The axes of a weight that the axes of its slot stand for.

    Most slots have the shape of the weight. Adafactor's factors lack one axis.
    """
    rank = len(weight.shape)
    if shape == weight.shape:
        return tuple(range(rank))
    is_factor = name in (ROW_FACTORS, COLUMN_FACTORS) and rank > 1
    if isinstance(optimizer, keras.optimizers.Adafactor) and is_factor:
        missing = rank - 1 if name == ROW_FACTORS else rank - 2
        return tuple(a for a in range(rank) if a != missing)
    fitting = [
        axes
        for axes in itertools.combinations(range(rank), len(shape))
        if tuple(weight.shape[a] for a in axes) == shape
    ]
    if not shape or len(fitting) == 1:
        return fitting[0] if fitting else ()
    raise ValueError(
        f"'{name}' of the optimizer '{optimizer.name}' (a {type(optimizer).__name__}) keeps a slot "
        f"of shape {shape} for '{weight.variable.path}' of shape {weight.shape}, and its sizes do "
        "not say which axes of the weight those are: compile with an optimizer whose slots have "
        "the shapes of their weights."
    )
