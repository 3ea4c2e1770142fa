"""Keep mask → the same objects, smaller; in the middle of `fit` if need be."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import keras
import numpy as np

from ptkeras._held_mask import refuse_masks
from ptkeras.channels import ChannelMap, trace
from ptkeras.channels.settling import changes, check
from ptkeras.channels.trial import MismatchError
from ptkeras.surgery.changes import Changes
from ptkeras.surgery.editing import Editor, find_constants
from ptkeras.surgery.functions import refresh_functions
from ptkeras.surgery.holders import Holders
from ptkeras.surgery.optimizers import resize_slots
from ptkeras.surgery.plan import Plan
from ptkeras.surgery.variables import Gate, kept_positions


def reconfigure(
    model: keras.Model,
    keep: Any,
    *,
    channel_map: ChannelMap | None = None,
    gates: Mapping[int, Gate] | None = None,
    exact: bool = True,
) -> keras.Model:
    """Removes channels from a model, in place.

    Every layer, `keras.Variable`, optimizer and slot stays the object that it is, and gets the
    numbers of the channels that are kept: batch-norm statistics and momentum too. Inside `fit` the
    next step runs on the small model. Others that hold the same layers (outer models, trainers,
    feature extractors) follow: their compiled functions are made again, the slots of their
    optimizers get smaller. A `tf.function` or `jax.jit` of your own over the old shapes cannot be
    reached: make it again. If anything is raised on the way, nothing has changed.

    If the parameters of the channels that are removed were zero, the model's outputs are the same
    as before up to rounding. A branch that loses all of its channels leaves the graph; what its
    last bias or batch norm makes of nothing stays, as a `Rescaling` layer.

    Args:
        model: a built Keras model.
        keep: a bool per channel of `ptkeras.channels.trace(model)`; True keeps the channel.
        channel_map: what `trace` returned for `model`, to save tracing it again.
        gates: for channel gating, the `Gate` for the `id` of each layer that keeps fewer channels
            than the tensors that it reads and adds to.
        exact: what `trace` is called with; of no effect beside a `channel_map`.

    Returns:
        `model`.

    Raises:
        ValueError: If the model is not built, `channel_map` is not its own, the mask has another
            shape, drops a frozen channel, or takes every channel of a tensor that the network
            cannot do without; if masks of `ptkeras.MagnitudePruning` are on the model; or if
            another model holds the same layers and could not be called with fewer channels.
    """
    if channel_map is None:
        channel_map = trace(model, exact=exact)
    channel_map.check_model(model)
    keep = channel_map.check_keep(keep)
    gates = gates or {}
    if keep.all() and not gates:
        return model
    refuse_masks(model)
    changes = Changes()
    try:
        with scope_of(model):
            _remove(channel_map, keep, gates, changes, training=True)
            return model
    except BaseException:  # Ctrl-C and a lack of memory too
        changes.undo()
        raise


@contextlib.contextmanager
def without(channel_map: ChannelMap, keep: np.ndarray) -> Iterator[keras.Model]:
    """Context in which a model has lost channels, to look at it; afterwards it has them again.

    Optimizers and compiled functions are left alone: the model is not to be trained meanwhile.

    Args:
        channel_map: the channels of the model.
        keep: a bool per channel.

    Raises:
        ValueError: As `reconfigure` does.
    """
    changes = Changes()
    try:
        with scope_of(channel_map.model):
            if not keep.all():
                _remove(channel_map, channel_map.check_keep(keep), {}, changes, training=False)
        yield channel_map.model
    finally:
        changes.undo()


def _remove(
    channel_map: ChannelMap,
    keep: np.ndarray,
    gates: Mapping[int, Gate],
    changes: Changes,
    training: bool,
) -> None:
    found = find_constants(channel_map, keep, channel_map.graph.models)
    slices = channel_map.slice_of

    def positions(variable: keras.Variable) -> list[np.ndarray]:
        return kept_positions(slices, keep, gates, variable)

    check_code(channel_map, keep)
    plan = Plan(channel_map, keep, positions)
    holders = Holders(channel_map.model, plan)
    plan.apply(changes)
    editor = Editor(channel_map, keep, gates, found, plan.former, changes)
    for graph in channel_map.graph.models:
        if editor.needed(graph):
            editor.edit(graph)
    holders.follow(editor.replaced, changes)
    if not training:
        return
    for optimizer in holders.optimizers:
        resize_slots(optimizer, plan.variables, changes)
    holders.align_optimizers(changes)
    for holder in holders.models:
        refresh_functions(holder, changes)


def check_code(channel_map: ChannelMap, keep: np.ndarray) -> None:
    """Raises a ValueError if code of a layer that was seen through could not run any more."""
    for opened in channel_map.graph.seen_through:
        try:
            if changes(channel_map, opened, keep):
                check(channel_map, opened, keep, channel_map.graph.sized)
        except MismatchError as error:
            layer = opened.layer
            raise ValueError(
                f"'{layer.name}' (a {type(layer).__name__}) could not be called without these "
                f"channels: {error} Keep them, or register a rule for the layer with "
                "ptkeras.channels.register."
            ) from error


def scope_of(model: keras.Model) -> Any:
    """The scope in which the variables of a model are to be made: that of its strategy, if any."""
    strategy = getattr(model, "distribute_strategy", None)
    return contextlib.nullcontext() if strategy is None else strategy.scope()
