"""From the names that a user knows layers by to channels."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any

import keras
import numpy as np

from ptkeras.channels import ChannelMap
from ptkeras.channels.graph import is_graph, nodes_of


def find_layer(channel_map: ChannelMap, name: str) -> Any:
    """The layer with channels that has a name or, in a nested model, a path.

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
    close = difflib.get_close_matches(str(name), names, n=1) or names[:1]
    hint = " or ".join(f"'{n}'" for n in close)
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
    result = {}
    for name in names:
        inner = [] if name in known else [p for p in known if f"/{name}/" in f"/{p}"]
        result |= {p: name for p in inner if p not in alone} if inner else {name: name}
    return result


def paths(model: keras.Model, prefix: str = "") -> dict[int, str]:
    """For the `id` of each layer its name after those of the models and wrappers that it is in."""
    result: dict[int, str] = {}
    for node in nodes_of(model):
        op = node.operation
        path = prefix + op.name
        if is_graph(op):
            inside = paths(op, f"{path}/")
        elif isinstance(op, keras.layers.Layer):
            inner = op._flatten_layers(include_self=False)
            inside = {id(op): path, **{id(x): f"{path}/{x.name}" for x in inner}}
        else:
            inside = {}
        result = inside | result  # a layer that is called twice goes by its first call
    return result


def made_by(channel_map: ChannelMap, layer: Any) -> np.ndarray:
    """The channel of each position of what a layer makes, filters or scales, a vector."""
    for node in getattr(layer, "_inbound_nodes", []):
        labels = channel_map.tensors.get(id(node.outputs[0]))
        if labels is not None:
            return labels.reshape(-1)
    rows = [row for row in channel_map.slices if row.layer is layer and row.role != "input"]
    return max((row.channels for row in rows), key=len, default=np.zeros(0, int))
