"""A model's double: new objects and variables of the same numbers, whatever the config says.

Layers that cannot be made from their config, optimizers with a schedule of the user's, models
whose class asks for arguments: the objects themselves are copied, with all that they hold.
"""

from __future__ import annotations

import collections
import functools
import types
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from ptkeras.keras_compat.graph import Node, SymbolicArguments, Tracker, renew_node_keys
from ptkeras.keras_compat.nodes import NODE_LISTS, OUTBOUND
from ptkeras.keras_compat.optimizers import key_of, numbers_by_key, weights_of
from ptkeras.keras_compat.torch_modules import renew_parameters
from ptkeras.keras_compat.tracking import renew_ids
from ptkeras.keras_compat.trainers import FIT_STATE
from ptkeras.keras_compat.variables import HOOKS, initialize, tensor_for, value_of
from ptkeras.surgery.changes import Changes
from ptkeras.surgery.variables import fill
from ptkeras.utils.arrays import numbers

_STATE = (
    keras.Operation,
    keras.Variable,
    keras.optimizers.Optimizer,
    keras.metrics.Metric,
    keras.KerasTensor,
    keras.random.SeedGenerator,
    keras.callbacks.Callback,
    Node,
    SymbolicArguments,
    Tracker,
)
_PLAIN = (bool, int, float, complex, str, bytes, type, type(None), types.ModuleType, np.ndarray)
_CONTAINERS = (list, tuple, set, dict, collections.deque)
# Objects of these packages are shared: they hold what belongs to the process, or to a device.
_FOREIGN = ("tensorflow", "jax", "jaxlib", "torch", "numpy", "threading", "_thread", "weakref")
# What a training leaves on a model, made for the model itself.
_COMPILED = ("train_function", "test_function", "predict_function")


def clone(model: keras.Model) -> keras.Model:
    """Copies a model with its weights and, where it is compiled, its optimizer and every slot.

    Copied is everything that leads to a layer, a variable, a metric, an optimizer or a seed, and
    what leads to those in turn; all else, such as functions, data and losses, is shared.

    Args:
        model: a built model; to be called in the scope of its distribution strategy, if any.

    Returns:
        A model of the same class, whose layers have the same names, and which shares no variable.
    """
    if hasattr(model, "jax_state_sync"):
        model.jax_state_sync()  # inside of `fit` the numbers are elsewhere
    return _Copier().run(model)


