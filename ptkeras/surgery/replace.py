"""Puts layers in the place of others, in a model that trains on."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any, NamedTuple

import keras
import numpy as np

from ptkeras.channels import trace
from ptkeras.keras_compat.saving import SafeModeScope
from ptkeras.keras_compat.tracking import SUBLAYERS, sublayers
from ptkeras.surgery.changes import Changes
from ptkeras.surgery.editing import Editor
from ptkeras.surgery.functions import refresh_functions
from ptkeras.surgery.reconfigure import scope_of
from ptkeras.surgery.twins import carry_over
from ptkeras.surgery.variables import check_resizable


class Stage(NamedTuple):
    """One of the layers that stand for another.

    Attributes:
        config: what the layer is made from, by `kind.from_config`.
        kind: its class.
        kernel: its numbers.
        bias: those of its bias, None if it has none.
        like: the old layer whose regularizers and `trainable` hold for it too.
    """

    config: dict
    kind: type[Any]
    kernel: np.ndarray
    bias: np.ndarray | None
    like: Any


def replace(model: keras.Model, stages: Mapping[int, list[Stage]]) -> keras.Model:
    """Replaces layers of a model by others in a row, in place.

    All other layers stay the objects that they are, with their slots of the optimizer. Slots of the
    new layers begin at their initial values. If anything is raised, the model is what it was.

    Args:
        model: a Functional or built Sequential model.
        stages: for the `id` of each layer that is removed what takes its place, layers that map one
            tensor to one; an empty list hands on what the layer read.

    Returns:
        `model`.

    Raises:
        ValueError: If masks of `ptkeras.MagnitudePruning` are on the model.
    """
    check_resizable(model)
    if not stages:
        return model
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns of channels that are kept: here all of them are
        channel_map = trace(model)
    changes = Changes()
    try:
        with scope_of(model), SafeModeScope(False):
            replacer = _Replacer(channel_map, stages, changes)
            for graph in channel_map.graph.models:
                if replacer.needed(graph):
                    replacer.edit(graph)
                    replacer.renew_row(graph)
            replacer.fill()
            _carry_slots(model, replacer.added)
            refresh_functions(model, changes)
            return model
    except BaseException:
        changes.undo()
        raise


def _carry_slots(model: keras.Model, added: set[int]) -> None:
    if model.compiled and model.optimizer is not None and model.optimizer.built:
        same = {id(v): v for v in model.trainable_variables if id(v) not in added}
        weights = model.trainable_variables
        carry_over(model.optimizer, weights, same, lambda variable, values, axes: values, added)


class _Replacer(Editor):
    """Edits a graph where layers are replaced, and nowhere else."""

    def __init__(
        self, channel_map: Any, stages: Mapping[int, list[Stage]], changes: Changes
    ) -> None:
        super().__init__(channel_map, np.ones(len(channel_map), bool), {}, {}, {}, changes)
        self.stages = stages
        self.put: dict[int, list[Any]] = {}
        self.added: set[int] = set()

    def needed(self, graph: Any) -> bool:
        return any(id(layer) in self.stages for layer in graph.layers)

    def visit(self, node: Any) -> None:
        if id(node.operation) not in self.stages:
            super().visit(node)
            return
        (tensor,) = node.input_tensors
        value = self.replaced.get(id(tensor), tensor)
        for layer in self.row(node.operation):
            value = layer(value)
        self.replaced[id(node.outputs[0])] = value

    def row(self, old: Any) -> list[Any]:
        """The layers that take the place of one; made once."""
        if id(old) not in self.put:
            self.put[id(old)] = [s.kind.from_config(s.config) for s in self.stages[id(old)]]
        return self.put[id(old)]

    def renew_row(self, graph: Any) -> None:
        """Has a Sequential model hold the new layers."""
        if not isinstance(graph, keras.Sequential):
            return
        rows = [self.put.get(id(layer), [layer]) for layer in sublayers(graph)]
        self.changes.set(graph, SUBLAYERS, [layer for row in rows for layer in row])

    def fill(self) -> None:
        """Gives the new layers their numbers."""
        for key, layers in self.put.items():
            for stage, layer in zip(self.stages[key], layers, strict=True):
                layer.kernel.assign(stage.kernel)
                layer.kernel.regularizer = stage.like.kernel.regularizer
                if stage.bias is not None:
                    layer.bias.assign(stage.bias)
                    layer.bias.regularizer = stage.like.bias.regularizer
                self.added |= {id(variable) for variable in layer.trainable_variables}
