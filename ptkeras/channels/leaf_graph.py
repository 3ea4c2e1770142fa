"""The one way from a model to the graph that its cost and its exports are read from."""

from __future__ import annotations

from typing import Any

import keras

from ptkeras.channels import functional
from ptkeras.channels.graph import functional_of, is_graph
from ptkeras.keras_compat.graph import graph_of, sequential_graph
from ptkeras.utils.models import check_model


def outputs_of(model: keras.Model) -> keras.Function:
    """Returns a graph of the outputs of a model: its own, or else that of its leaves.

    Args:
        model: any built model.

    Raises:
        ValueError: As `leaf_graph` does.
    """
    return functional_of(model) if is_graph(model) else leaf_graph(model)


def leaf_graph(model: Any, input_shape: Any = None) -> keras.Function:
    """Returns the graph of a model, whose nodes are layers and `keras.ops` operations.

    Args:
        model: any built model.
        input_shape: shape of one example, for a model whose code computes with sizes.

    Raises:
        ValueError: If the model is not built, or its code cannot be seen through.
    """
    graph = graph_of(model)
    if isinstance(graph, keras.Function) and not isinstance(graph, keras.Model):
        return graph
    check_model(model)
    if isinstance(model, keras.Sequential) and sequential_graph(model) is None:
        raise ValueError(
            f"Sequential model '{model.name}' is not built: call its build(input_shape) first, or "
            "begin it with keras.Input."
        )
    return graph_of(functional.leaf_graph(model, input_shape))