class _Copier:
    """Makes an empty object for each old one first and fills it later, so that nothing recurses."""

    def __init__(self) -> None:
        self._made: dict[int, Any] = {}
        self._alive: list[Any] = []  # ids of what is alive alone are safe to go by
        self._waiting: collections.deque[tuple[Callable, Any, Any]] = collections.deque()
        self._node_lists: collections.deque[tuple[str, list, list]] = collections.deque()
        self._containers: list[tuple[Any, Any]] = []  # TensorFlow's, and what is in them
        self._leads: dict[int, bool] = {}

    def run(self, model: Any) -> Any:
        new = self.copy(model)
        while self._waiting or self._node_lists:
            while self._waiting:
                fill_in, old, made = self._waiting.popleft()
                fill_in(old, made)
            # Last: which nodes belong to graphs that are copied is only known by then.
            for name, old, made in self._node_lists:
                made[:] = self._nodes(name, old)
            self._node_lists.clear()
        for container, parts in self._containers:
            container.__init__(parts)
        for old in list(self._alive):
            self._set_right(old, self._made[id(old)])
        return new

    def copy(self, value: Any) -> Any:
        """The double of a value, which may be empty yet; what leads to no state is its own."""
        if isinstance(value, _PLAIN):
            return value
        if id(value) in self._made:
            return self._made[id(value)]
        if isinstance(value, keras.Variable):
            return self._begin(value, object.__new__(type(value)), self._fill_variable)
        if isinstance(value, keras.layers.Layer):
            # Keras wraps `build` of each layer in a function of that layer.
            return self._begin(value, keras.layers.Layer.__new__(type(value)), self._fill_object)
        if isinstance(value, _CONTAINERS) and type(value).__module__.startswith("tensorflow."):
            return self._wrapped(value)
        if isinstance(value, (tuple, types.MethodType, functools.partial)):
            return self._immutable(value)
        if isinstance(value, _CONTAINERS):
            return self._container(value)
        if isinstance(value, _STATE) or self._leads_to_state(value):
            return self._begin(value, object.__new__(type(value)), self._fill_object)
        return value

    def _begin(self, old: Any, new: Any, fill_in: Callable[[Any, Any], None]) -> Any:
        self._made[id(old)] = new
        self._alive.append(old)
        self._waiting.append((fill_in, old, new))
        return new

    def _immutable(self, old: Any) -> Any:
        if isinstance(old, types.MethodType):
            owner = self.copy(old.__self__)
            return old if owner is old.__self__ else types.MethodType(old.__func__, owner)
        if isinstance(old, functools.partial):
            parts = self.copy((old.func, old.args, tuple(old.keywords.values())))
            if parts[0] is old.func and parts[1] is old.args and parts[2] == old.keywords:
                return old
            names = dict(zip(old.keywords, parts[2], strict=True))
            return functools.partial(parts[0], *parts[1], **names)
        parts = [self.copy(v) for v in old]
        if all(a is b for a, b in zip(parts, old, strict=True)):
            return old
        return type(old)(*parts) if hasattr(old, "_fields") else type(old)(parts)

    def _wrapped(self, old: Any) -> Any:
        """A container of TensorFlow's, which it puts in place of those that attributes are set to.

        It notes what it holds when it is made: a list comes last.
        """
        from tensorflow.__internal__.tracking import wrap

        plain = getattr(old, "__wrapped__", old)
        if isinstance(plain, list):
            cls: Any = type(old)
            new = cls.__new__(cls)
            self._containers.append((new, [self.copy(v) for v in plain]))
        elif isinstance(plain, dict):
            new = wrap({self.copy(k): self.copy(v) for k, v in plain.items()})
        else:
            new = wrap(self._immutable(plain))
        self._made[id(old)] = new
        self._alive.append(old)
        return new

    def _container(self, old: Any) -> Any:
        cls = type(old)
        kind: Any = next(k for k in _CONTAINERS if isinstance(old, k))
        if issubclass(cls, collections.OrderedDict):
            kind = collections.OrderedDict
        elif issubclass(cls, collections.defaultdict):
            kind = collections.defaultdict
        new = kind.__new__(cls)
        if isinstance(old, collections.defaultdict):
            new.default_factory = old.default_factory
        return self._begin(old, new, functools.partial(self._fill_container, kind))

    def _fill_container(self, kind: Any, old: Any, new: Any) -> None:
        for name, value in getattr(old, "__dict__", {}).items():  # the tracker of Keras's own
            vars(new)[name] = self.copy(value)
        if issubclass(kind, dict):
            for key, value in old.items():
                kind.__setitem__(new, self.copy(key), self.copy(value))
        elif kind is set:
            set.update(new, [self.copy(v) for v in old])
        else:
            kind.extend(new, [self.copy(v) for v in old])

    def _fill_object(self, old: Any, new: Any) -> None:
        wrapped = dict(vars(new))
        vars(new).clear()
        made: list[Any]
        for name, value in list(vars(old).items()):
            if name in wrapped and isinstance(value, types.FunctionType):
                vars(new)[name] = wrapped[name]
            elif name in NODE_LISTS and isinstance(value, list):
                vars(new)[name] = made = []
                self._node_lists.append((name, value, made))
            elif isinstance(old, keras.Model) and name in (*_COMPILED, *FIT_STATE):
                vars(new)[name] = None
            else:
                vars(new)[name] = self.copy(value)

    def _fill_variable(self, old: keras.Variable, new: Any) -> None:
        vars(new).update(vars(old))
        for name in HOOKS:
            vars(new)[name] = self.copy(getattr(old, name, None))
        if value_of(old) is None:
            return
        values = np.array(numbers(old))
        if keras.config.backend() == "torch":
            initialize(new, tensor_for(old, values))
        else:
            fill(new, values, Changes())

    def _nodes(self, name: str, old: list) -> list:
        """The nodes of an operation: those of graphs that are copied too.

        A tensor knows its node by the place in the list, so that others keep theirs.
        """
        if name == OUTBOUND:
            return [self._made[id(node)] for node in old if id(node) in self._made]
        return [self._made.get(id(node), node) for node in old]

    def _leads_to_state(self, value: Any) -> bool:
        """Whether an object of any class holds a layer, a variable or the like, at any depth."""
        if id(value) not in self._leads:
            self._leads[id(value)] = False
            self._alive_too(value)
            self._leads[id(value)] = any(isinstance(v, _STATE) for v in _within(value))
        return self._leads[id(value)]

    def _alive_too(self, value: Any) -> None:
        self._waiting.append((lambda old, new: None, value, None))

    def _set_right(self, old: Any, new: Any) -> None:
        """Sets right what goes by ids: trackers, graphs, the indices of optimizers."""
        if isinstance(old, Tracker):
            renew_ids(new)
        elif isinstance(old, keras.Function):
            renew_node_keys(new)
        elif isinstance(old, keras.optimizers.Optimizer):
            _rename_keys(old, new)
        elif keras.config.backend() == "torch" and isinstance(old, keras.layers.Layer):
            renew_parameters(new)


def _rename_keys(old: Any, new: Any) -> None:
    """Has an optimizer know the variables by their own keys."""
    numbers_of = numbers_by_key(old)
    if not numbers_of:
        return
    weights = weights_of(new)
    renamed = {key: key_of(new, weights[i]) for key, i in numbers_of.items()}
    for name, value in list(vars(new).items()):
        if isinstance(value, dict) and value and value.keys() <= renamed.keys():
            vars(new)[name] = {renamed[k]: v for k, v in value.items()}
        elif isinstance(value, set) and value & renamed.keys():
            vars(new)[name] = {renamed.get(k, k) for k in value}


def _within(value: Any) -> Any:
    """Yields what an object holds, at any depth."""
    seen: set[int] = set()
    waiting = [value]
    while waiting:
        one = waiting.pop()
        if id(one) in seen or isinstance(one, _PLAIN):
            continue
        seen.add(id(one))
        yield one
        if isinstance(one, _STATE):
            continue
        if isinstance(one, dict):
            waiting += [*one.keys(), *one.values()]
        elif isinstance(one, _CONTAINERS):
            waiting += one
        elif isinstance(one, types.MethodType):
            waiting.append(one.__self__)
        elif hasattr(one, "__dict__") and not _is_foreign(one):
            waiting += vars(one).values()


def _is_foreign(value: Any) -> bool:
    if isinstance(value, (types.FunctionType, types.BuiltinFunctionType)):
        return True
    return type(value).__module__.split(".")[0] in _FOREIGN
