"""Where the variables of a model are, so that they are found again in another object's network."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import keras

from ptkeras.channels.graph import has_graph
from ptkeras.keras_compat.tracking import own_variables, sublayers


def by_place(model: keras.Model) -> dict[str, keras.Variable]:
    """All variables of a model's layers by where they are; of several places the first by name."""
    found: dict[int, tuple[str, keras.Variable]] = {}
    for place, variable in sorted(_ways(model), key=lambda pair: pair[0]):
        found.setdefault(id(variable), (place, variable))
    return dict(found.values())


def _ways(layer: Any, way: str = "") -> Iterator[tuple[str, keras.Variable]]:
    """The ways from a model to its variables.

    Their paths will not do: these depend on who has built the layer, the layer itself in a model
    from a file, or the Sequential around it. In a graph layers go by their names, since the order
    may change; in other layers by their number, since the names may.
    """
    for number, variable in enumerate(own_variables(layer)):
        yield f"{way}/{number}", variable
    for number, inner in enumerate(sublayers(layer)):
        name = inner.name if has_graph(layer) else number
        yield from _ways(inner, f"{way}/{name}")
