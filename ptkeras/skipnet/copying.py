"""A model's graph anew, nested models opened up, with the same weights in layers of its own."""

from __future__ import annotations

from typing import Any

import keras

from ptkeras.channels.graph import Functional, functional_of, given_to, is_graph, nodes_of
from ptkeras.keras_compat.graph import input_structure, output_structure
from ptkeras.keras_compat.nodes import copy_operation, maker_of
from ptkeras.keras_compat.saving import SafeModeScope
from ptkeras.surgery.configs import adjust, live_config
from ptkeras.surgery.reconfigure import scope_of
from ptkeras.utils.arrays import numbers


class Copier:
    """Walks the graph of a model and calls a copy of each layer; subclasses change what they like.

    Layers keep their names; those of nested models are put behind the nested model's where another
    layer has theirs already.
    """

    def __init__(self) -> None:
        self.made: dict[int, Any] = {}
        self.pairs: list[tuple[Any, Any]] = []
        self.names: set[str] = set()
        self.within: list[str] = []

    def copy(self, model: keras.Model, kind: type = Functional) -> keras.Model:
        """The new model.

        Args:
            model: a Functional or built Sequential model; it is not changed.
            kind: the class of the new one, a Functional model.

        Raises:
            ValueError: the model has no graph, or a layer cannot be made again from its config.
        """
        graph = functional_of(model)
        self.names = {op.name for op in graph.operations}
        # The configs come from layers of this process: a Lambda may be made from them.
        with scope_of(model), SafeModeScope(False):
            tensors = {id(x): self.input(x) for x in graph.inputs}
            self.walk(graph, tensors)

            def found(tensor: Any) -> Any:
                return tensors[id(tensor)]

            inputs = keras.tree.map_structure(found, input_structure(graph))
            outputs = keras.tree.map_structure(
                lambda x: self.named(tensors[id(x)], x), output_structure(graph)
            )
            new = kind(inputs, outputs, name=model.name)
            self.carry_weights()
        return new

    def walk(self, graph: keras.Model, tensors: dict[int, Any]) -> None:
        """Runs the nodes of a graph; `tensors` has the new tensor for the `id` of each old one."""
        for node in nodes_of(graph):
            outputs = self.visit(node, tensors)
            tensors.update((id(old), new) for old, new in zip(node.outputs, outputs, strict=True))

    def visit(self, node: Any, tensors: dict[int, Any]) -> list[Any]:
        """The new outputs of a node."""
        op = node.operation
        args, kwargs = node.arguments.fill_in({id(x): tensors[id(x)] for x in node.input_tensors})
        if not is_graph(op):
            return keras.tree.flatten(self.operation(op)(*args, **kwargs))
        graph = functional_of(op)
        given = given_to(graph, args, kwargs)
        inner = {id(x): value for x, value in zip(graph.inputs, given, strict=True)}
        self.within.append(op.name)
        self.walk(graph, inner)
        self.within.pop()
        return [inner[id(x)] for x in graph.outputs]

    def input(self, tensor: Any) -> Any:
        """The new input for an old one."""
        config = maker_of(tensor).get_config()
        return keras.layers.InputLayer.from_config(config).output

    def named(self, new: Any, old: Any) -> Any:
        """An output under its old name, which losses and metrics may be keyed by."""
        op = maker_of(old)
        if maker_of(new).name == op.name:
            return new
        # A nested model, or a block that is left out, has no copy that would have its name.
        name = self.fresh_name(op.name) if id(op) in self.made else op.name
        self.made[id(op)] = identity = keras.layers.Identity(name=name, dtype=new.dtype)
        return identity(new)

    def operation(self, old: Any) -> Any:
        """A layer or operation; made once."""
        if id(old) not in self.made:
            self.made[id(old)] = new = self.make(old)
            if self.within:
                new.name = self.fresh_name(new.name)
        return self.made[id(old)]

    def make(self, old: Any) -> Any:
        """The copy of a layer, untrained yet, or of an operation."""
        if not isinstance(old, keras.layers.Layer):
            return copy_operation(old)
        try:
            new = type(old).from_config(live_config(old))
        except Exception as error:
            raise ValueError(
                f"'{old.name}' (a {type(old).__name__}) cannot be made again from its own config: "
                f"{error}. What it holds needs a get_config, as for saving the model."
            ) from error
        self.pairs.append((old, new))
        return new

    def fresh_name(self, name: str) -> str:
        """`name`, behind that of the nested model or before a number where it is taken."""
        wanted, number = name, 0
        while wanted in self.names:
            number += 1
            wanted = "_".join([*self.within, name] + [str(number - 1)] * (number > 1))
        self.names.add(wanted)
        return wanted

    def carry_weights(self) -> None:
        """Copies the numbers of the old variables, and what hangs on them."""
        for old, new in self.pairs:
            for before, after in zip(old.variables, new.variables, strict=True):
                after.assign(numbers(before))
                after.regularizer = before.regularizer
                if after.trainable != before.trainable:
                    after.trainable = before.trainable
            adjust(old, new)
