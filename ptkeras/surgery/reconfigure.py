"""Keep mask → the same objects, smaller; in the middle of `fit` if need be."""

from __future__ import annotations

import contextlib
import gc
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import keras
import numpy as np

from ptkeras.channels import ChannelMap, trace
from ptkeras.channels.graph import is_graph
from ptkeras.channels.opening import OpenedNode
from ptkeras.channels.settling import check, loses_channels
from ptkeras.channels.trial import MismatchError
from ptkeras.surgery.adopt import keep_class
from ptkeras.surgery.changes import Changes
from ptkeras.surgery.clone import clone
from ptkeras.surgery.editing import Editor, find_constants
from ptkeras.surgery.functions import refresh_functions
from ptkeras.surgery.holders import HolderError, Holders
from ptkeras.surgery.optimizers import resize_slots
from ptkeras.surgery.plan import Plan
from ptkeras.surgery.removals import note
from ptkeras.surgery.saving import described_sizes, guard, is_of_user
from ptkeras.surgery.variables import Gate, check_resizable, kept_positions


def reconfigure(
    model: keras.Model,
    keep: Any,
    *,
    channel_map: ChannelMap | None = None,
    gates: Mapping[int, Gate] | None = None,
    exact: bool = True,
    copy: bool = False,
) -> keras.Model:
    """Removes channels from a model, in place or from a copy of it.

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
        copy: whether `model` stays what it is and a smaller copy is returned, with weights of its
            own and, if `model` is compiled, an optimizer and slots of its own.

    Returns:
        `model`, or the copy.

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
    if copy:
        check_resizable(model)
        model, former = copy_of(model), channel_map
        channel_map = trace_like(former, model)
        gates = _gates_of_copy(gates, former, channel_map)
    if keep.all() and not gates:
        return model
    changes = Changes()
    try:
        remove(channel_map, keep, gates, changes)
        return model
    except BaseException:  # Ctrl-C and a lack of memory too
        changes.undo()
        raise


def remove(
    channel_map: ChannelMap, keep: np.ndarray, gates: Mapping[int, Gate], changes: Changes
) -> None:
    """Does what `reconfigure` does; what is raised on the way is the caller's to undo.

    Args:
        channel_map: the channels of the model.
        keep: a bool per channel, checked.
        gates: the `Gate` for the `id` of each layer that has one.
        changes: the log that undoes it.
    """
    check_resizable(channel_map.model)
    with scope_of(channel_map.model):
        with contextlib.suppress(HolderError):
            _remove(channel_map, keep, gates, changes, training=True)
            return
        changes.undo()
        gc.collect()  # it may be a model that nobody holds any more, the error least of all
        _remove(channel_map, keep, gates, changes, training=True)


def copy_of(model: keras.Model) -> keras.Model:
    """Returns a copy of a model, which shares nothing with it that a training changes."""
    with scope_of(model):
        return clone(model)


def trace_like(channel_map: ChannelMap, model: keras.Model) -> ChannelMap:
    """Traces a copy of a traced model: its channels have the same numbers."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the model itself has been warned of
        return trace(model, exact=channel_map.exact, input_shape=channel_map.input_shape)


def _gates_of_copy(
    gates: Mapping[int, Gate], channel_map: ChannelMap, copied: ChannelMap
) -> dict[int, Gate]:
    """The gates of a model's layers for those of its copy."""
    pairs = zip(channel_map.slices, copied.slices, strict=True)
    return {id(b.layer): gates[id(a.layer)] for a, b in pairs if id(a.layer) in gates}


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
    plan = Plan(channel_map, keep, positions, gates)
    holders = Holders(channel_map.model, plan)
    for own in (plan, *holders.plans):
        own.apply(changes)
    keep_savable(channel_map, keep, plan, changes)
    editor = Editor(channel_map, keep, gates, found, plan.former, changes)
    for graph in channel_map.graph.models:
        if editor.needed(graph):
            editor.edit(graph)
    holders.learn_code(changes)
    holders.follow(editor.replaced, changes)
    if not training:
        return
    resized = {key: r for own in (plan, *holders.plans) for key, r in own.variables.items()}
    for optimizer in holders.optimizers:
        resize_slots(optimizer, resized, changes)
    holders.align_optimizers(changes)
    note(channel_map, keep, gates, changes)
    for holder in holders.models:
        refresh_functions(holder, changes)


def keep_savable(channel_map: ChannelMap, keep: np.ndarray, plan: Plan, changes: Changes) -> None:
    """Has layers of the user's say their new sizes when they are saved, or refuse to be."""
    model = channel_map.model
    nodes = {id(n.operation): n for n in channel_map.graph.nodes if not isinstance(n, OpenedNode)}
    layers = {key: node.operation for key, node in nodes.items()}
    if not is_graph(model):
        layers[id(model)] = model
    former = {key: resized.shape for key, resized in plan.variables.items()}
    known = {(id(sized.owner), sized.name) for sized in channel_map.graph.sized}
    for key, layer in layers.items():
        if not is_of_user(layer) or is_graph(layer):
            continue
        if not any(id(v) in plan.variables for v in layer.variables):
            continue
        sizes = described_sizes(layer, former)
        unknown = {name: size for name, size in sizes.items() if (key, name) not in known}
        _describe(layer, unknown, channel_map, keep, changes)
        guard(layer, nodes.get(key), changes)
    for graph in channel_map.graph.models:
        keep_class(graph, changes)


def _describe(
    layer: Any,
    attributes: Mapping[str, int],
    channel_map: ChannelMap,
    keep: np.ndarray,
    changes: Changes,
) -> None:
    """Sets attributes that seem to say the size of a layer, if its code runs with them."""
    former = {name: getattr(layer, name) for name in attributes}
    for name, value in attributes.items():
        changes.set(layer, name, value)
    try:
        for opened in channel_map.graph.seen_through if attributes else ():
            check(channel_map, opened, keep, channel_map.graph.sized)
    except MismatchError:
        for name, value in former.items():
            changes.set(layer, name, value)


def check_code(channel_map: ChannelMap, keep: np.ndarray) -> None:
    """Raises a ValueError if code of a layer that was seen through could not run any more."""
    owners = {id(attribute.owner) for attribute in channel_map.graph.sized}
    for opened in channel_map.graph.seen_through:
        try:
            if id(opened.layer) in owners or loses_channels(channel_map, opened, keep):
                check(channel_map, opened, keep, channel_map.graph.sized)
        except MismatchError as error:
            layer = opened.layer
            raise ValueError(
                f"'{layer.name}' (a {type(layer).__name__}) could not be called without these "
                f"channels: {error} Keep them, or register a rule for the layer with "
                "ptkeras.channels.register."
            ) from error


def scope_of(model: keras.Model) -> contextlib.AbstractContextManager[Any]:
    """The scope in which the variables of a model are to be made: that of its strategy, if any."""
    strategy = getattr(model, "distribute_strategy", None)
    return contextlib.nullcontext() if strategy is None else strategy.scope()
