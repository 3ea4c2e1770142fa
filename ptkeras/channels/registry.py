"""What a type of layer or operation does to channels: the registry, and what a rule sees."""

from __future__ import annotations

import copy
import functools
import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import keras
import numpy as np

from ptkeras.keras_compat.layers import CLASS_MARKS

if TYPE_CHECKING:
    from ptkeras.channels.labels import Labels

# A label array per output; alone if there is one output; None for a call beyond the rule.
Outputs = np.ndarray | list[np.ndarray] | None
Rule = Callable[["Call"], Outputs]
_Rule = TypeVar("_Rule", bound=Rule)
_RULES: dict[type, Rule] = {}


def register(*types: type) -> Callable[[_Rule], _Rule]:
    """Decorator that registers the rule of a layer type (or of a `keras.Operation`).

    A rule says which positions of the layer's variables belong to which channel, and returns the
    channel labels of the outputs. It holds for subclasses too, unless they have one of their own.

    ```python
    @ptkeras.channels.register(LayerScale)
    def _(call):
        labels = call.along(call.inputs[0], axis=-1)
        call.vector(call.op.gamma, labels)
        return call.inputs[0]
    ```

    Args:
        *types: classes of layers or operations.

    Returns:
        A decorator for a function of one `Call` that returns one label array per output, or None
        if this call is beyond it: then nothing that touches the layer may go.
    """

    def decorate(rule: _Rule) -> _Rule:
        for cls in types:
            _RULES[cls] = rule
        return rule

    return decorate


def existing(module: Any, *names: str) -> list[type[Any]]:
    """The classes of these names that the installed Keras has: 3.12 lacks a few."""
    return [getattr(module, name) for name in names if hasattr(module, name)]


def rule_for(op: Any) -> Rule | None:
    """The rule of the nearest class among the bases of `op`, or None."""
    for cls in type(op).__mro__:
        if cls in _RULES:
            return _RULES[cls] if _speaks_for(cls, op) else None
    return None


# What a subclass may define and compute the same.
_HARMLESS = frozenset(
    (
        *("__init__", "__new__", "__module__", "__doc__", "__qualname__", "__dict__"),
        *("__weakref__", "__annotations__", "__annotate_func__", "__annotations_cache__"),
        *("__firstlineno__", "__static_attributes__", "__parameters__", "__orig_bases__"),
        *("__repr__", "__str__", "__hash__", "__eq__", "__reduce__", "__classcell__"),
        *("build", "get_config", "from_config", "get_build_config", "build_from_config"),
        *("compute_output_shape", "compute_output_spec", "count_params", "quantize"),
        *("save_own_variables", "load_own_variables", "save_assets", "load_assets"),
        *("get_compile_config", "compile_from_config", "_abc_impl", "__abstractmethods__"),
        *CLASS_MARKS,
    )
)


def _speaks_for(base: type, op: Any) -> bool:
    """Whether the rule of `base` holds for an object: not if anything that computes is changed.

    A method or a property of the classes that `base` has not may be what Keras's own `call` runs
    (one behind `base` stands before `Layer`, and may change what is around a call), and so may a
    callable that is set on the object in place of a method.
    """
    cls = type(op)
    for other in set(cls.__mro__) - set(base.__mro__):
        if not other.__module__.startswith("keras.") and vars(other).keys() - _HARMLESS:
            return False
    own = vars(op)
    methods = _methods_of(cls)  # type: ignore[arg-type]  # mypy issue 11470: no class is hashable
    return not any(callable(own[name]) for name in methods & own.keys())


@functools.cache
def _methods_of(cls: type) -> frozenset[str]:
    """The names of the methods of a class that compute: dozens for each of a model's layers."""
    names = {n for each in cls.__mro__ for n in vars(each) if callable(getattr(cls, n, None))}
    return frozenset(names - _HARMLESS)


