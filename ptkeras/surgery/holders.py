"""Whoever else holds the layers of a model: outer models, trainers, feature extractors.

They hold the very layers and variables that get smaller. Graphs of theirs learn the new shapes,
their compiled functions are made again, the slots of their optimizers are resized.
"""

from __future__ import annotations

import gc
import itertools
import warnings
from collections.abc import Iterable, Mapping
from typing import Any

import keras
import numpy as np

from ptkeras.channels import trace
from ptkeras.channels.graph import functional_of, is_graph, nodes_of
from ptkeras.channels.inputs import symbolic_inputs
from ptkeras.channels.leaves import is_leaf
from ptkeras.channels.opening import first_line, open_call
from ptkeras.keras_compat.calls import TENSOR_SHAPE, check_inputs
from ptkeras.keras_compat.graph import output_structure
from ptkeras.keras_compat.optimizers import weights_of
from ptkeras.keras_compat.tracking import flatten_layers
from ptkeras.surgery.changes import Changes
from ptkeras.surgery.editing import adopt
from ptkeras.surgery.functions import refresh_functions
from ptkeras.surgery.optimizers import align, nested
from ptkeras.surgery.plan import Plan, input_size
from ptkeras.surgery.selection import materialise
from ptkeras.surgery.variables import kept_positions


class HolderError(ValueError):
    """A model that holds the same layers could not be called with fewer channels."""


class Holders:
    """The models and optimizers of this process that hold what is going to change.

    Args:
        model: the model that is reconfigured.
        plan: what is going to change.

    Attributes:
        models: those that hold a layer that changes, the model itself among them.
        optimizers: those that serve a variable that changes.
    """

    def __init__(self, model: keras.Model, plan: Plan) -> None:
        self._model = model
        self._plan = plan
        found = _living(keras.Model, keras.optimizers.Optimizer)
        changed = plan.layers.keys() | {id(v) for v in plan.variables}
        self.models = [model]
        self.optimizers = []
        for one in found:
            if isinstance(one, keras.Model):
                if one is not model and _holds(one, changed):
                    self.models.append(one)
            else:
                self.optimizers.append(one)
        own = {id(layer) for layer in flatten_layers(model)}
        # Also those in attributes where Keras does not look for layers.
        own |= {id(opened.layer) for opened in plan.map.graph.seen_through}
        self._outer = [one for one in self.models if id(one) not in own]
        others = [one for one in self._outer if not is_graph(one)]
        self._code = [one for one in others if _error_of(one) is None]
        self._graphs = {id(functional_of(x)) for x in plan.map.graph.models}
        self.plans = [
            own
            for one in self._outer
            if is_graph(one) and id(functional_of(one)) not in self._graphs
            for own in self._own_plan(one)
        ]
        self.optimizers = [one for one in self.optimizers if self._serves(one)]
        inner = {id(x) for one in self.optimizers for x in nested(one) if x is not one}
        self.optimizers = [one for one in self.optimizers if id(one) not in inner]
        self._aligned = [one for one in self.models if _is_aligned(one)]

    def _serves(self, optimizer: keras.optimizers.Optimizer) -> bool:
        """Whether an optimizer serves a variable that changes."""
        plans = (self._plan, *self.plans)
        weights = weights_of(optimizer)
        return any(id(v) in plan.variables for v in weights for plan in plans)

    def _own_plan(self, holder: keras.Model) -> list[Plan]:
        """What becomes of layers of another model that read what is removed: a plan, or none.

        Raises:
            HolderError: If it cannot do without a channel that is removed.
        """
        plan = self._plan
        known = {id(x) for x in plan.map.graph.symbolic}
        own = [n for n in nodes_of(holder) if not all(id(x) in known for x in n.outputs)]
        if not any(
            id(n.operation) in plan.layers or any(id(x) in plan.former for x in n.input_tensors)
            for n in own
        ):
            return []
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                channel_map = trace(holder, exact=plan.map.exact)
        except Exception as error:  # it may be half made, or what an exception left of a model
            raise self._error(holder, first_line(error)) from error
        keep, mine = np.ones(len(channel_map), bool), plan.map.slice_of
        shared = [(r, mine[k]) for k, r in channel_map.slice_of.items() if k in mine]
        for row, other in shared:
            keep[row.channels[~plan.keep[other.channels]]] = False
        for row, other in shared:
            if (plan.keep[other.channels] & ~keep[row.channels]).any():
                raise self._error(holder, f"'{row.variable.path}' would lose more in it.")
        for channel in np.flatnonzero(channel_map.frozen & ~keep).tolist():
            cause = channel_map.causes[channel]
            if cause is not None and cause.kind not in ("input", "output"):
                raise self._error(holder, f"one is {channel_map.why_frozen(channel)}.")
        slices = channel_map.slice_of
        found = Plan(channel_map, keep, lambda v: kept_positions(slices, keep, {}, v))
        for key in plan.variables:
            found.variables.pop(key, None)
        return [found]

    def follow(self, replaced: Mapping[int, Any], changes: Changes) -> None:
        """Gives the graphs of other models the new shapes, and the edits of shared nodes.

        Args:
            replaced: what reads another tensor than before, by the `id` of that.
            changes: the log that undoes it.

        Raises:
            HolderError: If one of them could not be called with the new shapes.
        """
        for holder in self._outer:
            if not is_graph(holder) or id(functional_of(holder)) in self._graphs:
                continue
            try:
                self._follow(functional_of(holder), replaced, changes)
            except Exception as error:  # whatever Keras, or a layer of the user's, says of sizes
                raise self._error(holder, first_line(error)) from error
        for holder in self._code:
            reason = _error_of(holder)
            if reason is not None:
                raise self._error(holder, reason)

    def _error(self, holder: keras.Model, reason: str) -> HolderError:
        return HolderError(
            f"The model '{holder.name}' holds layers of '{self._model.name}' and could not be "
            f"called without these channels: {reason} Keep the channels that it reads, or prune "
            f"'{holder.name}' as a whole."
        )

    def _follow(self, graph: Any, replaced: Mapping[int, Any], changes: Changes) -> None:
        if any(id(x) in replaced for node in nodes_of(graph) for x in node.outputs):
            struct = keras.tree.map_structure(
                lambda x: materialise(replaced.get(id(x), x)), output_structure(graph)
            )
            adopt(graph, keras.tree.flatten(struct), struct, changes)
        own = {id(x) for x in self._plan.map.graph.symbolic}
        learn_shapes(graph, self._plan, own, set(self._plan.former), changes)

    def learn_code(self, changes: Changes) -> None:
        """Gives their new shapes to graphs in the model that its code runs node by node."""
        channel_map, keep = self._plan.map, self._plan.keep
        recorders = {id(o.recorder): o.recorder for o in channel_map.graph.seen_through}
        for recorder in recorders.values():
            for graph, given in recorder.graphs:
                changed = set()
                for tensor, value in zip(graph.inputs, given, strict=True):
                    new = channel_map.kept_shape(keep, value)
                    shape = tuple(
                        n if n is None or a == 0 else new[a] for a, n in enumerate(tensor.shape)
                    )
                    if shape != tuple(tensor.shape):
                        changed.add(id(tensor))
                        changes.set(tensor, TENSOR_SHAPE, shape)
                        for owner, name, size in input_size(tensor, shape):
                            changes.set(owner, name, size)
                learn_shapes(graph, self._plan, set(), changed, changes)

    def align_optimizers(self, changes: Changes) -> None:
        """Takes the weights of layers that have left a graph from the optimizers of its models."""
        for holder in self._aligned:
            align(holder.optimizer, holder.trainable_variables, changes)


