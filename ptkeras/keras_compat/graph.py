"""Keras's graphs of operations: all of Keras 3.12 to 3.15, where these names are private.

A public way to read and edit the graph of a model would make this module needless.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import keras

# What tells whether a call is symbolic, and sets the mask that Keras hands on with a tensor.
from keras.src.backend.common.keras_tensor import any_symbolic_tensors
from keras.src.backend.common.masking import set_keras_mask

# `keras.Functional` is not exported; `keras.Model(inputs, outputs)` makes one.
from keras.src.models.functional import Functional, functional_like_constructor

# What the constructor of a graph finds its nodes with: an edited graph is put in order by it.
from keras.src.ops.function import _build_map as build_map
from keras.src.ops.function import make_node_key, map_graph

# One call of an operation, and its arguments with the symbolic tensors among them.
from keras.src.ops.node import Node
from keras.src.ops.symbolic_arguments import SymbolicArguments

# What a layer knows its sublayers and variables by; a copy of a layer needs one of its own.
from keras.src.utils.tracking import Tracker

__all__ = [
    "GRAPH_ATTRIBUTES",
    "RUN_THROUGH_GRAPH",
    "Functional",
    "Node",
    "SymbolicArguments",
    "Tracker",
    "any_symbolic_tensors",
    "build_map",
    "functional_like_constructor",
    "graph_of",
    "input_structure",
    "mask_of",
    "new_graph",
    "nodes_in_order",
    "output_structure",
    "renew_node_keys",
    "run_through_graph",
    "sequential_graph",
    "set_keras_mask",
]

# Attributes of a model that are its graph; since Keras 3.0. `output_names` goes with them.
GRAPH_ATTRIBUTES = (
    *("_inputs_struct", "_outputs_struct", "_inputs", "_outputs", "_nodes", "_nodes_by_depth"),
    *("_operations", "_operations_by_depth", "output_names"),
)
# The method that runs the nodes of a graph, for a class that runs them its own way; since 3.0.
RUN_THROUGH_GRAPH = "_run_through_graph"


def sequential_graph(model: Any) -> Any:
    """Returns the Functional model in a Sequential one; None if that is not built, or no such."""
    return getattr(model, "_functional", None)


def graph_of(model: Any) -> Any:
    """Returns the graph in a Sequential model, or else the model itself."""
    return sequential_graph(model) or model


def input_structure(graph: keras.Function) -> Any:
    """Returns the inputs of a graph in the structure that they were given in."""
    return graph._inputs_struct


def output_structure(graph: keras.Function) -> Any:
    """Returns the outputs of a graph in the structure that they were given in."""
    return graph._outputs_struct


def nodes_in_order(graph: keras.Function) -> Iterator[Any]:
    """Yields the nodes of a graph in the order in which they run, those of inputs among them."""
    by_depth = graph._nodes_by_depth
    for depth in sorted(by_depth, reverse=True):
        yield from by_depth[depth]


def new_graph(
    graph: keras.Function, outputs: list[Any], structure: Any
) -> tuple[dict[str, Any], list[Any]]:
    """Returns what a graph is that computes other outputs from the inputs that it has.

    Args:
        graph: the graph, which is not changed.
        outputs: the new outputs.
        structure: the structure that they are returned in.

    Returns:
        The new values of the attributes of the graph by name, and its operations in order.
    """
    nodes, nodes_by_depth, operations, operations_by_depth = map_graph(graph._inputs, outputs)
    attributes = {
        "_outputs_struct": structure,
        "_outputs": outputs,
        "_nodes": nodes,
        "_nodes_by_depth": nodes_by_depth,
        "_operations": operations,
        "_operations_by_depth": operations_by_depth,
    }
    return attributes, operations


def renew_node_keys(graph: keras.Function) -> None:
    """Has a copied graph know its nodes, which it knows by the `id`s of their operations."""
    nodes = nodes_in_order(graph)
    graph._nodes = {make_node_key(n.operation, n.operation._inbound_nodes.index(n)) for n in nodes}


def run_through_graph(
    cls: type, graph: Any, inputs: Any, operation: Callable[[Any], Any], call: Any = None
) -> Any:
    """Runs the nodes of a graph as a class does.

    Args:
        cls: `keras.Function`, or a class made from it.
        graph: the graph.
        inputs: what to run it on.
        operation: returns what to call in place of an operation.
        call: what Keras calls with that and its arguments, or None.
    """
    return getattr(cls, RUN_THROUGH_GRAPH)(graph, inputs, operation, call)


def mask_of(tensor: Any) -> Any:
    """Returns the mask that Keras has set on a symbolic tensor, or None."""
    return getattr(tensor, "_keras_mask", None)
