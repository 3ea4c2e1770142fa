"""Puts layers in the place of others, in a model that trains on."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any, NamedTuple

import keras
import numpy as np
from keras.src.saving.serialization_lib import SafeModeScope

from ptkeras._collector import held_back
from ptkeras._held_mask import refuse_masks
from ptkeras.channels import trace
from ptkeras.surgery.adopt import adopt
from ptkeras.surgery.initial_values import InitialValues
from ptkeras.surgery.optimizers import carry_over
from ptkeras.surgery.rebuild import Builder, Rebuilt
from ptkeras.surgery.reconfigure import carry_weights, refresh_functions, scope_of


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
    kind: type
    kernel: np.ndarray
    bias: np.ndarray | None
    like: Any


def replace(model: keras.Model, stages: Mapping[int, list[Stage]]) -> keras.Model:
    """Replaces layers of a model by others in a row, in place.

    Like `ptkeras.reconfigure`, it rebuilds the graph and moves it into `model`; all other layers
    keep their numbers and, where the model is compiled, their slots of the optimiser. Slots of the
    new layers begin anew. If anything goes wrong, the model is what it was.

    Args:
        model: a Functional or built Sequential model.
        stages: for the `id` of each layer that goes what takes its place, layers that map one
            tensor to one; an empty list hands on what the layer read.

    Returns:
        `model`.

    Raises:
        ValueError: masks of `ptkeras.MagnitudePruning` are on the model.
    """
    refuse_masks(model)
    if not stages:
        return model
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it tells of channels that stay: here all of them do
        channel_map = trace(model)
    keep = np.ones(len(channel_map), bool)
    with scope_of(model):
        builder = _Replacer(channel_map, stages)
        with held_back(), InitialValues(builder.initial_value) as initial, SafeModeScope(False):
            new = builder.model(model)
        rebuilt = Rebuilt(new, builder.pairs, initial.given)
        renewed = carry_weights(channel_map, keep, {}, rebuilt)
        added = builder.fill()
        adopt(model, new)
        if model.compiled and model.optimizer is not None and model.optimizer.built:
            carry_over(
                model.optimizer,
                model.trainable_variables,
                renewed,
                lambda variable, values, axes: values,
                added,
            )
        refresh_functions(model)
    return model


class _Replacer(Builder):
    """Builds the model as it is, but for the layers that are replaced."""

    def __init__(self, channel_map: Any, stages: Mapping[int, list[Stage]]) -> None:
        super().__init__(channel_map, np.ones(len(channel_map), bool), {})
        self.stages = stages
        self.put: dict[int, list[Any]] = {}

    def visit(self, node: Any, tensors: dict[int, Any]) -> None:
        if id(node.operation) not in self.stages:
            super().visit(node, tensors)
            return
        (value,) = (tensors[id(x)] for x in node.input_tensors)
        for layer in self.row(node.operation, node):
            value = layer(value)
        tensors[id(node.outputs[0])] = value

    def row(self, old: Any, node: Any) -> list[Any]:
        if id(old) not in self.stages:
            return super().row(old, node)
        if id(old) not in self.put:
            self.put[id(old)] = [s.kind.from_config(s.config) for s in self.stages[id(old)]]
            self.made.update({id(layer): layer for layer in self.put[id(old)]})
        return self.put[id(old)]

    def fill(self) -> set[int]:
        """Gives the new layers their numbers; returns the `id`s of their variables."""
        added = set()
        for key, layers in self.put.items():
            for stage, layer in zip(self.stages[key], layers, strict=True):
                layer.kernel.assign(stage.kernel)
                layer.kernel.regularizer = stage.like.kernel.regularizer
                if stage.bias is not None:
                    layer.bias.assign(stage.bias)
                    layer.bias.regularizer = stage.like.bias.regularizer
                added |= {id(variable) for variable in layer.trainable_variables}
        return added
