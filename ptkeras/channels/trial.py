"""Whether a user's code follows when channels are removed: it is run with smaller tensors.

A `call` may say sizes by itself: `ops.reshape(x, (-1, self.heads, self.width))`. Some of these
follow (read from a tensor's shape), some are attributes that can be set, and others are written
down. So shadows of the layers run once more, on symbolic tensors of the smaller sizes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np

from ptkeras.channels.opening import (
    Constant,
    Opened,
    OpenedNode,
    Recorder,
    Weight,
    copied,
    first_line,
    forget_masks,
    tensors_in,
)
from ptkeras.keras_compat.calls import INPUT_SPEC
from ptkeras.keras_compat.operations import keras_core, keras_numpy

Shapes = Callable[[Any], "tuple[int | None, ...]"]
_SIZED = (
    keras_core.Slice,
    keras_numpy.Reshape,
    keras_numpy.BroadcastTo,
    keras_numpy.Tile,
    keras_numpy.Repeat,
)


class MismatchError(Exception):
    """A user's code does not follow; the message says where."""


def run_smaller(
    opened: Opened,
    shapes: Shapes,
    attributes: Mapping[tuple[int, str], int | None],
    kind: type[Smaller] | None = None,
) -> list[OpenedNode]:
    """Runs the code of a layer with tensors of other sizes.

    Args:
        opened: what the layer is made of.
        shapes: returns the shape that a tensor of `opened`, or a variable, is going to have.
        attributes: new values of attributes, by the `id` of the layer and the name.
        kind: the class of what records it, `Smaller` if None.

    Returns:
        The new node for each node of `opened`.

    Raises:
        MismatchError: If it ends in an error, or does something else than before.
    """
    recorder = (kind or Smaller)(opened, shapes, attributes)
    try:
        new = recorder.run(opened.layer, *opened.arguments, opened.training)
    except MismatchError:
        raise
    except Exception as error:  # whatever the user's code, or Keras in it, says of the sizes
        raise MismatchError(first_line(error)) from error
    _compare(opened, new, shapes)
    return new.nodes


class Smaller(Recorder):
    """Records calls whose layers return tensors of other sizes than theirs."""

    def __init__(self, opened: Opened, shapes: Shapes, attributes: Mapping) -> None:
        super().__init__(opened.recorder.is_leaf)
        self._former = opened
        self._shapes = shapes
        self._new_values = attributes

    def _closed_shape(self, tensor: Any) -> tuple[int | None, ...]:
        return self._shapes(tensor)

    def _open_attributes(self, original: Any, own: dict) -> None:
        super()._open_attributes(original, own)
        for (key, name), value in self._new_values.items():
            if key == id(original):
                own[name] = value

    def shadow(self, original: Any) -> Any:
        shadow = super().shadow(original)
        vars(shadow)[INPUT_SPEC] = None  # which says the size that it has had
        if isinstance(original, keras.layers.Layer) and self.is_leaf(original):
            vars(shadow).update(self._sizes_of_leaf(original))
        return shadow

    def _sizes_of_leaf(self, original: Any) -> dict[str, int | None]:
        """Attributes of a leaf that seem to say a size that changes, such as its `units`.

        Code may read them. One that only happens to be as large costs compression at most.
        """
        calls = self._former.calls.get(id(original), ())
        made = [x for call in calls for x in call.results]
        shapes = [(v.shape, self._weight_shape(v)) for v in original.variables]
        shapes += [(x.shape, self._shapes(x)) for x in made]  # which are the likelier ones
        pairs = [pair for shape in shapes for pair in zip(*shape, strict=True)]
        changed = {old: new for old, new in pairs if old != new}
        own = vars(original).items()
        return {
            name: changed[value]
            for name, value in own
            if type(value) is int and value in changed and name not in ("axis", "rank")
        }

    def _weight_shape(self, variable: keras.Variable) -> tuple[int | None, ...]:
        return self._shapes(variable)

    def inner_call(
        self, original: Any, shadow: Any, call: Callable, args: tuple, kwargs: dict
    ) -> Any:
        """What the same call returned, in the sizes that it is going to have."""
        number = len(self._calls[-1].get(id(original), ()))
        calls = self._former.calls.get(id(original), ())
        if number >= len(calls):
            raise MismatchError(f"'{original.name}' is called another number of times.")
        former = calls[number]
        before, after = (keras.tree.flatten(x) for x in (former.arguments, (args, kwargs)))
        if not _fits(before, after, self._shapes):
            given = [tuple(x.shape) for x in tensors_in(after)]
            wanted = [tuple(self._shapes(x)) for x in tensors_in(before)]
            raise MismatchError(f"'{original.name}' is called on {given} instead of {wanted}.")
        if isinstance(original, keras.layers.MultiHeadAttention):
            forget_masks(args, kwargs)
        known = {id(x) for x in former.results}
        return copied(former.outputs, self._shapes, lambda mask: id(mask) in known)[0]


def _fits(before: list, after: list, shapes: Shapes) -> bool:
    """Whether arguments are those from before, in the sizes that they are going to have."""
    pairs = list(zip(tensors_in(before), tensors_in(after), strict=False))
    if len(pairs) < max(len(tensors_in(before)), len(tensors_in(after))):
        return False
    if any(tuple(new.shape) != tuple(shapes(former)) for former, new in pairs):
        return False
    return _same(_numbers_among(before), _numbers_among(after))


def _compare(opened: Opened, smaller: Opened, shapes: Shapes) -> None:
    if [type(n.operation) for n in smaller.nodes] != [type(n.operation) for n in opened.nodes]:
        raise MismatchError("it calls other operations.")
    for before, after in zip(opened.nodes, smaller.nodes, strict=True):
        for former, new in zip(before.outputs, after.outputs, strict=True):
            if tuple(new.shape) != tuple(shapes(former)):
                raise MismatchError(f"'{after.operation.name}' makes the shape {new.shape}.")
        sized = isinstance(before.operation, (keras.layers.Layer, *_SIZED, Weight))
        if not sized and not _same(_numbers(before), _numbers(after)):
            raise MismatchError(f"'{after.operation.name}' computes with its number.")
    for former, new in zip(opened.results, smaller.results, strict=True):
        if tuple(new.shape) != tuple(shapes(former)):
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
    return _numbers_among(values)


def _numbers_among(values: list) -> list[Any]:
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
