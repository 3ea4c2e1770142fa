"""Whether a function works on each element alone: found by trying, so that no list grows stale.

Two things are tried. One element changes, by little and by much, up and down: then no other may
change. And equal elements have to give equal results wherever they are: a function that holds an
array treats places differently, and would not fit a tensor that has fewer channels.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import keras
import numpy as np

from ptkeras.keras_compat.nodes import auto_config, flat_arguments

VALUES = np.array(
    [0, 1, -1, 0.5, -0.5, 0.3, -0.7, 2.5, -3.5, 7, -8, 1e-6, -1e-6, 1e-2, -1e-2, 90, -90, 1e4, -1e4]
)


class Nature(NamedTuple):
    """What trying a function of one tensor has shown.

    Attributes:
        elementwise: whether changing one element of the argument changes that element of the
            result alone, and does the same to it wherever it is.
        keeps_zero: whether it is 0 where its argument is.
    """

    elementwise: bool
    keeps_zero: bool


_NO = Nature(False, False)
_KERAS_OWN: dict[Any, Nature] = {}
_GIVEN: WeakKeyDictionary[Any, dict[int, Nature]] = WeakKeyDictionary()


def nature(function: Callable | None, rank: int = 4) -> Nature:
    """Tries a function of one tensor, such as an activation; None is the identity.

    Args:
        function: a function, or a layer, of which a copy is tried.
        rank: how many axes the tensor has.

    Returns:
        Elementwise for relu or gelu; not for softmax, GLU, a layer with weights, and whatever
        cannot be called so.
    """
    if function is None:
        return Nature(True, True)
    if isinstance(function, keras.layers.Layer):
        return _try_layer(function, rank)
    if not isinstance(function, types.FunctionType):
        return _try(function, rank)
    if function.__module__.startswith("keras.") and "<locals>" not in function.__qualname__:
        return _remembered(_KERAS_OWN, function, lambda: _try(function))
    return _remembered(_GIVEN.setdefault(function, {}), rank, lambda: _try(function, rank))


def nature_of_node(node: Any) -> Nature:
    """The nature of a plain operation of a graph, of one input that is shaped like its output."""
    op = node.operation
    if isinstance(op, keras.layers.Layer) or len(node.input_tensors) != 1 or len(node.outputs) != 1:
        return _NO
    symbolic = node.input_tensors[0]
    if tuple(symbolic.shape) != tuple(node.outputs[0].shape):
        return _NO
    constants = [v for v in flat_arguments(node) if v is not symbolic]
    if any(isinstance(v, keras.Variable) for v in [*constants, *vars(op).values()]):
        return _NO  # its numbers may change

    def function(x: Any) -> Any:
        args, kwargs = node.arguments.fill_in({id(symbolic): x})
        return op.call(*args, **kwargs)

    def tried() -> Nature:
        return _try(function, len(symbolic.shape), symbolic.dtype)

    config = auto_config(op)
    if constants or config is None or not type(op).__module__.startswith("keras."):
        return tried()
    settings = {k: v for k, v in config.config.items() if k != "name"}
    if not all(_is_plain(v) for v in keras.tree.flatten(settings)):
        return tried()
    key = (type(op), str(settings), len(symbolic.shape), symbolic.dtype)
    return _remembered(_KERAS_OWN, key, tried)


def _is_plain(value: object) -> bool:
    return value is None or isinstance(value, (bool, int, float, str))


def _remembered(known: dict[Any, Nature], key: Any, find: Callable[[], Nature]) -> Nature:
    if key not in known:
        if len(known) > 1000:
            known.clear()
        known[key] = find()
    return known[key]


def _try_layer(layer: keras.layers.Layer, rank: int) -> Nature:
    """Tries a copy of a layer without weights: calling a layer builds it for what it is given."""
    try:
        copy = type(layer).from_config(layer.get_config())
        result = _NO if layer.weights else _try(copy, rank)
        return _NO if copy.weights else result
    except Exception:
        return _NO


class _NoVariables(keras.StatelessScope):
    """Scope in which reading a variable is an error: its numbers may change after the trial."""

    def get_current_value(self, variable: keras.Variable) -> Any:
        raise ValueError(f"'{variable.path}' may change.")


def _try(function: Callable, rank: int = 4, dtype: str = "float32") -> Nature:
    def run(x: np.ndarray) -> np.ndarray:
        result = function(keras.ops.convert_to_tensor(values_of(x, dtype), dtype=dtype))
        result = np.asarray(keras.ops.convert_to_numpy(result))
        if result.shape != x.shape:
            raise ValueError
        return result

    try:
        with np.errstate(all="ignore"), _NoVariables():
            elementwise = _knows_no_place(run, rank) and _leaves_others_alone(run, rank)
            zero = run(np.zeros(_shape(rank))).astype("float32")
    except Exception:
        return _NO
    return Nature(elementwise, not zero.any())


def values_of(x: np.ndarray, dtype: str) -> np.ndarray:
    """Numbers as a type of Keras holds them, those out of its range cut off."""
    if dtype == "bool":
        return x > 0
    if "int" in dtype:
        limits = np.iinfo(dtype)
        return np.clip(np.trunc(x), max(limits.min, -1e4), min(limits.max, 1e4)).astype(dtype)
    return x.astype("float32")


def _knows_no_place(run: Callable, rank: int) -> bool:
    """Whether equal elements give equal results, for tensors of two shapes."""
    for shape in (_shape(rank), [7, 2, 2, 4, 3, 5][-rank:] if rank else []):
        for value in (0.5, -0.7, 2.5, 1e4, -1e4):
            result = run(np.full(shape, value)).astype("float64")
            first = result.reshape(-1)[0]
            if not np.allclose(result, first, rtol=1e-5, atol=1e-6, equal_nan=True):
                return False
    return True


def _leaves_others_alone(run: Callable, rank: int) -> bool:
    if rank == 0:
        return True
    for kinds in (12, 4):  # beside large numbers a function may overlook the others
        x = _samples(_shape(rank), kinds)
        before = run(x)
        for changed, places in _changes(x):
            after = run(changed)
            same = (before == after) | ((before != before) & (after != after))
            if not (same | places).all():
                return False
    return True


def _shape(rank: int) -> list[int]:
    """The shape of a batch of examples: JAX compiles every operation for every shape."""
    return [12, *[3] * (rank - 2), *[6] * (rank > 1)][:rank]


def _samples(shape: list[int], kinds: int) -> np.ndarray:
    """Examples that are small, negative, equal; of each size and sign; zero, and of all sorts."""
    rng = np.random.default_rng(0)
    own = shape[1:]
    positive = rng.uniform(0.2, 0.8, own)
    made = [positive, rng.normal(0, 1, own), -positive, np.full(own, 0.5)]
    made += [scale * positive for scale in (10, -10, 3e4, -3e4)]
    made += [rng.normal(0, 20, own), rng.normal(0, 1e-5, own), 0 * positive]
    made.append(rng.choice(VALUES, own))
    return np.stack(made[:kinds] * (12 // kinds))


def _changes(x: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Copies of `x` in which something has changed, and where."""
    rng = np.random.default_rng(1)
    examples = x.reshape(len(x), -1)
    size = examples.shape[1]
    every = np.arange(len(x))
    for place in {0, size // 2, size - 1}:
        for value in (0.0, 1.5, -1.5, 1e4, -1e4, 1e-7):
            yield _changed(x, every, np.full(len(x), place), value)
    for delta in (0.3, -0.3, 1e-3):
        places = rng.integers(0, size, len(x))
        yield _changed(x, every, places, examples[every, places] + delta)
    for example in every:  # the examples of a batch know nothing of one another
        yield _changed(x, every[[example]], np.array([size // 3]), (-1) ** example * 300.0)


def _changed(
    x: np.ndarray, examples: np.ndarray, places: np.ndarray, values: Any
) -> tuple[np.ndarray, np.ndarray]:
    changed, where = x.copy(), np.zeros(x.shape, bool)
    changed.reshape(len(x), -1)[examples, places] = values
    where.reshape(len(x), -1)[examples, places] = True
    return changed, where
