"""A network of another width, with weights of its own: fresh ones, drawn by its initializers."""

from __future__ import annotations

import math
from typing import Any

import keras
import numpy as np

from ptkeras.channels import ChannelMap, trace
from ptkeras.channels.graph import nodes_of
from ptkeras.keras_compat.saving import SafeModeScope
from ptkeras.keras_compat.tracking import (
    flatten_layers,
    own_variables,
    own_weights_to_train,
    sublayers,
    unlocked,
)
from ptkeras.surgery.changes import Changes
from ptkeras.surgery.clone import clone
from ptkeras.surgery.configs import live_config
from ptkeras.surgery.holders import shapes_of
from ptkeras.surgery.plan import Plan
from ptkeras.surgery.reconfigure import reconfigure, scope_of, trace_like
from ptkeras.surgery.variables import kept_positions, take
from ptkeras.utils.arrays import numbers


def fresh(channel_map: ChannelMap, keep: np.ndarray | None = None) -> keras.Model:
    """Returns the network of a map without the channels that are not in `keep`, untrained.

    Args:
        channel_map: the channels of a model, which is not changed.
        keep: a bool per channel; None keeps all.

    Returns:
        A new model, not compiled.

    Raises:
        ValueError: As `ptkeras.reconfigure` does for a mask that it cannot follow.
    """
    with scope_of(channel_map.model):
        model = _double(channel_map.model)
        if keep is not None:
            keep = channel_map.check_keep(keep)
            reconfigure(model, keep, channel_map=trace_like(channel_map, model))
        _draw(model)
    return model


def widen(model: keras.Model, factor: float) -> keras.Model:
    """Returns a network of the same graph whose layers have more channels, untrained.

    All layers whose channels may be removed get `factor` times as many, rounded; those whose
    channels are tied stay so. Channels of two axes, such as those of the heads of an attention,
    stay as many.

    Args:
        model: a built model, which is not changed.
        factor: from 1.

    Returns:
        A new model, not compiled.

    Raises:
        ValueError: If the model has no graph, or an operation of it says sizes that do not grow.
    """
    with scope_of(model):
        new = _double(model)
        channel_map = trace(new)
        try:
            _grow(channel_map, _copies(channel_map, factor))
            _draw(new)
        except Exception as error:
            if factor == 1:
                raise
            raise ValueError(
                f"'{model.name}' cannot be made {factor} times as wide, since an operation in it "
                f"has sizes of its own: choose 1. ({str(error).splitlines()[0]})"
            ) from error
    return new


def scaled_norms(channel_map: ChannelMap) -> keras.Model:
    """Returns the network of a map, untrained, with a scale in every batch norm."""
    with scope_of(channel_map.model):
        model = _double(channel_map.model)
        for layer in flatten_layers(model):
            if isinstance(layer, keras.layers.BatchNormalization) and not layer.scale:
                _add_scale(layer)
        _draw(model)
    return model


def _double(model: keras.Model) -> keras.Model:
    new = clone(model)
    vars(new)["optimizer"], vars(new)["compiled"] = None, False
    return new


def _add_scale(layer: keras.layers.Layer) -> None:
    with unlocked(layer):
        layer.scale = True
        layer.gamma = layer.add_weight(
            shape=layer.moving_mean.shape,
            name="gamma",
            initializer=layer.gamma_initializer,
            regularizer=layer.gamma_regularizer,
            constraint=layer.gamma_constraint,
        )
        # The order in which a layer that is loaded from a file makes its variables.
        own = own_weights_to_train(layer)
        own.insert(0, own.pop())


def _draw(model: keras.Model) -> None:
    """Gives the layers of a model the numbers that their initializers draw."""
    graph = trace(model).graph
    inside = [each.layer for each in graph.seen_through]
    opened = {id(layer) for layer in inside}
    done: set[int] = set()
    for node in graph.nodes:
        layer = node.operation
        own = getattr(layer, "variables", ())
        if id(layer) in opened or not own or done.issuperset(map(id, own)):
            continue
        if isinstance(layer, keras.Model):
            continue
        done.update(map(id, own))
        # What a layer has found in the data is not trained again.
        if hasattr(layer, "adapt") or (sublayers(layer) and not layer.built):
            continue
        for variable, drawn in zip(own, _made_again(layer).variables, strict=True):
            variable.assign(drawn)
            variable.trainable = drawn.trainable  # a search of gates has frozen it
    for layer in inside:
        _draw_own(layer, done)


