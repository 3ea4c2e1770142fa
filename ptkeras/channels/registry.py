"""What a type of layer or operation does to channels: the registry, and what a rule sees."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

if TYPE_CHECKING:
    from ptkeras.channels.labels import Labels

Rule = Callable[["Call"], Any]
_RULES: dict[type, Rule] = {}


def register(*types: type) -> Callable[[Rule], Rule]:
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
        A decorator for a function of one `Call` that returns one label array per output.
    """

    def decorate(rule: Rule) -> Rule:
        for cls in types:
            _RULES[cls] = rule
        return rule

    return decorate


def rule_for(op: Any) -> Rule | None:
    """The rule of the nearest class among the bases of `op`, or None."""
    for cls in type(op).__mro__:
        if cls in _RULES:
            return _RULES[cls] if _speaks_for(cls, type(op)) else None
    return None


def _speaks_for(base: type, cls: type) -> bool:
    """Whether the rule of `base` holds for `cls`: not if somebody gave that a `call` of its own."""
    call = cls.call
    own = call is not getattr(base, "call", None) and not call.__module__.startswith("keras.")
    return cls is base or not own


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
    """

    def __init__(self, labels: Labels, node: Any, inputs: list[np.ndarray]) -> None:
        self._labels = labels
        self.op = node.operation
        self.args = node.arguments.args
        self.kwargs = node.arguments.kwargs
        self.inputs = inputs
        self.shapes = [tuple(x.shape) for x in node.input_tensors]
        self.output_shapes = [tuple(x.shape) for x in node.outputs]

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
        self._labels.add(variable, axis, vector, "input", self.op)

    def produce(self, variable: keras.Variable, axis: int = -1) -> np.ndarray:
        """Says that a kernel makes new channels along `axis`; returns their labels, a vector."""
        return self._labels.produce(variable, axis, self.op)

    def vector(self, variable: keras.Variable | None, vector: np.ndarray, axis: int = 0) -> None:
        """Says that a variable (None: no variable) holds one number per channel along `axis`."""
        if variable is not None:
            self._labels.add(variable, axis, vector, "vector", self.op)

    def depthwise(self, variable: keras.Variable, axis: int, vector: np.ndarray) -> None:
        """Says that a variable holds one filter per channel along `axis`."""
        self._labels.add(variable, axis, vector, "depthwise", self.op)

    def tie(self, a: np.ndarray, b: np.ndarray) -> None:
        """Makes the channels of `a` and `b` one, position by position, with broadcasting."""
        self._labels.tie(a, b)

    def freeze(self, labels: np.ndarray) -> None:
        """Says that these channels may not go."""
        self._labels.freeze(labels)

    def fresh(self, size: int) -> np.ndarray:
        """`size` new labels."""
        return self._labels.new(size)

    def constant(self, size: int) -> np.ndarray:
        """`size` new labels that may not go."""
        return self._labels.new(size, frozen=True)
