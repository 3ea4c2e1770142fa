"""The graph of a model anew, from the edited configs of its layers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import keras
import numpy as np
from keras.src.layers.core.wrapper import Wrapper
from keras.src.ops import numpy as keras_numpy
from keras.src.saving.serialization_lib import SafeModeScope

from ptkeras._collector import held_back
from ptkeras._numbers import numbers
from ptkeras.channels.channel_map import ChannelMap
from ptkeras.channels.graph import Functional, is_graph, nodes_of, operations_between
from ptkeras.surgery import constants
from ptkeras.surgery.constants import Constant, DeadEndError
from ptkeras.surgery.initial_values import InitialValues
from ptkeras.surgery.layers import Sizes, resized_config
from ptkeras.surgery.moves import Ends, channel_axis, remake, with_less_constants
from ptkeras.surgery.selection import ZERO, Selection, materialise, select

HINT = (
    "ptkeras.surgery.register tells how the config of such a layer says its size, and "
    "ptkeras.channels.register what the layer does to channels."
)


class Gate(NamedTuple):
    """Which channels a layer at a shortcut keeps for itself (channel gating).

    Attributes:
        inputs: a bool per position of the kernel's input axis.
        outputs: a bool per position of its output axis.
    """

    inputs: np.ndarray
    outputs: np.ndarray


class Rebuilt(NamedTuple):
    """A smaller model, and where its parts come from.

    Attributes:
        model: the new model.
        layers: pairs of an old layer with variables of its own and its new self.
        carried: the new variables that hold the numbers of the old ones already, by `id`; the
            others are zero.
    """

    model: keras.Model
    layers: list[tuple[Any, Any]]
    carried: dict[int, keras.Variable]


def rebuild(
    channel_map: ChannelMap, keep: np.ndarray, gates: Mapping[int, Gate] | None = None
) -> Rebuilt:
    """Builds a model's graph without the channels that are not in `keep`.

    Args:
        channel_map: the channels of the model.
        keep: a bool per channel.
        gates: the `Gate` for the `id` of each gated layer.

    Raises:
        DeadEndError: a tensor loses all of its channels and what reads it cannot do without.
    """
    builder = Builder(channel_map, keep, gates or {})
    # The configs come from layers of this process: a Lambda may be made from them.
    with held_back(), InitialValues(builder.initial_value) as initial, SafeModeScope(False):
        model = builder.model(channel_map.model)
    return Rebuilt(model, builder.pairs, initial.given)


class Builder:
    """Builds the graph of a model anew, layer by layer; subclasses make some layers otherwise.

    Args:
        channel_map: the channels of the model.
        keep: a bool per channel.
        gates: selections at shortcuts, see `ptkeras.gating`.
    """

    def __init__(
        self, channel_map: ChannelMap, keep: np.ndarray, gates: Mapping[int, Gate]
    ) -> None:
        self.map = channel_map
        self.keep = keep
        self.gates = gates
        self.pairs: list[tuple[Any, Any]] = []
        self.made: dict[int, Any] = {}
        self.former: dict[int, Any] = {}
        self.slices = channel_map.slice_of

    def model(self, old: keras.Model) -> keras.Model:
        """A model or nested model, smaller."""
        if isinstance(old, keras.Sequential):
            self.refuse_dead_ends(old)
            # A layer that was built more than once has nodes of graphs that are gone.
            nodes = {id(node.operation): node for node in nodes_of(old)}
            rows = [self.row(layer, nodes.get(id(layer))) for layer in old._layers]
            layers = [layer for row in rows for layer in row]
            return keras.Sequential(layers, name=old.name, trainable=old.trainable)
        tensors: dict[int, Any] = {}
        for tensor in old.inputs:
            layer = tensor._keras_history.operation
            tensors[id(tensor)] = self.operation(layer, None).output
        for node in nodes_of(old):
            self.visit(node, tensors)

        def found(tensor: Any) -> Any:
            value = tensors[id(tensor)]
            if isinstance(value, Constant):
                raise DeadEndError(value.origin, old.name)
            return materialise(value)

        def named(tensor: Any) -> Any:
            """An output under its old name, which losses and metrics may be keyed by."""
            value, name = found(tensor), tensor._keras_history.operation.name
            if value._keras_history.operation.name == name:
                return value
            return keras.layers.Identity(name=name)(value)

        inputs = keras.tree.map_structure(found, old._inputs_struct)
        outputs = keras.tree.map_structure(named, old._outputs_struct)
        self.name_apart(inputs, outputs)
        return Functional(inputs, outputs, name=old.name, trainable=old.trainable)

    def name_apart(self, inputs: Any, outputs: Any) -> None:
        """Renames operations that surgery added where the model has one of their name already.

        Keras numbers names within a process, so that a model which was loaded from a file may have
        the very names that come next.
        """
        operations = operations_between(inputs, outputs)
        kept = {id(op) for op in self.made.values()}
        taken = {op.name for op in operations if id(op) in kept}
        for op in operations:
            if id(op) not in kept:
                name, number = op.name, 0
                while op.name in taken:
                    number += 1
                    op.name = f"{name}_{number}"
                taken.add(op.name)

    def visit(self, node: Any, tensors: dict[int, Any]) -> None:
        values = [tensors[id(x)] for x in node.input_tensors]
        if all(self.map.is_dead(self.keep, x) for x in node.outputs):
            outputs = [constants.dead(x) for x in node.outputs]
        elif any(isinstance(v, Constant) for v in values):
            outputs = self.fold(node, values)
        elif id(node.operation) in self.gates:
            outputs = [self.gated(node, values[0])]
        elif (moved := remake(self.ends(node, values))) is not None:
            outputs = moved
        else:
            outputs = self.call(node, [materialise(v) for v in values])
        outputs = [
            constants.dead(x) if self.map.is_dead(self.keep, x) else self.checked(node, x, new)
            for x, new in zip(node.outputs, outputs, strict=True)
        ]
        for tensor, value in zip(node.outputs, outputs, strict=True):
            tensors[id(tensor)] = value

    def call(self, node: Any, values: list[Any]) -> list[Any]:
        new = dict(zip(map(id, node.input_tensors), values, strict=True))
        arguments = node.arguments.fill_in(new)
        args, kwargs = with_less_constants(node, arguments, self.kept(node.outputs[0]))
        operation = self.operation(node.operation, node)
        try:
            return keras.tree.flatten(operation(*args, **kwargs))
        except Exception as error:
            kind = type(node.operation)
            if kind.__module__.startswith("keras.") or isinstance(error, DeadEndError):
                raise
            shapes = [tuple(x.shape) for x in values]
            raise ValueError(
                f"'{node.operation.name}' (a {kind.__name__}) cannot be called on its smaller "
                f"inputs, of shapes {shapes}: {HINT}"
            ) from error

    def fold(self, node: Any, values: list[Any]) -> list[Any]:
        """A node that reads a constant: joined to what is live, or a constant itself."""
        op = node.operation
        constant = [v for v in values if isinstance(v, Constant)]
        live = [materialise(v) for v in values if not isinstance(v, Constant)]
        kept = [self.kept(x) for x in node.outputs]
        if live and isinstance(op, (*constants.ADDS, *constants.MULTIPLIES)):
            return [constants.join(node, live, constant, kept[0])]
        if live and isinstance(op, keras.layers.Concatenate | keras_numpy.Concatenate):
            if any(not self.map.is_dead(self.keep, c.tensor) for c in constant):
                raise DeadEndError(constant[0].origin, op.name)
            if len(live) == 1:
                return live
            return [keras.ops.concatenate(live, axis=op.axis)]
        if live or is_graph(op):
            raise DeadEndError(constant[0].origin, op.name)
        by_id = {id(x): v for x, v in zip(node.input_tensors, values, strict=True)}
        return constants.evaluate(node, by_id, kept)

    def gated(self, node: Any, value: Any) -> Any:
        """A layer between a gather of the channels it reads and a scatter of those it makes."""
        gate = self.gates[id(node.operation)]
        (source,), (target,) = node.input_tensors, node.outputs
        if gate.inputs.all():
            read = value
        else:
            kept = self.kept(source)
            axis = channel_axis(kept)
            read = select(value, np.flatnonzero(gate.inputs[kept.reshape(-1)]), axis)
        made = self.call(node, [materialise(read)])[0]
        if gate.outputs.all():
            return made
        kept = self.kept(target)
        shown = gate.outputs[kept.reshape(-1)]
        indices = np.where(shown, np.cumsum(shown) - 1, ZERO)
        return select(made, indices, channel_axis(kept))

    def ends(self, node: Any, values: list[Any]) -> Ends:
        inputs, outputs = (
            [self.kept(x) for x in each] for each in (node.input_tensors, node.outputs)
        )
        shapes = [self.map.kept_shape(self.keep, x) for x in node.outputs]
        return Ends(node, values, inputs, outputs, shapes)

    def checked(self, node: Any, old: Any, new: Any) -> Any:
        """`new`, if it has the shape that the map says."""
        if isinstance(new, (Constant, Selection)):
            return new
        wanted = self.map.kept_shape(self.keep, old)
        if any(a != b for a, b in zip(new.shape, wanted, strict=True) if None not in (a, b)):
            raise ValueError(
                f"The output of '{node.operation.name}' (a {type(node.operation).__name__}) should "
                f"become {wanted}, but it is {tuple(new.shape)}: {HINT}"
            )
        return new

    def refuse_dead_ends(self, model: keras.Sequential) -> None:
        """Layers in a row cannot do without one of them."""
        for node in nodes_of(model):
            for tensor in node.outputs:
                if self.map.is_dead(self.keep, tensor):
                    raise DeadEndError(tensor, model.name)

    def row(self, old: Any, node: Any) -> list[Any]:
        """What stands for a layer of a Sequential model."""
        return [self.operation(old, node)]

    def operation(self, old: Any, node: Any) -> Any:
        """A layer or operation, smaller; made once."""
        if id(old) not in self.made:
            self.made[id(old)] = self.make(old, node)
        return self.made[id(old)]

    def make(self, old: Any, node: Any) -> Any:
        if is_graph(old):
            return self.model(old)
        if not isinstance(old, keras.layers.Layer):
            # Not copy.copy: Keras saves and loads for that, which makes lists of tuples.
            new = object.__new__(type(old))
            vars(new).update(vars(old), _inbound_nodes=[], _outbound_nodes=[])
            return new
        if isinstance(old, keras.layers.InputLayer):
            config = old.get_config()
            config["batch_shape"] = self.map.kept_shape(self.keep, old.output)
            return type(old).from_config(config)
        for inner in self.map.inner:
            if inner.layer is old and self.map.is_dead(self.keep, inner):
                raise DeadEndError(inner, old.name)
        new = self.remade(old, self.sizes(node or old._inbound_nodes[0]))
        new._remat_mode = old._remat_mode
        self.pairs.append((old, new))
        return new

    def remade(self, old: Any, sizes: Sizes) -> Any:
        """A layer made from its edited config; what it wraps is made first."""
        if not isinstance(old, Wrapper):
            new = _remade(old, sizes)
            self.former[id(new)] = old
            return new
        config = old.get_config()
        del config["layer"]
        return type(old)(self.wrapped(old, sizes), **config)

    def wrapped(self, old: Wrapper, sizes: Sizes) -> Any:
        """What a wrapper wraps, smaller; made once, since others may hold it too."""
        inner = old.layer
        if id(inner) not in self.made:
            if is_graph(inner):
                self.made[id(inner)] = self.model(inner)
            else:
                sizes = sizes.within_time() if _has_time(old) else sizes
                self.made[id(inner)] = self.remade(inner, sizes)
                self.pairs.append((inner, self.made[id(inner)]))
        return self.made[id(inner)]

    def sizes(self, node: Any) -> Sizes:
        def shape(variable: keras.Variable) -> tuple[int, ...]:
            return tuple(len(p) for p in self.positions(variable))

        def shapes(tensors: list[Any]) -> list[tuple[int | None, ...]]:
            return [self.map.kept_shape(self.keep, x) for x in tensors]

        kept = [self.kept(x) for x in node.input_tensors]
        return Sizes(shape, shapes(node.input_tensors), shapes(node.outputs), kept)

    def kept(self, tensor: Any) -> np.ndarray:
        return self.map.kept(self.keep, self.map.tensors[id(tensor)])

    def positions(self, variable: keras.Variable) -> list[np.ndarray]:
        return kept_positions(self.slices, self.keep, self.gates, variable)

    def initial_value(self, layer: Any, name: str) -> np.ndarray | None:
        """What a new layer's variable holds of the old one's, told by its name alone."""
        old = self.former.get(id(layer))
        called_so = [v for v in old.variables if v.name == name] if old is not None else []
        if len(called_so) != 1:
            return None
        return take(called_so[0], self.positions(called_so[0]))


def take(variable: keras.Variable, positions: list[np.ndarray]) -> np.ndarray:
    """The numbers of a variable at some positions of each axis."""
    values = numbers(variable)
    for axis, kept in enumerate(positions):
        if len(kept) < values.shape[axis]:
            values = values.take(kept, axis)
    return values


def kept_positions(
    slices: Mapping[tuple[int, int], Any],
    keep: np.ndarray,
    gates: Mapping[int, Gate],
    variable: keras.Variable,
) -> list[np.ndarray]:
    """For each axis of a variable the positions that stay."""
    result = []
    for axis, size in enumerate(variable.shape):
        kept = np.ones(size, bool)
        row = slices.get((id(variable), axis))
        if row is not None:
            kept = keep[row.channels]
            gate = gates.get(id(row.layer))
            if gate is not None:
                kept = kept & (gate.inputs if row.role == "input" else gate.outputs)
        result.append(np.flatnonzero(kept))
    return result


def _has_time(layer: Any) -> bool:
    return isinstance(layer, keras.layers.TimeDistributed)


def _remade(old: Any, sizes: Sizes) -> Any:
    try:
        config = resized_config(old, sizes)
        if type(old) is keras.layers.Lambda:  # its from_config takes a function in bytes alone
            return keras.layers.Lambda(**config)
        return type(old).from_config(config)
    except Exception as error:
        raise ValueError(
            f"'{old.name}' (a {type(old).__name__}) cannot be made again from its own config: "
            f"{error}. What it holds needs a get_config, as for saving the model."
        ) from error