class Call:
    """One call of one layer or operation, as a rule sees it.

    A **label array** has the rank of its tensor and broadcasts against it: axes along which the
    channel does not change have size 1. -1 stands for positions that hold a constant.

    Attributes:
        op: the layer or operation.
        args, kwargs: what it was called with; tensors are symbolic.
        inputs: one label array per input tensor.
        shapes: the shapes of the input tensors.
        output_shapes: the shapes of the output tensors.
        exact: whether removing zeros may change nothing at all, see `trace`.
        in_code: whether the code of a layer makes the call, so that a plain operation is made anew
            each time, and what it is made with cannot be sliced.
        zero_inputs: a bool per input tensor: whether it is known that a channel whose parameters
            are all zero is zero there. A sum over channels can do without such channels; behind a
            sigmoid it could not.
        zero_output: for a rule to set: the same of the outputs. False if a rule does not say.
    """

    def __init__(
        self,
        labels: Labels,
        node: Any,
        inputs: list[np.ndarray],
        zero_inputs: list[bool],
        exact: bool,
        walk: Callable[[keras.Model, list[np.ndarray]], list[np.ndarray]],
    ) -> None:
        self._labels = labels
        self._walk = walk
        self.in_code = getattr(node, "owner", None) is not None
        self._owner = getattr(node, "owner", None) or node.operation
        self._tensors = node.input_tensors
        self.op = node.operation
        self.args = node.arguments.args
        self.kwargs = node.arguments.kwargs
        self.inputs = inputs
        self.shapes = [tuple(x.shape) for x in node.input_tensors]
        self.output_shapes = [tuple(x.shape) for x in node.outputs]
        self.exact = exact
        self.zero_inputs = zero_inputs
        self.zero_output = False

    def inside(
        self, op: Any, inputs: list[np.ndarray], shapes: list[tuple], output_shapes: list[tuple]
    ) -> Call:
        """The call of a layer that this one wraps; what it records belongs to this one."""
        inner = copy.copy(self)
        inner.op, inner.inputs, inner.args, inner.kwargs = op, inputs, (), {}
        inner.shapes, inner.output_shapes = shapes, output_shapes
        return inner

    def walk(self, model: keras.Model, inputs: list[np.ndarray]) -> list[np.ndarray]:
        """Walks a model that this layer wraps; returns a label array per output."""
        return self._walk(model, inputs)

    def argument(self, name: str) -> Any:
        """What the operation was called with for the parameter `name` of its `call`, or None."""
        parameters = inspect.signature(self.op.call).parameters
        # Keras hands `training` on to layers that do not take it.
        known = {k: v for k, v in self.kwargs.items() if k in parameters}
        bound = inspect.Signature(list(parameters.values())).bind_partial(*self.args, **known)
        return bound.arguments.get(name)

    def labels_of(self, tensor: Any) -> np.ndarray | None:
        """The label array of an argument; None for what is no symbolic tensor."""
        for candidate, labels in zip(self._tensors, self.inputs, strict=True):
            if candidate is tensor:
                return labels
        return None

    def passes(self) -> None:
        """Says that a zero in all inputs is a zero in the outputs."""
        self.zero_output = all(self.zero_inputs)

    def mixes(self, labels: np.ndarray) -> None:
        """Says that these channels are mixed, so that removing a zero changes the rest a little.

        They may go only if the caller of `trace` asked for `exact=False`.
        """
        if self.exact:
            self.freeze(labels)

    def along(self, labels: np.ndarray, axis: int, size: int | None = None) -> np.ndarray:
        """The labels along one axis of an input, a vector.

        Channels that lie along another axis are frozen: the caller mixes what is along this one.

        Args:
            labels: a label array.
            axis: the axis that is asked for.
            size: its length; taken from `labels` if left out.
        """
        return self._labels.along(labels, axis, size)

    def spread(self, vector: np.ndarray, axis: int, rank: int) -> np.ndarray:
        """The label array of a tensor of `rank` axes whose channels are `vector` along `axis`."""
        shape = [1] * rank
        shape[axis] = len(vector)
        return np.asarray(vector).reshape(shape)

    def consume(self, variable: keras.Variable, axis: int, vector: np.ndarray) -> None:
        """Says that a kernel reads the channels `vector` along `axis`."""
        self._labels.add(variable, axis, vector, "input", self._owner)

    def produce(self, variable: keras.Variable, axis: int = -1, repeats: int = 1) -> np.ndarray:
        """Says that a kernel makes new channels along `axis`; returns their labels, a vector.

        Args:
            variable: the kernel.
            axis: the axis that makes channels.
            repeats: how many positions it takes to make one of the layer's output, such as the four
                gates of an LSTM; the positions for all of the first gate come first.
        """
        return self._labels.produce(variable, axis, self._owner, repeats)

    def makes(
        self, variable: keras.Variable, axis: int, vector: np.ndarray, repeats: int = 1
    ) -> None:
        """Says that a kernel makes the channels `vector`, which another one makes too."""
        self._labels.add(variable, axis, vector, "output", self._owner, repeats)

    def vector(self, variable: keras.Variable | None, vector: np.ndarray, axis: int = 0) -> None:
        """Says that a variable (None: no variable) holds one number per channel along `axis`."""
        if variable is not None:
            self._labels.add(variable, axis, vector, "vector", self._owner)

    def depthwise(self, variable: keras.Variable, axis: int, vector: np.ndarray) -> None:
        """Says that a variable holds one filter per channel along `axis`."""
        self._labels.add(variable, axis, vector, "depthwise", self._owner)

    def holds(self, variable: keras.Variable, owner: Any) -> np.ndarray:
        """Says that a variable of a layer holds numbers per channel along its last axis.

        Args:
            variable: the variable.
            owner: the layer that holds it.

        Returns:
            The labels, a vector.
        """
        labels = self._labels.new(variable.shape[-1])
        return self._labels.add(variable, -1, labels, "vector", owner, named=False)

    def needs(self, vector: np.ndarray) -> None:
        """Says that of these channels, which no tensor of the graph shows, one has to stay."""
        self._labels.inner.append((self._owner, vector))

    def tie(self, a: np.ndarray, b: np.ndarray) -> None:
        """Makes the channels of `a` and `b` one, position by position, with broadcasting."""
        self._labels.tie(a, b)

    def freeze(self, labels: np.ndarray) -> None:
        """Says that these channels may not go."""
        self._labels.freeze(labels)

    def zeros(self, size: int) -> np.ndarray:
        """`size` new labels, of positions that hold nothing but zeros."""
        return self._labels.zeros(size)

    def is_zero(self, labels: np.ndarray) -> np.ndarray:
        """Which of these labels are of positions that hold nothing but zeros."""
        return self._labels.is_zero(labels)

    def constant(self, size: int) -> np.ndarray:
        """`size` new labels that may not go."""
        return self._labels.new(size, frozen=True)

    def untouched(self) -> np.ndarray | list[np.ndarray]:
        """Outputs whose channels may not go; freezes those of the inputs."""
        for labels in self.inputs:
            self.freeze(labels)
        outputs = [
            self.spread(self.constant((s[-1] or 1) if len(s) > 1 else 1), -1, len(s))
            for s in self.output_shapes
        ]
        return outputs if len(outputs) > 1 else outputs[0]
