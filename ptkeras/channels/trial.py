"""Whether a user's code follows when channels are removed: it is run with smaller tensors.

A `call` may say sizes by itself: `ops.reshape(x, (-1, self.heads, self.width))`. Some of these
follow (read from a tensor's shape), some are attributes that can be set, and others are written
down. So shadows of the layers run once more, on symbolic tensors of the smaller sizes.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import keras
import numpy as np
from keras.src.ops import numpy as keras_numpy
from keras.src.ops.symbolic_arguments import SymbolicArguments

from ptkeras.channels.opening import Constant, Opened, Recorder, Weight, first_line, record

Shapes = Callable[[Any], "tuple[int | None, ...]"]
_SIZED = (keras_numpy.Reshape, keras_numpy.BroadcastTo, keras_numpy.Tile, keras_numpy.Repeat)


class SizeAttribute(NamedTuple):
    """An attribute of a layer that says how many positions an axis of a tensor has.

    Attributes:
        owner: the layer.
        name: the name of the attribute.
        tensor: the symbolic tensor.
        axis: the axis.
    """

    owner: Any
    name: str
    tensor: Any
    axis: int


class MismatchError(Exception):
    """A user's code does not follow; the message says where."""


def computes_with_numbers(opened: Opened) -> bool:
    """Whether a user's code has numbers in it that could be sizes, or come of them."""
    return any(_numbers(node) or isinstance(node.operation, _SIZED) for node in opened.nodes)


def run_smaller(opened: Opened, shapes: Shapes, attributes: Mapping[tuple[int, str], int]) -> None:
    """Runs the code of a layer with tensors of other sizes.

    Args:
        opened: what the layer is made of.
        shapes: returns the shape that a tensor of `opened` is going to have.
        attributes: new values of attributes, by the `id` of the layer and the name.

    Raises:
        MismatchError: If it ends in an error, or does something else than before.
    """
    inputs = [keras.KerasTensor(shapes(x), dtype=x.dtype, name=x.name) for x in opened.inputs]
    by_id = dict(zip(map(id, opened.inputs), inputs, strict=True))
    arguments = SymbolicArguments(*opened.arguments[0], **opened.arguments[1]).convert(
        lambda x: by_id.get(id(x), x)
    )
    recorder = _Smaller(opened.recorder, shapes, attributes)
    training = _training(opened)
    try:
        outputs, nodes = record(recorder, opened.layer, arguments, inputs, training)
    except MismatchError:
        raise
    except Exception as error:  # whatever the user's code, or Keras in it, says of the sizes
        raise MismatchError(first_line(error)) from error
    _compare(opened, outputs, nodes, shapes)


def _training(opened: Opened) -> dict:
    takes = getattr(opened.layer, "_call_has_context_arg", {}).get("training", False)
    return {"training": False} if takes and "training" not in opened.arguments[1] else {}


