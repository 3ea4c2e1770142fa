"""Walks a model's graph and finds its channels."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import keras
import numpy as np

from ptkeras.channels import (  # noqa: F401  (they fill the registry)
    choices,
    rules,
    rules_attention,
    rules_contract,
    rules_merge,
    rules_moves,
    rules_norm,
    rules_preprocessing,
    rules_recurrent,
    rules_weights,
    rules_wrappers,
)
from ptkeras.channels.channel_map import Cause, ChannelMap, Graph, Inner
from ptkeras.channels.elementwise import nature_of_node
from ptkeras.channels.graph import functional_of, given_to, is_graph, nodes_of
from ptkeras.channels.inputs import symbolic_inputs
from ptkeras.channels.labels import Labels
from ptkeras.channels.leaves import is_changed, is_leaf
from ptkeras.channels.lone import freeze_lone
from ptkeras.channels.opening import (
    OpaqueError,
    Opened,
    OpenedNode,
    open_call,
    outputs_for,
    tensors_in,
)
from ptkeras.channels.registry import Call, Rule, rule_for
from ptkeras.channels.settling import settle
from ptkeras.channels.widths import freeze_widths
from ptkeras.utils.garbage import held_back
from ptkeras.utils.models import check_model
from ptkeras.utils.progress import bar


def trace(model: keras.Model, *, exact: bool = True, input_shape: Any = None) -> ChannelMap:
    """Finds the channels of a model.

    Every tensor of the graph carries a label per position of its channel axis. Layers with a kernel
    make new labels, others hand them on, adding two tensors ties their labels; tied labels are one
    channel. Nested models are walked too, and what is called twice is tied to itself. Nothing of
    the model is run or changed.

    Args:
        model: a Functional or built Sequential model; subclasses of `keras.Model` that were built
            functionally count as such.
        input_shape: shape of one example, for a model whose `call` is Python code and that leaves
            sizes open or was built for others.
        exact: whether channels are frozen that enter a normalisation over channels
            (`LayerNormalization`, `RMSNormalization`, within a group of `GroupNormalization`):
            even where such a channel is zero, the others are divided by another number without
            it. With False they may go, and the model's outputs change a little. Of a
            `GroupNormalization` whole groups may go if `exact`; else the same channels of every
            group.

    Returns:
        The `ChannelMap` of the model.

    Raises:
        ValueError: the model is not built or has no graph.
    """
    check_model(model)
    with held_back(), bar(f"Tracing '{model.name}'", _size(model, set())) as step:
        return Tracer(model, exact, input_shape, step).run()


def _size(model: keras.Model, counted: set[int]) -> int:
    """How many nodes are visited: those of a nested model once, however often it is called."""
    if id(model) in counted:
        return 0
    counted.add(id(model))
    if not is_graph(model):
        return 0
    nodes = list(nodes_of(model))
    return len(nodes) + sum(_size(n.operation, counted) for n in nodes if is_graph(n.operation))


class Tracer:
    """One walk through a model; see `trace` for the arguments."""

    def __init__(
        self, model: keras.Model, exact: bool, input_shape: Any, step: Callable[[], None]
    ) -> None:
        self.model = model
        self.input_shape = input_shape
        self.exact = exact
        self.step = step
        self.labels = Labels()
        self.tensors: dict[int, np.ndarray] = {}
        self.zeros: dict[int, bool] = {}
        self.walked: dict[int, Any] = {}
        self.nodes: list[Any] = []
        self.symbolic: list[Any] = []
        self.opened: list[tuple[Any, str]] = []
        self.seen_through: list[Opened] = []
        self.true: dict[int, Any] = {}  # for tensors with shapes that are wrong
        self.reasons: dict[int, str] = {}
        self.warned: set[int] = set()

    def run(self) -> ChannelMap:
        """Walks the model, and returns its channels."""
        outputs = self.run_graph() if is_graph(self.model) else self.run_code()
        for output in outputs:
            self.labels.cause = Cause("output", output)
            self.labels.freeze(self.tensors[id(output)])
        found = self.channel_map()
        while ties := settle(found, self.seen_through):
            channel = self.labels.channels()[0]
            for one, other in ties:
                self.labels.tie(*(_labels_of(channel, own) for own in (one, other)))
            found = self.channel_map()
        freeze_lone(found)
        return found

    def run_graph(self) -> list[Any]:
        """Walks a model that has a graph; returns its outputs."""
        graph = functional_of(self.model)
        inputs = []
        for tensor in graph.inputs:
            self.labels.cause = Cause("input", tensor)
            inputs.append(self.frozen_labels(tensor))
        self.walk(self.model, inputs, zeros=True)  # what never goes may count as zero where it goes
        return graph.outputs

    def run_code(self) -> list[Any]:
        """Walks what a model's `call` does; returns its outputs."""
        args, kwargs = symbolic_inputs(self.model, self.input_shape)
        try:
            opened = open_call(self.model, args, kwargs, self.is_leaf_inside)
        except OpaqueError as error:
            raise ValueError(
                f"'{self.model.name}' (a {type(self.model).__name__}) cannot be seen through: "
                f"{error} Build it with the functional API, keras.Model(inputs, outputs)."
            ) from error
        for _, tensor in opened.inputs:
            self.labels.cause = Cause("input", tensor)
            self.tensors[id(tensor)] = self.frozen_labels(tensor)
            self.zeros[id(tensor)] = True
        self.visit_opened(opened)
        return tensors_in(opened.outputs)

    def is_leaf_inside(self, layer: Any) -> bool:
        return layer is not self.model and is_leaf(layer)

    def visit_opened(self, opened: Opened) -> None:
        self.seen_through.append(opened)
        for own, given in opened.inputs:
            if id(given) in self.tensors:
                self.tensors[id(own)] = self.tensors[id(given)]
                self.zeros[id(own)] = self.zeros[id(given)]
            else:  # a mask that nothing else reads
                self.tensors[id(own)] = self.frozen_labels(own)
                self.zeros[id(own)] = False
        for inner in opened.nodes:
            if inner.reason is not None:
                self.reasons[id(inner.operation)] = inner.reason
            self.visit(inner, within=opened.layer)
        if (training := opened.in_training) is not None:
            self.visit_opened(training)
            pairs = zip(tensors_in(opened.outputs), tensors_in(training.outputs), strict=True)
            for one, other in pairs:
                self.labels.tie(self.tensors[id(one)], self.tensors[id(other)])

    def channel_map(self) -> ChannelMap:
        channel, causes, slices = self.labels.channels()
        tensors = {key: channel[labels] for key, labels in self.tensors.items()}
        inner: list[Inner] = []
        for layer, vector in self.labels.inner:
            count = sum(other.layer is layer for other in inner)
            inner.append(Inner(layer, count, (len(vector),)))
            tensors[id(inner[-1])] = channel[vector]
        zeros = frozenset(key for key, zero in self.zeros.items() if zero)
        models = list(self.walked.values())
        graph = Graph(models, self.nodes, self.symbolic, self.opened, self.seen_through, [])
        given = self.exact, self.input_shape
        found = ChannelMap(self.model, slices, causes, tensors, inner, zeros, graph, *given)
        freeze_widths(found)
        return found

    def frozen_labels(self, tensor: Any) -> np.ndarray:
        """New labels that may not go, along the last axis of a tensor."""
        size = (tensor.shape[-1] or 1) if len(tensor.shape) > 1 else 1
        labels = self.labels.new(size, frozen=True)
        return labels.reshape((1,) * (len(tensor.shape) - 1) + (-1,) * bool(tensor.shape))

    def walk(
        self, model: keras.Model, inputs: list[np.ndarray], zeros: bool = False
    ) -> list[np.ndarray]:
        graph = functional_of(model)
        for tensor, labels in zip(graph.inputs, inputs, strict=True):
            if id(tensor) in self.tensors:
                self.labels.tie(self.tensors[id(tensor)], labels)
            else:
                self.tensors[id(tensor)] = labels
                self.zeros[id(tensor)] = zeros
                self.symbolic.append(tensor)
        if id(model) not in self.walked:
            self.walked[id(model)] = model
            for node in nodes_of(model):
                self.visit(node)
                self.step()
        return [self.tensors[id(x)] for x in graph.outputs]

    def visit(self, node: Any, within: Any = None) -> None:
        inputs = [self.tensors[id(x)] for x in node.input_tensors]
        if is_graph(node.operation) and getattr(node, "opened", None) is None:
            inside = self.walk(node.operation, self.entering(node))
            outputs = [self.of_rank(*pair) for pair in zip(inside, node.outputs, strict=True)]
            zero = all(self.zeros[id(x)] for x in functional_of(node.operation).outputs)
        else:
            outputs, zero = self.apply_rule(node, inputs)
        _check_rule(node, outputs)
        for tensor, labels in zip(node.outputs, outputs, strict=True):
            self.tensors[id(tensor)] = self.fitted(self.labels.reduced(labels), tensor)
            self.zeros[id(tensor)] = zero
            if within is None:
                self.symbolic.append(tensor)
            else:
                self.opened.append((tensor, within.name))
        if within is not None:
            self.hold_choices(node, inputs)
        self.nodes.append(node)

    def hold_choices(self, node: Any, inputs: list[np.ndarray]) -> None:
        """Ties or freezes what a user's code chooses by numbers: no graph says it again."""
        outputs = [self.tensors[id(x)] for x in node.outputs]
        self.labels.cause = Cause("rule", node.operation)
        if choices.chooses(node, inputs, outputs):
            parts = choices.parts(node, inputs[0]) if len(inputs) == 1 else None
            if parts is not None:
                self.labels.tie(parts, parts[:1])
                return
        elif not choices.computes_with_arrays(node, outputs):
            return
        for labels in (*inputs, *outputs):
            self.labels.freeze(labels)

    def entering(self, node: Any) -> list[np.ndarray]:
        """The labels that enter a nested model: those of a constant may not go."""
        self.labels.cause = Cause("rule", node.operation)
        graph = functional_of(node.operation)
        given = given_to(graph, node.arguments.args, node.arguments.kwargs)
        entered = {id(value) for value in given}
        for tensor in node.input_tensors:
            if id(tensor) not in entered:  # a mask
                self.labels.freeze(self.tensors[id(tensor)])
        return [
            self.of_rank(self.tensors[id(value)], tensor)
            if isinstance(value, keras.KerasTensor)
            else self.frozen_labels(tensor)
            for value, tensor in zip(given, graph.inputs, strict=True)
        ]

    def of_rank(self, labels: np.ndarray, tensor: Any) -> np.ndarray:
        """`labels`, or frozen ones if a tensor has another rank.

        Keras adds and takes a last axis of size 1 where it calls a nested model.
        """
        if labels.ndim == len(tensor.shape):
            return labels
        self.labels.freeze(labels)
        return self.frozen_labels(tensor)

    def fitted(self, labels: np.ndarray, tensor: Any) -> np.ndarray:
        """`labels`, unless they lie along an axis without a size, such as the batch: frozen."""
        if all(n in (1, size) for n, size in zip(labels.shape, tensor.shape, strict=True)):
            return labels
        self.labels.freeze(labels)
        return self.frozen_labels(tensor)

    def apply_rule(self, node: Any, inputs: list[np.ndarray]) -> tuple[list[np.ndarray], bool]:
        self.labels.cause = Cause("rule", node.operation)
        zeros = [self.zeros[id(x)] for x in node.input_tensors]
        reason = getattr(node, "reason", None)
        closed = reason or is_changed(node.operation) or getattr(node, "opened", None)
        rule = None if closed else rule_for(node.operation)
        return self.results(node, inputs, zeros, rule)

    def results(
        self, node: Any, inputs: list[np.ndarray], zeros: list[bool], rule: Rule | None
    ) -> tuple[list[np.ndarray], bool]:
        if rule is not None:
            call = Call(self.labels, node, inputs, zeros, self.exact, self.walk)
            outputs = rule(call)
            if outputs is not None:
                self.labels.leave_rest(node.operation)
                return outputs if isinstance(outputs, list) else [outputs], call.zero_output
        elif (nature := nature_of_node(node)).elementwise:
            return inputs, all(zeros) and nature.keeps_zero
        elif (opened := self.see_through(node)) is not None:
            self.visit_opened(opened)
            results = outputs_for(opened, node) or []
            if is_graph(node.operation):  # made for other shapes, which get smaller all the same
                self.walk(node.operation, self.entering(node))
            pairs = zip(node.outputs, results, strict=True)
            zero = all(x is not None and self.zeros[id(x)] for x in results)
            return [self.shown(*pair) for pair in pairs], zero
        return self.unknown(node, inputs), False

    def shown(self, output: Any, result: Any) -> np.ndarray:
        """The labels of an output, frozen if its layer has told Keras of other axes."""
        alike = result is not None and len(output.shape) == len(result.shape)
        if not alike or any(
            a not in (None, b) for a, b in zip(output.shape, result.shape, strict=True)
        ):
            self.true[id(output)] = result
        if alike:
            return self.tensors[id(result)]
        if result is not None:
            self.labels.freeze(self.tensors[id(result)])
        return self.frozen_labels(output)

    def see_through(self, node: Any) -> Opened | None:
        """What a layer is made of; None if it cannot be seen through."""
        layer = node.operation
        if isinstance(node, OpenedNode):
            return node.opened
        if not isinstance(layer, keras.layers.Layer):
            return None
        args, kwargs = node.arguments.convert(lambda x: self.true.get(id(x), x))
        try:
            opened = open_call(layer, args, kwargs, is_leaf)
        except OpaqueError as error:
            self.reasons[id(layer)] = str(error)
            return None
        return None if outputs_for(opened, node) is None else opened

    def unknown(self, node: Any, inputs: list[np.ndarray]) -> list[np.ndarray]:
        """What has no rule may do anything with its inputs: nothing that touches it may go."""
        op = node.operation
        if id(op) not in self.warned:
            self.warned.add(id(op))
            reason = self.reasons.get(id(op))
            warnings.warn(
                f"No rule says what '{op.name}' (a {type(op).__name__}) does to channels, so the "
                "channels that touch it are kept; ptkeras.channels.register adds a rule."
                + (f" It cannot be seen through: {reason}" if reason else ""),
                stacklevel=_level_of_the_caller(),
            )
        self.labels.cause = Cause("unknown", op)
        for labels in inputs:
            self.labels.freeze(labels)
        for value in keras.tree.flatten((node.arguments.args, node.arguments.kwargs)):
            if isinstance(value, keras.Variable):
                for axis in range(len(value.shape)):
                    self.labels.keep_whole(value, axis)
        return [self.frozen_labels(x) for x in node.outputs]


def _check_rule(node: Any, outputs: list[np.ndarray]) -> None:
    """Refuses labels that do not fit the outputs of a node: a user's rule may say anything."""
    wanted = [len(x.shape) for x in node.outputs]
    received = [np.ndim(labels) for labels in outputs]
    if wanted != received:
        raise ValueError(
            f"The rule for '{node.operation.name}' (a {type(node.operation).__name__}) must return "
            f"a label array for each output, of {wanted} axes; it returned arrays of {received}: "
            "call.spread makes one out of a vector."
        )


def _level_of_the_caller() -> int:
    """The `stacklevel` of a warning for the code that has called into this package."""
    home = str(Path(__file__).parents[1])
    level = 1
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_code.co_filename.startswith(home):
        level, frame = level + 1, frame.f_back
    return level


def _labels_of(channel: np.ndarray, channels: np.ndarray) -> np.ndarray:
    """A label of each of some channels, where `channel` has the channel of each label."""
    found, first = np.unique(channel[:-1], return_index=True)
    return first[np.searchsorted(found, channels)]
