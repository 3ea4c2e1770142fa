"""A model's double: new objects and variables of the same numbers, whatever the config says.

Layers that cannot be made from their config, optimizers with a schedule of the user's, models
whose class asks for arguments: the objects themselves are copied, with all that they hold.
"""

from __future__ import annotations

import types
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras.src.ops.node import Node
from keras.src.ops.symbolic_arguments import SymbolicArguments
from keras.src.utils.tracking import Tracker

from ptkeras._numbers import numbers

_COPIED = (
    keras.Operation,
    keras.optimizers.Optimizer,
    keras.metrics.Metric,
    keras.KerasTensor,
    keras.random.SeedGenerator,
    keras.callbacks.Callback,
    Node,
    SymbolicArguments,
    Tracker,
)
_FUNCTIONS = ("train_function", "test_function", "predict_function")


def clone(model: keras.Model) -> keras.Model:
    """Copies a model with its weights and, where it is compiled, its optimizer and every slot.

    Args:
        model: a built model; to be called in the scope of its distribution strategy, if any.

    Returns:
        A model of the same class, whose layers have the same names, and which shares no variable.
    """
    copier = _Copier()
    new = copier.copy(model)
    copier.rename_keys()
    for name in _FUNCTIONS:
        if name in vars(new):
            vars(new)[name] = None
    return new


class _Copier:
    def __init__(self) -> None:
        self._made: dict[int, Any] = {}
        self._alive: list[Any] = []  # ids of what is alive alone are safe to go by
        self._optimizers: list[tuple[Any, Any]] = []

    def copy(self, value: Any) -> Any:
        """The double of a value; what holds no layer or variable is its own."""
        if value is None or isinstance(value, (bool, int, float, str, bytes, type)):
            return value
        found = self._made.get(id(value), self)
        if found is not self:
            return found
        self._alive.append(value)
        kind = self._kind(value)
        return value if kind is None else kind(value)

    def _kind(self, value: Any) -> Callable[[Any], Any] | None:
        if isinstance(value, keras.Variable):
            return self._variable
        if isinstance(value, _COPIED) or _is_compiled_of_keras(value):
            return self._object
        if isinstance(value, types.MethodType):
            return self._method
        if isinstance(value, dict):
            return self._dict
        if isinstance(value, (list, tuple, set)):
            return self._sequence
        return None

    def _variable(self, old: keras.Variable) -> Any:
        new = object.__new__(type(old))
        self._made[id(old)] = new
        vars(new).update(vars(old))
        for name in ("_regularizer", "_constraint"):
            vars(new)[name] = self.copy(getattr(old, name, None))
        if old._value is not None:
            values = np.array(numbers(old))
            if keras.config.backend() == "tensorflow":
                new._initialize(values)
            else:
                new._initialize(old._convert_to_tensor(values, dtype=old._dtype))
        return new

    def _object(self, old: Any) -> Any:
        new = object.__new__(type(old))
        self._made[id(old)] = new
        for name, value in list(vars(old).items()):
            vars(new)[name] = self.copy(value)
        if isinstance(old, keras.optimizers.Optimizer):
            self._optimizers.append((old, new))
        return new

    def _method(self, old: types.MethodType) -> Any:
        owner = self.copy(old.__self__)
        return old if owner is old.__self__ else types.MethodType(old.__func__, owner)

    def _dict(self, old: dict) -> dict:
        new = object.__new__(type(old)) if type(old).__module__.startswith("keras.") else {}
        self._made[id(old)] = new
        if hasattr(old, "tracker"):  # a dict of Keras's that tracks what is put in
            vars(new)["tracker"] = self.copy(old.tracker)
        if type(old).__name__ == "OrderedDict" or hasattr(old, "default_factory"):
            new = self._made[id(old)] = type(old)()
            if hasattr(old, "default_factory"):
                new.default_factory = old.default_factory
        for key, value in old.items():
            dict.__setitem__(new, self.copy(key), self.copy(value))
        return new

    def _sequence(self, old: Any) -> Any:
        if isinstance(old, tuple):
            parts = [self.copy(v) for v in old]
            if all(a is b for a, b in zip(parts, old, strict=True)):
                return old
            return type(old)(*parts) if hasattr(old, "_fields") else type(old)(parts)
        tracked = type(old).__module__.startswith("keras.")
        new = object.__new__(type(old)) if tracked else type(old)()
        self._made[id(old)] = new
        if hasattr(old, "tracker"):
            vars(new)["tracker"] = self.copy(old.tracker)
        if isinstance(old, set):
            # Sets of ids, by which Keras's trackers know what they have.
            ids = {id(x): x for x in self._alive}
            members = [id(self.copy(ids[v])) if v in ids and type(v) is int else v for v in old]
            set.update(new, (self.copy(v) for v in members))
        else:
            list.extend(new, (self.copy(v) for v in old))
        return new

    def rename_keys(self) -> None:
        """Sets right what goes by ids: the stores of trackers, the indices of optimizers."""
        for old in list(self._alive):
            new = self._made.get(id(old))
            if isinstance(old, Tracker):
                new.stored_ids = {
                    name: {id(x) for x in store} for name, (_, store) in new.config.items()
                }
        for old, new in self._optimizers:
            keys = getattr(old, "_trainable_variables_indices", None)
            if not keys:
                continue
            by_key = {key: new._trainable_variables[i] for key, i in keys.items()}
            renamed = {key: new._var_key(v) for key, v in by_key.items()}
            for name, value in list(vars(new).items()):
                if isinstance(value, dict) and value and value.keys() <= renamed.keys():
                    vars(new)[name] = {renamed[k]: v for k, v in value.items()}
                elif isinstance(value, set) and value & renamed.keys():
                    vars(new)[name] = {renamed.get(k, k) for k in value}


def _is_compiled_of_keras(value: Any) -> bool:
    """Whether a value is of the state that `compile` makes."""
    return type(value).__name__ in ("CompileLoss", "CompileMetrics", "MetricsList")


def shares(a: keras.Model, b: keras.Model) -> bool:
    """Whether two models share a variable."""
    return not {id(v) for v in a.variables}.isdisjoint(id(v) for v in b.variables)
