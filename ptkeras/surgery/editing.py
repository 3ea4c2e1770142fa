"""Edits of a model's graph where fewer channels need other operations: selections, constants.

Most of a graph stays the nodes and tensors that it is, with smaller shapes. A node is edited where
channels are chosen by constant numbers (a slice, a split, a gather), where a branch has lost all of
its channels, and around layers that gate channels; what reads it then reads the edited tensor.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from ptkeras.channels.channel_map import ChannelMap
from ptkeras.channels.graph import functional_of, is_graph, nodes_of, operations_between
from ptkeras.channels.lone import ADDS, JOINS, MULTIPLIES
from ptkeras.keras_compat.calls import TENSOR_SHAPE
from ptkeras.keras_compat.graph import SymbolicArguments, new_graph, output_structure
from ptkeras.keras_compat.nodes import maker_of
from ptkeras.keras_compat.torch_modules import track_parameters
from ptkeras.keras_compat.tracking import ids_of_sublayers, sublayers
from ptkeras.surgery import constants
from ptkeras.surgery.changes import Changes
from ptkeras.surgery.constants import Constant, DeadEndError
from ptkeras.surgery.moves import Ends, channel_axis, chooses, remake
from ptkeras.surgery.selection import ZERO, materialise, select
from ptkeras.surgery.variables import Gate


def find_constants(channel_map: ChannelMap, keep: np.ndarray, graphs: list[Any]) -> dict:
    """Finds what no longer depends on the inputs, and its value, while the weights are whole.

    Args:
        channel_map: the channels of the model.
        keep: a bool per channel.
        graphs: the model and the nested models whose graphs can be edited.

    Returns:
        The `Constant` for the `id` of each symbolic tensor that loses all of its channels, or is
        made of such tensors alone.

    Raises:
        DeadEndError: If what reads such a tensor cannot do without it.
    """
    found: dict[int, Constant] = {}
    for graph in graphs:
        in_a_row = isinstance(graph, keras.Sequential)
        for node in nodes_of(graph):
            _fold(channel_map, keep, node, found, in_a_row and graph.name)
        for tensor in functional_of(graph).outputs:
            if id(tensor) in found:
                raise DeadEndError(found[id(tensor)].origin, graph.name)
    for layer in channel_map.inner:
        if channel_map.is_dead(keep, layer):
            raise DeadEndError(layer, layer.layer.name)
    for tensor, reader in channel_map.graph.opened:
        if channel_map.is_dead(keep, tensor):
            raise DeadEndError(tensor, reader)
    return found


def _fold(
    channel_map: ChannelMap, keep: np.ndarray, node: Any, found: dict[int, Constant], row: Any
) -> None:
    op = node.operation
    dead = [channel_map.is_dead(keep, x) for x in node.outputs]
    constant = [found[id(x)] for x in node.input_tensors if id(x) in found]
    live = [x for x in node.input_tensors if id(x) not in found]
    if row and any(dead):
        raise DeadEndError(node.outputs[dead.index(True)], row)  # layers in a row need each other
    if all(dead):
        found.update((id(x), constants.dead(x)) for x in node.outputs)
        return
    if constant and not live:
        if is_graph(op):
            raise DeadEndError(constant[0].origin, op.name)
        by_id = {id(x): found[id(x)] for x in node.input_tensors}
        kept = [channel_map.kept(keep, channel_map.tensors[id(x)]) for x in node.outputs]
        made = constants.evaluate(node, by_id, kept)
        found.update((id(x), c) for x, c in zip(node.outputs, made, strict=True))
    elif constant and not isinstance(op, (*ADDS, *MULTIPLIES)):
        joins = isinstance(op, JOINS)
        if not joins or any(not channel_map.is_dead(keep, c.tensor) for c in constant):
            raise DeadEndError(constant[0].origin, op.name)
    for tensor, gone in zip(node.outputs, dead, strict=True):
        if gone:
            found[id(tensor)] = constants.dead(tensor)


class Editor:
    """Edits the graphs of a model for a keep mask, after shapes and variables have changed.

    Args:
        channel_map: the channels of the model.
        keep: a bool per channel.
        gates: the `Gate` for the `id` of each gated layer.
        found: what `find_constants` returned.
        shapes: the shapes that symbolic tensors had, by `id`; of others they are what they were.
        changes: the log that undoes it.
    """

    def __init__(
        self,
        channel_map: ChannelMap,
        keep: np.ndarray,
        gates: Mapping[int, Gate],
        found: Mapping[int, Constant],
        shapes: Mapping[int, tuple],
        changes: Changes,
    ) -> None:
        self.map = channel_map
        self.keep = keep
        self.gates = gates
        self.found = found
        self.shapes = shapes
        self.changes = changes
        self.replaced: dict[int, Any] = {}

    def needed(self, graph: Any) -> bool:
        """Whether any node of a graph has to be edited."""
        for node in nodes_of(graph):
            if any(id(x) in self.found for x in (*node.input_tensors, *node.outputs)):
                return True
            if id(node.operation) in self.gates or chooses(self.ends(node)):
                return True
        return False

    def edit(self, graph: Any) -> None:
        """Edits the nodes of one model's graph, and has the model know them."""
        for node in nodes_of(graph):
            self.visit(node)
        functional = functional_of(graph)

        struct = keras.tree.map_structure(self.output, output_structure(functional))
        outputs = keras.tree.flatten(struct)
        self.name_apart(functional, outputs)
        adopt(functional, outputs, struct, self.changes)

    def visit(self, node: Any) -> None:
        if all(id(x) in self.found for x in node.outputs):
            return
        op = node.operation
        if any(id(x) in self.found for x in node.input_tensors):
            self.replaced[id(node.outputs[0])] = self.joined(node)
            return
        values = [self.replaced.get(id(x), x) for x in node.input_tensors]
        if id(op) in self.gates:
            self.gated(node, values[0])
            return
        ends = self.ends(node)._replace(values=values)
        remade = remake(ends)
        if remade is not None:
            for tensor, value in zip(node.outputs, remade, strict=True):
                if id(tensor) not in self.found:
                    self.replaced[id(tensor)] = value
            return
        self.rewire(node, values)

    def rewire(self, node: Any, values: list[Any]) -> None:
        """Has a node read other tensors than it did; its outputs stay the tensors that they are."""
        new = [materialise(v) for v in values]
        if all(a is b for a, b in zip(new, node.input_tensors, strict=True)):
            return
        by_id = dict(zip(map(id, node.input_tensors), new, strict=True))
        set_arguments(node, node.arguments.fill_in(by_id), self.changes)

    def joined(self, node: Any) -> Any:
        """What a node makes of live tensors and of constants."""
        op = node.operation
        constant = [self.found[id(x)] for x in node.input_tensors if id(x) in self.found]
        live = [
            materialise(self.replaced.get(id(x), x))
            for x in node.input_tensors
            if id(x) not in self.found
        ]
        if isinstance(op, (*ADDS, *MULTIPLIES)):
            return constants.join(node, live, constant, self.kept(node.outputs[0]))
        return live[0] if len(live) == 1 else keras.ops.concatenate(live, axis=op.axis)

    def gated(self, node: Any, value: Any) -> None:
        """Puts a layer between a gather of the channels it reads and a scatter of its own."""
        gate = self.gates[id(node.operation)]
        (source,), (target,) = node.input_tensors, node.outputs
        if not gate.inputs.all():
            kept = self.kept(source)
            value = select(value, np.flatnonzero(gate.inputs[kept.reshape(-1)]), channel_axis(kept))
        self.rewire(node, [value])
        if gate.outputs.all():
            return
        kept = self.kept(target)
        shown = gate.outputs[kept.reshape(-1)]
        axis = channel_axis(kept)
        shape = list(target.shape)
        shape[axis] = int(shown.sum())
        self.changes.set(target, TENSOR_SHAPE, tuple(shape))
        indices = np.where(shown, np.cumsum(shown) - 1, ZERO)
        self.replaced[id(target)] = select(target, indices, axis)

    def output(self, tensor: Any) -> Any:
        """An output under its old name, which losses and metrics may be keyed by."""
        value, name = materialise(self.replaced.get(id(tensor), tensor)), maker_of(tensor).name
        if maker_of(value).name == name:
            return value
        return keras.layers.Identity(name=name)(value)

    def ends(self, node: Any) -> Ends:
        inputs, outputs = (
            [self.kept(x) for x in each] for each in (node.input_tensors, node.outputs)
        )
        shape, *_ = [self.former_shape(x) for x in node.input_tensors] or [()]
        former = [self.former_shape(x) for x in node.outputs]
        return Ends(node, list(node.input_tensors), inputs, outputs, shape, former)

    def former_shape(self, tensor: Any) -> tuple[int | None, ...]:
        return self.shapes.get(id(tensor), tuple(tensor.shape))

    def kept(self, tensor: Any) -> np.ndarray:
        return self.map.kept(self.keep, self.map.tensors[id(tensor)])

    def name_apart(self, functional: Any, outputs: list[Any]) -> None:
        """Renames operations that surgery added where the model has one of their name already.

        Keras numbers names within a process, so that a model which was loaded from a file may have
        the very names that come next.
        """
        own = {id(op) for op in functional.operations}
        operations = operations_between(functional.inputs, outputs)
        taken = {op.name for op in operations if id(op) in own}
        for op in operations:
            if id(op) not in own:
                name, number = op.name, 0
                while op.name in taken:
                    number += 1
                    op.name = f"{name}_{number}"
                taken.add(op.name)


