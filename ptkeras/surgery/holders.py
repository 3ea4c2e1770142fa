"""Whoever else holds the layers of a model: outer models, trainers, feature extractors.

They hold the very layers and variables that get smaller. Graphs of theirs learn the new shapes,
their compiled functions are made again, the slots of their optimizers are resized.
"""

from __future__ import annotations

import gc
from collections.abc import Iterable, Mapping
from typing import Any

import keras

from ptkeras.channels.graph import functional_of, is_graph, nodes_of
from ptkeras.surgery.changes import Changes
from ptkeras.surgery.editing import adopt
from ptkeras.surgery.optimizers import align, nested
from ptkeras.surgery.plan import Plan
from ptkeras.surgery.selection import materialise


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
            elif any(id(v) in plan.variables for v in getattr(one, "_trainable_variables", ())):
                self.optimizers.append(one)
        inner = {id(x) for one in self.optimizers for x in nested(one) if x is not one}
        self.optimizers = [one for one in self.optimizers if id(one) not in inner]
        self._aligned = [one for one in self.models if _is_aligned(one)]
        self._graphs = {id(functional_of(x)) for x in plan.map.graph.models}

    def follow(self, replaced: Mapping[int, Any], changes: Changes) -> None:
        """Gives the graphs of other models the new shapes, and the edits of shared nodes.

        Args:
            replaced: what reads another tensor than before, by the `id` of that.
            changes: the log that undoes it.

        Raises:
            HolderError: If one of them could not be called with the new shapes.
        """
        for holder in self.models:
            if not is_graph(holder) or id(functional_of(holder)) in self._graphs:
                continue
            try:
                self._follow(functional_of(holder), replaced, changes)
            except Exception as error:
                reason = str(error).strip().split("\n")[0]
                raise HolderError(
                    f"The model '{holder.name}' holds layers of '{self._model.name}' and could not "
                    f"be called without these channels: {reason} Keep the channels that it reads "
                    f"(mask them with `keep`), or prune '{holder.name}' as a whole."
                ) from error

    def _follow(self, graph: Any, replaced: Mapping[int, Any], changes: Changes) -> None:
        if any(id(x) in replaced for node in nodes_of(graph) for x in node.outputs):
            struct = keras.tree.map_structure(
                lambda x: materialise(replaced.get(id(x), x)), graph._outputs_struct
            )
            adopt(graph, keras.tree.flatten(struct), struct, changes)
        own = {id(x) for x in self._plan.map.graph.symbolic}
        changed = set(self._plan.former)
        for node in nodes_of(graph):
            if all(id(x) in own for x in node.outputs):
                continue
            reads = any(id(x) in changed for x in node.input_tensors)
            if not reads and id(node.operation) not in self._plan.layers:
                continue
            for tensor, shape in zip(node.outputs, shapes_of(node), strict=True):
                if shape != tuple(tensor.shape):
                    changed.add(id(tensor))
                    changes.set(tensor, "_shape", shape)

    def align_optimizers(self, changes: Changes) -> None:
        """Takes the weights of layers that have left a graph from the optimizers of its models."""
        for holder in self._aligned:
            align(holder.optimizer, holder.trainable_variables, changes)


def holders_of(model: keras.Model) -> list[keras.Model]:
    """Returns the models of this process that hold a layer of a model, itself among them."""
    layers = {id(layer) for layer in model._flatten_layers(include_self=False)}
    return [model, *(x for x in _living(keras.Model) if x is not model and _holds(x, layers))]


def _living(*kinds: type) -> list[Any]:
    """The objects of some classes, and of classes made from them, that this process has."""
    classes = set(kinds)
    for cls in kinds:
        classes |= _subclasses(cls)
    return [x for x in gc.get_objects() if type(x) in classes and "_ptkeras_of" not in vars(x)]


def _subclasses(cls: type) -> set[type]:
    found: set[type] = set()
    waiting: list[type] = [cls]
    while waiting:
        for sub in type.__subclasses__(waiting.pop()):
            if sub not in found:
                found.add(sub)
                waiting.append(sub)
    return found


def _holds(model: keras.Model, changed: Iterable[int]) -> bool:
    try:
        return any(id(layer) in changed for layer in model._flatten_layers())
    except AttributeError:  # one that another thread is only making
        return False


def _is_aligned(model: keras.Model) -> bool:
    """Whether a model's optimizer has the model's trainable variables, in their order."""
    optimizer = getattr(model, "optimizer", None)
    if optimizer is None or not getattr(optimizer, "built", False):
        return False
    own = list(map(id, optimizer._trainable_variables))
    return own == list(map(id, model.trainable_variables))


def shapes_of(node: Any) -> list[tuple]:
    """The shapes that the outputs of a node have for the shapes of its inputs now."""
    args, kwargs = node.arguments.args, node.arguments.kwargs
    if isinstance(node.operation, keras.layers.Layer):
        first = args[0] if args else next(iter(kwargs.values()), None)
        node.operation._assert_input_compatibility(first)
    outputs = keras.tree.flatten(node.operation.compute_output_spec(*args, **kwargs))
    return [tuple(x.shape) for x in outputs]
