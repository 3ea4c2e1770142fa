"""The one way from a model to the graph that its cost and its exports are read from."""

from __future__ import annotations

from typing import Any

import keras


def leaf_graph(model: Any) -> keras.Function:
    """Returns the graph of a model, whose nodes are layers and `keras.ops` operations.

    Args:
        model: A functional or built Sequential model.

    Raises:
        ValueError: If the model is not functional or not built.
    """
    graph = getattr(model, "_functional", None) or model
    if isinstance(graph, keras.Function):
        return graph
    if isinstance(model, keras.Sequential):
        raise ValueError(
            f"Sequential model '{model.name}' is not built: call its build(input_shape) first, or "
            "begin it with keras.Input."
        )
    raise ValueError(
        f"The layers of '{getattr(model, 'name', model)}', a subclassed model "
        f"({type(model).__name__}), cannot be read from its call: make it a functional model, "
        "keras.Model(inputs, outputs)."
    )