def set_arguments(node: Any, arguments: tuple, changes: Changes) -> None:
    """Has a node call its operation on other arguments, given as (args, kwargs)."""
    args, kwargs = arguments
    changes.set(node, "arguments", SymbolicArguments(*args, **kwargs))


def adopt(functional: Any, outputs: list[Any], struct: Any, changes: Changes) -> None:
    """Has a Functional model compute other outputs, of edited nodes, from the inputs it has."""
    former = [op for op in functional.operations if isinstance(op, keras.layers.Layer)]
    attributes, operations = new_graph(functional, outputs, struct)
    for name, value in attributes.items():
        changes.set(functional, name, value)
    new = [op for op in operations if isinstance(op, keras.layers.Layer)]
    _track(functional, former, new, changes)


def _track(functional: Any, former: list[Any], new: list[Any], changes: Changes) -> None:
    """Has a model track the layers of its new graph, in the order of that."""
    if not isinstance(functional, keras.Model):
        return
    in_graph = {id(layer) for layer in (*former, *new)}
    held = sublayers(functional)
    changes.set_list(held, [*new, *(layer for layer in held if id(layer) not in in_graph)])
    ids = ids_of_sublayers(functional)
    changes.on_undo(_refill_set, ids, set(ids))
    ids.clear()
    ids.update(map(id, held))
    if keras.config.backend() == "torch":
        track_parameters(functional)


def _refill_set(values: set, former: set) -> None:
    values.clear()
    values.update(former)
