"""Layers that are one linear map together: a core between rotations, as an earlier pruning left it.

What a 1x1 convolution makes for a single reader may be turned, with the reader, at will; nothing
else in the network sees it. So a rotation in or out that a pruning added is found in the graph, by
what it does and not by its name, and the next pruning merges its own rotation into it.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import keras

from ptkeras import fisher
from ptkeras.channels.graph import functional_of, has_graph, is_graph, nodes_of
from ptkeras.keras_compat.tracking import flatten_layers


@dataclasses.dataclass(frozen=True)
class Chain:
    """A layer that may be pruned in its eigenbasis, and the rotations around it.

    Attributes:
        core: the layer.
        before: the 1x1 layer, without bias and activation, of which the core is the only reader;
            or None.
        behind: the 1x1 layer that alone reads the core, which then has neither bias nor activation;
            or None.
    """

    core: Any
    before: Any = None
    behind: Any = None

    @property
    def layers(self) -> list[Any]:
        """Its layers, in their order."""
        return [x for x in (self.before, self.core, self.behind) if x is not None]

    @property
    def last(self) -> Any:
        """The layer whose bias and activation come last."""
        return self.core if self.behind is None else self.behind


def chains(model: keras.Model) -> list[Chain]:
    """All layers of a model that can be pruned in their eigenbasis, with their rotations.

    Those of `ptkeras.fisher.layers` that the graph of the model calls, without a constraint on the
    kernel, which would hold for another kernel than it was meant for.

    Args:
        model: a Functional or built Sequential model.

    Raises:
        ValueError: If the model has no graph in which layers could be replaced.
    """
    if isinstance(model, keras.Model) and not has_graph(model):
        raise ValueError(
            f"'{model.name}' (a {type(model).__name__}) has a call() of Python code, in which "
            "EigenDamage cannot put layers in the place of others: prune the Functional model "
            "ptkeras.as_functional(model)."
        )
    called: dict[int, Any] = {}
    _find_called(model, called, set())
    inside = {id(x) for op in called.values() for x in flatten_layers(op, include_self=False)}
    found = [
        layer
        for layer in fisher.layers(model)
        if layer.kernel_constraint is None and id(layer) in called and id(layer) not in inside
    ]
    links = _links(model, {id(layer): layer for layer in found})
    taken: set[int] = set()
    before: dict[int, Any] = {}
    behind: dict[int, Any] = {}
    former = {id(reader): layer for layer, reader in links}
    later = {id(layer): reader for layer, reader in links}
    # A core that spans several positions first: of two 1x1 layers in a row either could be it.
    cores = sorted(found, key=lambda layer: places(layer) == 1)
    for core in cores:
        if id(core) in taken:
            continue
        first, last = former.get(id(core)), later.get(id(core))
        if places(core) > 1 and _rotates(first) and id(first) not in taken:
            before[id(core)] = first
            taken.add(id(first))
        if _rotates(last) and id(last) not in taken:
            behind[id(core)] = last
            taken.add(id(last))
        taken.add(id(core))
    sides = {id(x) for x in (*before.values(), *behind.values())}
    return [
        Chain(layer, before.get(id(layer)), behind.get(id(layer)))
        for layer in found
        if id(layer) not in sides
    ]


def places(layer: keras.layers.Layer) -> int:
    """The number of places in the kernel of a layer."""
    return math.prod(layer.kernel.shape[:-2])


def is_linear(layer: keras.layers.Layer) -> bool:
    """Whether a layer's activation changes nothing."""
    return layer.activation in (None, keras.activations.linear)


def _rotates(layer: keras.layers.Layer) -> bool:
    """Whether a layer maps channels to channels, position by position."""
    return layer is not None and places(layer) == 1 and set(getattr(layer, "strides", (1,))) == {1}


def _links(model: keras.Model, candidates: dict[int, Any]) -> list[tuple[Any, Any]]:
    """Pairs of a linear layer and the only layer that reads it, wherever it is called."""
    readers: dict[int, list[Any]] = {}
    nodes: dict[int, list[Any]] = {}
    outputs: set[int] = set()
    _read_graph(model, readers, nodes, outputs, set())
    links = []
    for key, layer in candidates.items():
        if layer.use_bias or not is_linear(layer):
            continue
        made = [tensor for node in nodes[key] for tensor in node.outputs]
        if any(id(tensor) in outputs for tensor in made):
            continue
        reading = [op for tensor in made for op in readers.get(id(tensor), [])]
        reader = reading[0] if len({id(op) for op in reading}) == 1 else None
        if id(reader) not in candidates or not _same_kind(layer, reader):
            continue
        sources = [tensor for node in nodes[id(reader)] for tensor in node.input_tensors]
        if {id(tensor) for tensor in sources} <= {id(tensor) for tensor in made}:
            links.append((layer, reader))
    return links


def _find_called(model: keras.Model, called: dict[int, Any], visited: set[int]) -> None:
    """Adds the layers that graphs call themselves; only those can be replaced."""
    if id(model) in visited:
        return
    visited.add(id(model))
    for node in nodes_of(model):
        if is_graph(node.operation):
            _find_called(node.operation, called, visited)
        elif isinstance(node.operation, keras.layers.Layer):
            called[id(node.operation)] = node.operation


def _read_graph(
    model: keras.Model, readers: dict, nodes: dict, outputs: set[int], visited: set[int]
) -> None:
    if id(model) in visited:
        return
    visited.add(id(model))
    outputs |= {id(tensor) for tensor in functional_of(model).outputs}
    for node in nodes_of(model):
        nodes.setdefault(id(node.operation), []).append(node)
        for tensor in node.input_tensors:
            readers.setdefault(id(tensor), []).append(node.operation)
        if is_graph(node.operation):
            _read_graph(node.operation, readers, nodes, outputs, visited)


def _same_kind(layer: keras.layers.Layer, other: keras.layers.Layer) -> bool:
    """Whether two layers are turned alike: a dense layer and a convolution have other axes."""
    return (
        type(layer) is type(other)
        and getattr(layer, "data_format", None) == getattr(other, "data_format", None)
        and layer.compute_dtype == other.compute_dtype
        and layer.trainable == other.trainable
    )
