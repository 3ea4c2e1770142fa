"""The residual blocks of a graph: what a gate may skip."""

from __future__ import annotations

from typing import Any, NamedTuple

import keras

from ptkeras.channels.graph import functional_of, nodes_of
from ptkeras.channels.lone import ADDS, MULTIPLIES
from ptkeras.skipnet.layers import Switch


class Block(NamedTuple):
    """A residual block.

    Attributes:
        add: the node that adds the branch.
        shortcut: the symbolic tensor that enters the block, and is one of what is added.
        branch: the other one.
        nodes: the nodes of the branch, in the order in which they run.
        decision: the gate's symbolic tensor of shape `(batch, 1)`; None where there is no gate.
    """

    add: Any
    shortcut: Any
    branch: Any
    nodes: list[Any]
    decision: Any = None

    @property
    def name(self) -> str:
        """The name of the operation that adds."""
        return self.add.operation.name


class _Graph:
    def __init__(self, model: keras.Model) -> None:
        self.nodes = list(nodes_of(model))
        self.place = {id(node): place for place, node in enumerate(self.nodes)}
        self.maker = {id(x): node for node in self.nodes for x in node.outputs}
        self.readers: dict[int, list[int]] = {}
        for node in self.nodes:
            for x in node.input_tensors:
                self.readers.setdefault(id(x), []).append(id(node))
        for x in functional_of(model).outputs:
            self.readers.setdefault(id(x), []).append(0)

    def between(self, start: Any, end: Any, reader: Any) -> list[Any] | None:
        """The nodes that make `end` of `start` and of nothing else, for `reader` alone, or None."""
        found: dict[int, Any] = {}
        stack = [end]
        while stack:
            tensor = stack.pop()
            if tensor is start:
                continue
            node = self.maker.get(id(tensor))
            if node is None or not node.input_tensors:
                return None
            if id(node) not in found:
                found[id(node)] = node
                stack += node.input_tensors
        allowed = {id(reader), *found}
        for node in found.values():
            if any(r not in allowed for x in node.outputs for r in self.readers.get(id(x), [])):
                return None
        return sorted(found.values(), key=lambda node: self.place[id(node)])


def residual_blocks(model: keras.Model) -> list[Block]:
    """The blocks of a graph whose output is the sum of their input and of a branch.

    The branch reads what enters the block and nothing else, nobody else reads what is inside it,
    and it has weights. A block within which another one lies is left out.

    Args:
        model: a Functional model; nested models are not looked into.
    """
    graph = _Graph(model)
    found = [
        block
        for node in graph.nodes
        if isinstance(node.operation, ADDS)
        and len(node.input_tensors) == 2
        and (block := _block(graph, node)) is not None
    ]
    adds = {id(block.add) for block in found}
    return [block for block in found if not any(id(node) in adds for node in block.nodes)]


def gated_blocks(model: keras.Model) -> list[Block]:
    """The blocks of a graph that have gates, whatever made them: `add_gates`, or `plain`.

    Args:
        model: a Functional model.
    """
    graph = _Graph(model)
    found = []
    for node in graph.nodes:
        if isinstance(node.operation, ADDS) and len(node.input_tensors) == 2:
            for shortcut, product in _both_ways(node.input_tensors):
                block = _gated(graph, node, shortcut, product)
                if block is not None:
                    found.append(block)
    return found


def _block(graph: _Graph, node: Any) -> Block | None:
    for shortcut, branch in _both_ways(node.input_tensors):
        if shortcut is branch or tuple(shortcut.shape) != tuple(branch.shape):
            continue
        nodes = graph.between(shortcut, branch, node)
        if nodes and any(getattr(n.operation, "weights", None) for n in nodes):
            return Block(node, shortcut, branch, nodes)
    return None


def _gated(graph: _Graph, add: Any, shortcut: Any, product: Any) -> Block | None:
    multiply = graph.maker.get(id(product))
    if multiply is None or not isinstance(multiply.operation, MULTIPLIES):
        return None
    if len(multiply.input_tensors) != 2 or graph.readers[id(product)] != [id(add)]:
        return None
    for gate, branch in _both_ways(multiply.input_tensors):
        decision = _decision_of(graph, gate)
        if decision is not None:
            nodes = graph.between(shortcut, branch, multiply)
            return Block(add, shortcut, branch, nodes, decision) if nodes else None
    return None


def _decision_of(graph: _Graph, gate: Any) -> Any:
    """The decision that a tensor of one number an image was reshaped from, None if it is none."""
    while all(size == 1 for size in gate.shape[1:]):
        node = graph.maker.get(id(gate))
        if node is None:
            return None
        if isinstance(node.operation, Switch) or is_plain_switch(node.operation):
            return gate
        if not isinstance(node.operation, keras.layers.Reshape):
            return None
        (gate,) = node.input_tensors
    return None


PLAIN = "_decision"


def is_plain_switch(op: Any) -> bool:
    """Whether an operation is what `plain` has put in the place of a switch."""
    return isinstance(op, keras.layers.ReLU) and op.name.endswith(PLAIN)


def _both_ways(pair: list[Any]) -> list[tuple[Any, Any]]:
    first, second = pair
    return [(first, second), (second, first)]