def learn_shapes(
    graph: Any, plan: Plan, known: set[int], changed: set[int], changes: Changes
) -> None:
    """Gives the tensors of a graph the shapes that its nodes make now.

    Args:
        graph: a graph.
        plan: what has changed.
        known: the tensors that have their shapes, by `id`.
        changed: those that have other shapes than before.
        changes: the log that undoes it.
    """
    for node in nodes_of(graph):
        if all(id(x) in known for x in node.outputs):
            continue
        reads = any(id(x) in changed for x in node.input_tensors)
        if not reads and id(node.operation) not in plan.layers:
            continue
        for tensor, shape in zip(node.outputs, shapes_of(node), strict=True):
            if shape != tuple(tensor.shape):
                changed.add(id(tensor))
                changes.set(tensor, TENSOR_SHAPE, shape)


def refresh_holders(model: keras.Model) -> None:
    """Makes the compiled functions of a model again, and of those that hold its layers."""
    for holder in holders_of(model):
        refresh_functions(holder)


def holders_of(model: keras.Model) -> list[keras.Model]:
    """Returns the models of this process that hold a layer of a model, itself among them."""
    layers = {id(layer) for layer in flatten_layers(model, include_self=False)}
    return [model, *(x for x in _living(keras.Model) if x is not model and _holds(x, layers))]


def _living(*kinds: type) -> list[Any]:
    """The objects of some classes, and of classes made from them, that this process has."""
    classes = set(kinds)
    for cls in kinds:
        classes |= _subclasses(cls)
    everything = gc.get_objects()
    # All of it in C: a process has objects by the hundred thousand.
    found = itertools.compress(everything, map(classes.__contains__, map(type, everything)))
    return [x for x in found if "_ptkeras_of" not in vars(x)]


def _subclasses(cls: type) -> set[type]:
    found: set[type] = set()
    waiting: list[type] = [cls]
    while waiting:
        subclasses: list[type] = type.__subclasses__(waiting.pop())
        for sub in subclasses:
            if sub not in found:
                found.add(sub)
                waiting.append(sub)
    return found


def _holds(model: keras.Model, changed: Iterable[int]) -> bool:
    try:
        return any(id(layer) in changed for layer in flatten_layers(model))
    except AttributeError:  # one that another thread is only making
        return False


def _is_aligned(model: keras.Model) -> bool:
    """Whether a model's optimizer has the model's trainable variables, in their order."""
    optimizer = getattr(model, "optimizer", None)
    if optimizer is None or not getattr(optimizer, "built", False):
        return False
    own = list(map(id, weights_of(optimizer)))
    return own == list(map(id, model.trainable_variables))


def _error_of(model: keras.Model) -> str | None:
    """Why the `call` of a model cannot be run on symbolic tensors; None if it can."""
    try:
        args, kwargs = symbolic_inputs(model)
        open_call(model, args, kwargs, lambda layer: layer is not model and is_leaf(layer))
    except Exception as error:
        return first_line(error)
    return None


def shapes_of(node: Any) -> list[tuple]:
    """The shapes that the outputs of a node have for the shapes of its inputs now."""
    args, kwargs = node.arguments.args, node.arguments.kwargs
    if isinstance(node.operation, keras.layers.Layer):
        first = args[0] if args else next(iter(kwargs.values()), None)
        check_inputs(node.operation, first)
    outputs = keras.tree.flatten(node.operation.compute_output_spec(*args, **kwargs))
    return [tuple(x.shape) for x in outputs]
