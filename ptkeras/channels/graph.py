"""The one place that reads Keras's graph of a model: its nodes, in the order in which they run."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import keras

from ptkeras.keras_compat.graph import (
    Functional,
    build_map,
    input_structure,
    nodes_in_order,
    sequential_graph,
)
from ptkeras.utils.models import check_model

__all__ = [
    "Functional",
    "functional_of",
    "given_to",
    "has_graph",
    "is_graph",
    "nodes_of",
    "operations_between",
]


def has_graph(model: Any) -> bool:
    """Whether `model` knows which layers it is made of: Functional or Sequential, built or not.

    It may have a `call` of its own, which does something else with them; see `is_graph`.
    """
    return isinstance(model, Functional | keras.Sequential)


def is_graph(layer: Any) -> bool:
    """Whether `layer` is a model that computes what its graph says, so that it can be walked.

    More than `has_graph`: a Sequential has to be built, and neither a subclass nor the object must
    have a `call` of its own, which may do more than its graph.
    """
    if not has_graph(layer) or "call" in vars(layer):
        return False
    if not type(layer).call.__module__.startswith("keras."):
        return False
    return not isinstance(layer, keras.Sequential) or sequential_graph(layer) is not None


def functional_of(model: keras.Model) -> Functional:
    """The functional graph of a Functional or a built Sequential model.

    Args:
        model: a Keras model.

    Raises:
        ValueError: `model` is no Keras model, is not built, or is a subclass of `keras.Model` whose
            `call` is Python code, so that there is no graph to read.
    """
    check_model(model)
    if isinstance(model, keras.Sequential):
        graph = sequential_graph(model)
        if graph is None:
            raise ValueError(
                f"The Sequential model '{model.name}' is not built, so it has no channels yet: "
                "give it a keras.Input as its first layer, or call model.build(input_shape)."
            )
        return graph
    if isinstance(model, Functional):
        return model
    raise ValueError(
        f"The model '{model.name}' (a {type(model).__name__}) is a subclass of keras.Model whose "
        "call() is Python code, so there is no graph of layers to prune: build it with the "
        "functional API, keras.Model(inputs, outputs)."
    )


def given_to(graph: keras.Function, args: tuple, kwargs: dict) -> list[Any]:
    """What a nested model is called on, in the order of its graph's inputs.

    Args:
        graph: the graph of the nested model.
        args: what its node calls it with.
        kwargs: the same by name.

    Returns:
        A symbolic tensor, an array, or None (an optional input left out) per input.
    """
    given = args[0] if args else kwargs["inputs"]
    if isinstance(given, dict) and not isinstance(input_structure(graph), dict):
        return [given[x.name] for x in graph.inputs]
    return keras.tree.flatten(given)


def nodes_of(model: keras.Model) -> Iterator[Any]:
    """The nodes of a model's graph in the order in which they run, input layers left out."""
    for node in nodes_in_order(functional_of(model)):
        if node.operation is not None and not node.is_input:
            yield node


def operations_between(inputs: Any, outputs: Any) -> list[Any]:
    """The layers and operations that lie between symbolic tensors, each once."""
    return list(build_map(keras.tree.flatten(inputs), keras.tree.flatten(outputs))[1])
