"""Keep mask → the model, rebuilt in place, in the middle of `fit` if need be."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from ptkeras._held_mask import refuse_masks
from ptkeras.channels import ChannelMap, trace
from ptkeras.surgery.adopt import adopt
from ptkeras.surgery.layers import adjust
from ptkeras.surgery.optimizers import carry_over
from ptkeras.surgery.rebuild import Gate, Rebuilt, kept_positions, rebuild, take


def reconfigure(
    model: keras.Model,
    keep: Any,
    *,
    channel_map: ChannelMap | None = None,
    gates: Mapping[int, Gate] | None = None,
    exact: bool = True,
) -> keras.Model:
    """Removes channels from a model, in place.

    The graph is rebuilt from the configs of the layers, smaller, and moved into `model`; weights,
    batch-norm statistics and, where the model is compiled, every slot of the optimiser keep the
    numbers of the channels that stay. Inside `fit` the next step runs on the small model. Layers
    are new objects: ask `model.get_layer(name)` for them; attributes of the model that hold one, or
    a list, tuple or dict of them, hold the new ones. If anything goes wrong, the model is what
    it was.

    If the parameters of the channels that go were zero, the model's outputs are the same as before
    up to rounding. A branch that loses all of its channels leaves the graph; what its last bias or
    batch norm makes of nothing stays, as a `Rescaling` layer.

    Args:
        model: a Functional or built Sequential model.
        keep: a bool per channel of `ptkeras.channels.trace(model)`; True keeps the channel.
        channel_map: what `trace` returned for `model`, to save tracing it again.
        gates: for channel gating, the `Gate` for the `id` of each layer that keeps fewer channels
            than the tensors that it reads and adds to.
        exact: what `trace` was told; of no effect beside a `channel_map`.

    Returns:
        `model`.

    Raises:
        ValueError: the model has no graph, `channel_map` is not its own, the mask has another
            shape, drops a frozen channel, or takes every channel of a tensor that the network
            cannot do without; or masks of `ptkeras.MagnitudePruning` are on the model.
    """
    if channel_map is None:
        channel_map = trace(model, exact=exact)
    channel_map.check_model(model)
    keep = channel_map.check_keep(keep)
    gates = gates or {}
    if keep.all() and not gates:
        return model
    refuse_masks(model)
    with scope_of(model):
        rebuilt = rebuild(channel_map, keep, gates)
        renewed = carry_weights(channel_map, keep, gates, rebuilt)
        adopt(model, rebuilt.model)
        _refresh_training(model, channel_map, keep, gates, renewed)
    return model


def can_remove(channel_map: ChannelMap, keep: np.ndarray) -> None:
    """Raises what `reconfigure` would raise for a mask; changes nothing.

    Args:
        channel_map: the channels of a model.
        keep: a bool per channel. One that keeps all tells whether the layers can be made again.

    Raises:
        ValueError: `reconfigure` would refuse; a `DeadEndError` where too much would go.
    """
    refuse_masks(channel_map.model)
    with scope_of(channel_map.model):
        rebuild(channel_map, channel_map.check_keep(keep))


def scope_of(model: keras.Model) -> Any:
    """The scope in which the variables of a model are to be made: that of its strategy, if any."""
    strategy = getattr(model, "distribute_strategy", None)
    return contextlib.nullcontext() if strategy is None else strategy.scope()


def _slicer(channel_map: ChannelMap, keep: np.ndarray, gates: Mapping[int, Gate]) -> Any:
    rows = channel_map.slice_of

    def sliced(variable: keras.Variable, values: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
        positions = kept_positions(rows, keep, gates, variable)
        for axis, of in enumerate(axes):
            if len(positions[of]) < values.shape[axis]:
                values = values.take(positions[of], axis)
        return values

    return sliced


def carry_weights(
    channel_map: ChannelMap, keep: np.ndarray, gates: Mapping[int, Gate], rebuilt: Rebuilt
) -> dict[int, keras.Variable]:
    """Copies the weights of old layers into their new selves; returns new variable by old `id`."""
    rows = channel_map.slice_of
    renewed: dict[int, keras.Variable] = {}
    for old, new in rebuilt.layers:
        for before, after in zip(_numbers(old), _numbers(new), strict=True):
            if id(before) in renewed:
                continue
            if id(after) not in rebuilt.carried:
                values = take(before, kept_positions(rows, keep, gates, before))
                _check_shape(old, before, after, values.shape)
                after.assign(values)
            after.regularizer = before.regularizer
            after.constraint = after.constraint or before.constraint
            if after.trainable != before.trainable:
                after.trainable = before.trainable
            renewed[id(before)] = after
        adjust(old, new)
    return renewed


def _numbers(layer: Any) -> list[keras.Variable]:
    """A layer's variables, and the states of stateful recurrent layers, which Keras leaves out."""
    states = [getattr(inner, "states", None) for inner in layer._flatten_layers()]
    kept = (v for v in keras.tree.flatten(states) if isinstance(v, keras.Variable))
    return [*layer.variables, *kept]


def _check_shape(
    layer: Any, before: keras.Variable, after: keras.Variable, shape: tuple[int, ...]
) -> None:
    if shape != tuple(after.shape):
        raise ValueError(
            f"'{before.path}' should become {shape}, but the config of its layer builds "
            f"{tuple(after.shape)}: ptkeras.surgery.register tells how the config of a "
            f"{type(layer).__name__} says its size."
        )


def _refresh_training(
    model: keras.Model,
    channel_map: ChannelMap,
    keep: np.ndarray,
    gates: Mapping[int, Gate],
    renewed: dict[int, keras.Variable],
) -> None:
    """Gives the model an optimiser and compiled functions that know the new weights."""
    if model.compiled and model.optimizer is not None and model.optimizer.built:
        slicer = _slicer(channel_map, keep, gates)
        carry_over(model.optimizer, model.trainable_variables, renewed, slicer)
    refresh_functions(model)


def refresh_functions(model: keras.Model) -> None:
    """Makes the model's compiled functions anew, since they hold on to its former variables."""
    for kind in ("train", "test", "predict"):
        if getattr(model, f"{kind}_function", None) is not None:
            getattr(model, f"make_{kind}_function")(force=True)