def _draw_own(layer: keras.layers.Layer, done: set[int]) -> None:
    """Draws the variables that a layer which holds layers has of its own, such as tokens."""
    own = own_variables(layer)
    if done.issuperset(map(id, own)):
        return
    done.update(map(id, own))
    new = _made_again(layer)
    for variable, other in zip(own, own_variables(new), strict=True):
        # Its config may say the width before the change.
        sizes = zip(variable.shape, other.shape, strict=True)
        variable.assign(take(numbers(other), [np.arange(n) % m for n, m in sizes]))
        variable.trainable = other.trainable


def _made_again(layer: keras.layers.Layer) -> keras.layers.Layer:
    try:
        with SafeModeScope(False):  # the configs come from layers of this process
            config = live_config(layer)
            new = type(layer).from_config(config)
            new.build_from_config(layer.get_build_config())
        return new
    except Exception as error:
        raise ValueError(
            f"'{layer.name}' (a {type(layer).__name__}) cannot be made again from its own config: "
            f"{error}. What it holds needs a get_config, as for saving the model."
        ) from error


def _grow(channel_map: ChannelMap, copies: np.ndarray) -> None:
    """Shows each position of a channel as often as the channel has copies."""
    wide = _WideMap(channel_map, copies)
    slices = channel_map.slice_of
    everything = np.ones(len(channel_map), bool)

    def positions(variable: keras.Variable) -> list[np.ndarray]:
        found = kept_positions(slices, everything, {}, variable)
        for axis in range(len(found)):
            row = slices.get((id(variable), axis))
            if row is not None:
                found[axis] = np.repeat(found[axis], copies[row.channels])
        return found

    Plan(wide, everything, positions).apply(Changes())
    for graph in channel_map.graph.models:
        for node in nodes_of(graph):
            for tensor, shape in zip(node.outputs, shapes_of(node), strict=True):
                if any(
                    a != b for a, b in zip(tensor.shape, shape, strict=True) if None not in (a, b)
                ):
                    raise ValueError(f"'{node.operation.name}' makes {shape} of wider inputs")


class _WideMap(ChannelMap):
    def __init__(self, old: ChannelMap, copies: np.ndarray) -> None:
        super().__init__(
            old.model, old.slices, old.causes, old.tensors, old.inner, old.zeros, old.graph
        )
        self.copies = copies

    def kept_shape(self, keep: np.ndarray, tensor: Any) -> tuple[int | None, ...]:
        labels = self.tensors[id(tensor)]
        copies = np.append(self.copies, 1)[labels]
        varying = [axis for axis, n in enumerate(labels.shape) if n > 1]
        shape = list(tensor.shape)
        if len(varying) == 1:
            shape[varying[0]] = int(copies.sum())
        return tuple(shape)


def _copies(channel_map: ChannelMap, factor: float) -> np.ndarray:
    """How often each channel is to be there, spread evenly over the channels of a layer."""
    copies = np.ones(len(channel_map), int)
    free = channel_map.prunable
    for labels in channel_map.tensors.values():
        if sum(n > 1 for n in labels.shape) > 1:
            free[labels[labels >= 0]] = False
    for row in channel_map.slices:
        if row.role != "output":
            continue
        _, first = np.unique(row.channels, return_index=True)
        channels = row.channels[np.sort(first)]
        channels = channels[free[channels]]
        if len(channels) == 1:
            continue  # a tensor of one position does not say along which axis its channel lies
        ends = [math.floor(i * factor + 0.5) for i in range(len(channels) + 1)]
        copies[channels] = np.diff(ends)
        free[channels] = False
    return copies
