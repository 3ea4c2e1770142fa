"""From the names that a user knows layers by to channels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

import keras
import numpy as np

from ptkeras.channels import ChannelMap
from ptkeras.channels.graph import is_graph, nodes_of
from ptkeras.keras_compat.tracking import flatten_layers
from ptkeras.utils.names import close


def find_layer(channel_map: ChannelMap, name: str) -> Any:
    """The layer with channels that has a name or, in a nested model or a layer, a path.

    Raises:
        ValueError: there is none, or there are several.
    """
    layers = {id(row.layer): row.layer for row in channel_map.slices}.values()
    path = paths(channel_map.model)
    found = [x for x in layers if name in (x.name, path.get(id(x)))]
    exact = [x for x in found if path.get(id(x)) == name]
    if len(found) == 1 or len(exact) == 1:
        return (exact or found)[0]
    model = channel_map.model.name
    if found:
        several = ", ".join(f"'{path.get(id(x), x.name)}'" for x in found)
        raise ValueError(f"'{model}' has several layers named '{name}': say which of {several}.")
    names = [layer.name for layer in layers]
    hint = "".join(f"'{n}'" for n in close(name, names) or names[:1])
    raise ValueError(
        f"'{model}' has no layer {name!r} with weights that lie along channels: name one that has, "
        f"such as {hint}."
    )


def layers_meant(channel_map: ChannelMap, names: Iterable[str]) -> dict[str, str]:
    """For each layer that names mean, as a user wrote it or by its path, the name that means it.

    The name of a nested model means all layers with channels in it that no name means by itself.
    """
    path = paths(channel_map.model)
    known = {path[id(row.layer)]: None for row in channel_map.slices if id(row.layer) in path}
    alone = {p for p in known if not {p, p.rpartition("/")[2]}.isdisjoint(names)}
    result: dict[str, str] = {}
    for name in names:
        inner = [] if name in known else [p for p in known if f"/{name}/" in f"/{p}"]
        result |= {p: name for p in inner if p not in alone} if inner else {name: name}
    return result


def paths(model: keras.Model) -> dict[int, str]:
    """For the `id` of each layer its name after those of the models and layers that it is in.

    Of two layers of one path the second has a number after it.
    """
    result: dict[int, str] = {}
    _add_paths(model, "", result, Counter())
    return result


def _add_paths(layer: Any, prefix: str, result: dict[int, str], taken: Counter[str]) -> None:
    for inner in _parts(layer):
        if id(inner) in result:
            continue  # a layer that is called twice goes by its first call
        path = prefix + inner.name
        taken[path] += 1
        if taken[path] > 1:
            path = f"{path}_{taken[path] - 1}"
        result[id(inner)] = path
        _add_paths(inner, f"{path}/", result, taken)


def _parts(layer: Any) -> list[Any]:
    """The layers that a model calls, or that a layer holds, in order."""
    held = flatten_layers(layer, include_self=False, recursive=False)
    if not is_graph(layer):
        return list(held)
    called = [node.operation for node in nodes_of(layer)]
    layers = [op for op in called if isinstance(op, keras.layers.Layer)]
    return [*layers, *held]


def made_by(channel_map: ChannelMap, layer: Any) -> np.ndarray:
    """The channel of each position of what a layer makes, filters or scales, a vector."""
    for node in channel_map.graph.nodes:
        if node.operation is layer:
            return channel_map.tensors[id(node.outputs[0])].reshape(-1)
    rows = [row for row in channel_map.slices if row.layer is layer and row.role != "input"]
    return max((row.channels for row in rows), key=len, default=np.zeros(0, int))
