"""What a reconfiguration is going to change: worked out while nothing has changed yet."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np

from ptkeras.channels.channel_map import ChannelMap
from ptkeras.keras_compat.calls import (
    BUILD_SHAPES,
    INPUT_SHAPE,
    INPUT_SPEC,
    TENSOR_SHAPE,
    attribute_behind,
    build_shapes_of,
    input_spec_of,
)
from ptkeras.keras_compat.nodes import AUTO_CONFIG, auto_config, maker_of
from ptkeras.keras_compat.tracking import sublayers
from ptkeras.keras_compat.variables import shape_of
from ptkeras.surgery.changes import Changes
from ptkeras.surgery.editing import set_arguments
from ptkeras.surgery.moves import channel_axis, new_arguments
from ptkeras.surgery.optimizers import Resized
from ptkeras.surgery.resizers import rescaled
from ptkeras.surgery.sizes import Shape, Sizes, new_attributes
from ptkeras.surgery.variables import Gate, fill, take
from ptkeras.utils.arrays import numbers

Positions = Callable[[keras.Variable], "list[np.ndarray]"]


class Plan:
    """The new sizes of everything that a channel map has.

    Args:
        channel_map: the channels of a model.
        keep: a bool per channel.
        positions: returns for each axis of a variable the positions that its new self shows.
        gates: the `Gate` for the `id` of each layer that has one.

    Attributes:
        layers: the layers whose variables or tensors change, by `id`.
        variables: the variables that change, by `id`.
        former: the shapes that symbolic tensors have before the change, by `id`.
    """

    def __init__(
        self,
        channel_map: ChannelMap,
        keep: np.ndarray,
        positions: Positions,
        gates: Mapping[int, Gate] | None = None,
    ) -> None:
        self.gates = gates or {}
        self.map = channel_map
        self.keep = keep
        self.positions = positions
        self.layers: dict[int, Any] = {}
        self.variables: dict[int, Resized] = {}
        self.former: dict[int, tuple] = {}
        self._factors: dict[int, float] = {}
        self._attributes: list[tuple[Any, str, Any]] = []
        self._arguments: list[tuple[Any, tuple]] = []
        self._shapes: list[tuple[Any, tuple]] = []
        self._find_variables()
        self._find_tensors()
        self._find_layers()
        for one in channel_map.graph.sized:
            value = self.new_shape(one.tensor)[one.axis]
            self._attributes.append((one.owner, one.name, value))

    def _find_variables(self) -> None:
        for row in self.map.slices:
            if id(row.variable) not in self.variables:
                found = self.positions(row.variable)
                shape = shape_of(row.variable)
                new = tuple(len(kept) for kept in found)
                if new != shape and 0 not in new:  # a layer without channels leaves the graph
                    self.variables[id(row.variable)] = Resized(row.variable, shape, found)

    def _find_tensors(self) -> None:
        for tensor in self.map.graph.symbolic:
            new = self.map.kept_shape(self.keep, tensor)
            if new != tuple(tensor.shape):
                self.former[id(tensor)] = tuple(tensor.shape)
                self._shapes.append((tensor, new))
                self._attributes += input_size(tensor, new)

    def _find_layers(self) -> None:
        for node in self.map.graph.nodes:
            op = node.operation
            arguments = new_arguments(node, self.kept(node.outputs[0]))
            if arguments is not None:
                self._arguments.append((node, arguments))
            if id(op) in self.layers or not self._changes(node) or self._leaves(node):
                continue
            self.layers[id(op)] = op
            sizes = self.sizes(node)
            self._attributes += new_attributes(op, sizes).assignments()
            self._attributes += _input_shapes(op, node, self._shapes_at(node))
            self._factors |= rescaled(op, sizes)

    def _shapes_at(self, node: Any) -> Callable[[Any], Shape]:
        """The new shapes of the tensors at a node; a gated layer reads and makes fewer channels."""
        gate = self.gates.get(id(node.operation))
        if gate is None:
            return self.new_shape
        sides = {id(x): gate.outputs for x in node.outputs}
        sides |= {id(x): gate.inputs for x in node.input_tensors}

        def shape(tensor: Any) -> Shape:
            kept, new = self.kept(tensor), list(self.new_shape(tensor))
            new[channel_axis(kept)] = int((kept.reshape(-1) & sides[id(tensor)]).sum())
            return tuple(new)

        return shape

    def _leaves(self, node: Any) -> bool:
        """Whether a node loses all of its channels, and so leaves the graph."""
        return all(self.map.is_dead(self.keep, x) for x in node.outputs)

    def _changes(self, node: Any) -> bool:
        tensors = (*node.input_tensors, *node.outputs)
        own = getattr(node.operation, "variables", ())
        return any(id(v) in self.variables for v in own) or any(
            self.new_shape(x) != tuple(x.shape) for x in tensors
        )

    def kept(self, tensor: Any) -> np.ndarray:
        """A bool per position of a tensor, with size 1 along axes that no channel lies along."""
        return self.map.kept(self.keep, self.map.tensors[id(tensor)])

    def new_shape(self, tensor: Any) -> Shape:
        """The shape that a symbolic tensor is going to have."""
        return self.map.kept_shape(self.keep, tensor)

    def sizes(self, node: Any) -> Sizes:
        """What becomes of the operation of a node."""

        def shape(variable: keras.Variable) -> tuple[int, ...]:
            return tuple(len(p) for p in self.positions(variable))

        shape_of = self._shapes_at(node)
        inputs, outputs = (
            [shape_of(x) for x in each] for each in (node.input_tensors, node.outputs)
        )
        kept = [self.kept(x) for x in node.input_tensors]
        return Sizes(shape, inputs, outputs, kept, [tuple(x.shape) for x in node.input_tensors])

    def apply(self, changes: Changes) -> None:
        """Gives variables, layers, nodes and tensors their new sizes."""
        for key, (variable, _, positions) in self.variables.items():
            values = take(numbers(variable), positions)
            factor = self._factors.get(key)
            fill(variable, values if factor is None else values * factor, changes)
        for owner, name, value in self._attributes:
            set_attribute(owner, name, value, changes)
        for node, arguments in self._arguments:
            set_arguments(node, arguments, changes)
        for tensor, shape in self._shapes:
            changes.set(tensor, TENSOR_SHAPE, shape)


def input_size(tensor: Any, shape: Shape) -> list[tuple[Any, str, Any]]:
    """What an `InputLayer` that makes a tensor says of its shape."""
    maker = maker_of(tensor)
    if not isinstance(maker, keras.layers.InputLayer):
        return []
    return [(maker, INPUT_SHAPE, shape)]


def set_attribute(owner: Any, name: str, value: Any, changes: Changes) -> None:
    """Sets an attribute that says a size, also in the config that Keras has of an operation."""
    name = attribute_behind(owner, name)
    changes.set(owner, name, value)
    config = auto_config(owner)
    if config is not None and name in config.config:
        new = copy.copy(config)
        new.config = {**config.config, name: value}
        changes.set(owner, AUTO_CONFIG, new)


def _input_shapes(layer: Any, node: Any, new_shape: Callable) -> list[tuple[Any, str, Any]]:
    """What a layer remembers of the shapes of its inputs: the checks of them, and its build."""
    found = []
    shapes = [new_shape(x) for x in node.input_tensors]
    spec = input_spec_of(layer)
    if spec is not None:
        found.append((layer, INPUT_SPEC, _new_spec(spec, shapes)))
    if former := build_shapes_of(layer):
        new = _new_build_shapes(former, layer, node, new_shape)
        found.append((layer, BUILD_SHAPES, new))
    if isinstance(layer, _HOLDING):
        for inner in sublayers(layer):
            found += _inner_shapes(inner, _shapes_inside(layer, shapes))
    return found


# What builds the layers in it again when it is loaded from a file.
_HOLDING = (
    keras.layers.Wrapper,
    keras.layers.Bidirectional,
    keras.layers.RNN,
    keras.layers.StackedRNNCells,
)


def _shapes_inside(layer: Any, shapes: list[Shape]) -> list[Shape]:
    """What the layers in a wrapper read: one step of what that reads, if it goes over time."""
    if isinstance(layer, (keras.layers.TimeDistributed, keras.layers.RNN)):
        return [(shape[0], *shape[2:]) for shape in shapes]
    return shapes


def _inner_shapes(layer: Any, shapes: list[Shape]) -> list[tuple[Any, str, Any]]:
    """The same for a layer in a wrapper."""
    if isinstance(layer, keras.Model):
        return []
    found = [(layer, BUILD_SHAPES, None)]
    spec = input_spec_of(layer)
    if spec is not None:
        found.append((layer, INPUT_SPEC, _new_spec(spec, shapes)))
    for inner in sublayers(layer):
        found += _inner_shapes(inner, _shapes_inside(layer, shapes))
    return found


def _new_spec(spec: Any, shapes: list[Shape]) -> Any:
    """An `InputSpec`, or several of them, for inputs of other shapes."""
    specs = keras.tree.flatten(spec)
    new = []
    for number, one in enumerate(specs):
        shape = shapes[number] if number < len(shapes) else None
        if shape is not None and one is not None and (one.axes or one.shape):
            one = copy.copy(one)
            one.axes = {a: _known(shape, a, n) for a, n in one.axes.items()}
            if one.shape and len(one.shape) == len(shape):
                one.shape = tuple(_known(shape, a, n) for a, n in enumerate(one.shape))
        new.append(one)
    return keras.tree.pack_sequence_as(spec, new)


def _known(shape: Shape, axis: int, size: int | None) -> int | None:
    """The size of an axis: that of a new shape, where it is known and was asked for before."""
    if size is None or not -len(shape) <= axis < len(shape) or axis == 0:
        return size
    return size if shape[axis] is None else shape[axis]


def _new_build_shapes(
    shapes: Mapping[str, Any], layer: Any, node: Any, new_shape: Callable
) -> dict[str, Any]:
    """The shapes that `build` was called with, for inputs of other shapes."""
    try:
        signature = inspect.signature(layer.call)
        given = signature.bind(*node.arguments.args, **node.arguments.kwargs).arguments
    except TypeError:
        return dict(shapes)
    first = next(iter(given.values()), None)
    result = {}
    for name, old in shapes.items():
        value = given.get(name.removesuffix("_shape"), first if len(shapes) == 1 else None)
        result[name] = _new_shape_like(old, value, new_shape)
    return result


def _new_shape_like(old: Any, value: Any, new_shape: Callable) -> Any:
    if isinstance(value, keras.KerasTensor) and _is_shape(old):
        new = new_shape(value)
        if len(new) != len(old):  # of another call: the channels are last in both
            return type(old)((*old[:-1], _known(new, -1, old[-1])))
        return type(old)(_known(new, axis, n) for axis, n in enumerate(old))
    if isinstance(value, dict) and isinstance(old, dict):
        return {k: _new_shape_like(v, value.get(k), new_shape) for k, v in old.items()}
    several = isinstance(value, (list, tuple)) and isinstance(old, (list, tuple))
    if several and len(value) == len(old):
        pairs = zip(old, value, strict=True)
        return type(old)(_new_shape_like(o, v, new_shape) for o, v in pairs)
    return old


def _is_shape(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and all(n is None or isinstance(n, int) for n in value)