class _Smaller(Recorder):
    """Records calls whose layers return tensors of other sizes than theirs."""

    def __init__(self, first: Recorder, shapes: Shapes, attributes: Mapping) -> None:
        super().__init__(first.is_leaf)
        self._first = first
        self._shapes = shapes
        self._new_values = attributes

    def _open_attributes(self, original: Any, own: dict) -> None:
        super()._open_attributes(original, own)
        for (key, name), value in self._new_values.items():
            if key == id(original):
                own[name] = value

    def shadow(self, original: Any) -> Any:
        shadow = super().shadow(original)
        vars(shadow)["_input_spec"] = None  # which says the size that it has had
        return shadow

    def weight(self, variable: keras.Variable, owner: Any) -> Any:
        known = id(variable) in self._weights
        tensor = super().weight(variable, owner)
        former = self._first._weights.get(id(variable))
        if not known and former is not None:
            tensor._shape = self._shapes(former)
        return tensor

    def leaf_outputs(
        self, original: Any, shadow: Any, call: Callable, args: tuple, kwargs: dict
    ) -> Any:
        return self._as_before(original, shadow, args, kwargs)

    def opaque_outputs(self, original: Any, shadow: Any, args: tuple, kwargs: dict) -> Any:
        return self._as_before(original, shadow, args, kwargs)

    def _as_before(self, original: Any, shadow: Any, args: tuple, kwargs: dict) -> Any:
        """What the same call returned, in the sizes that it is going to have."""
        number, calls = len(vars(shadow)["_inbound_nodes"]), self._first.calls_of(original)
        if number >= len(calls):
            raise MismatchError(f"'{original.name}' is called another number of times.")
        node = calls[number]
        given = [x for x in keras.tree.flatten((args, kwargs)) if isinstance(x, keras.KerasTensor)]
        for former, new in zip(node.input_tensors, given, strict=False):
            if tuple(new.shape) != tuple(self._shapes(former)):
                raise MismatchError(f"'{original.name}' is called on the shape {new.shape}.")
        outputs = [
            keras.KerasTensor(self._shapes(x), dtype=x.dtype, name=x.name) for x in node.outputs
        ]
        return outputs[0] if len(outputs) == 1 else outputs


def _compare(opened: Opened, outputs: Any, nodes: list, shapes: Shapes) -> None:
    if [type(n.operation) for n in nodes] != [type(n.operation) for n in opened.nodes]:
        raise MismatchError("it calls other operations.")
    for before, after in zip(opened.nodes, nodes, strict=True):
        for former, new in zip(before.outputs, after.outputs, strict=True):
            if tuple(new.shape) != tuple(shapes(former)):
                raise MismatchError(f"'{after.operation.name}' makes the shape {new.shape}.")
        sized = isinstance(before.operation, (keras.layers.Layer, *_SIZED, Weight))
        if not sized and not _same(_numbers(before), _numbers(after)):
            raise MismatchError(f"'{after.operation.name}' computes with its number.")
    for former, new in zip(
        keras.tree.flatten(opened.outputs), keras.tree.flatten(outputs), strict=True
    ):
        if former is not None and tuple(new.shape) != tuple(shapes(former)):
            raise MismatchError(f"it returns the shape {new.shape}.")


def _numbers(node: Any) -> list[Any]:
    """The numbers that an operation computes with, arrays among them."""
    operation = node.operation
    if isinstance(operation, keras.layers.Layer):
        return []
    if isinstance(operation, Constant):
        return [operation.value]
    own = vars(operation)
    settings = [
        own[k]
        for k in sorted(own)
        if not k.startswith("_") and k not in ("name", "variable", "owner")
    ]
    values = keras.tree.flatten((node.arguments.args, node.arguments.kwargs, settings))
    return [
        v
        for v in values
        if not isinstance(v, (keras.KerasTensor, keras.Variable, str, bool, type(None)))
        and (isinstance(v, (int, float, np.ndarray, np.generic)) or keras.ops.is_tensor(v))
    ]


def _same(before: list, after: list) -> bool:
    if len(before) != len(after):
        return False
    return all(
        np.array_equal(keras.ops.convert_to_numpy(a), keras.ops.convert_to_numpy(b))
        for a, b in zip(before, after, strict=True)
    )


def candidates(
    opened: Opened, former: Mapping[int, list[tuple[Any, int]]]
) -> Iterator[list[SizeAttribute]]:
    """Yields attributes of the layers seen through that may say a size, the likeliest first.

    Args:
        opened: what a layer is made of.
        former: for a size that is going to change the (tensor, axis) that have it.
    """
    found = [
        SizeAttribute(layer, name, *former[value][0])
        for layer in opened.recorder.opened_layers()
        for name, value in vars(layer).items()
        if type(value) is int and value > 1 and value in former
    ]
    for count in range(len(found), 0, -1):
        yield from map(list, itertools.islice(itertools.combinations(found, count), 20))
