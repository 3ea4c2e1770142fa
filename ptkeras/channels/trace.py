"""Walks a model's graph and finds its channels."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from ptkeras._collector import held_back
from ptkeras._progress import bar
from ptkeras.channels import (  # noqa: F401  (they fill the registry)
    rules,
    rules_attention,
    rules_contract,
    rules_merge,
    rules_moves,
    rules_norm,
    rules_preprocessing,
    rules_recurrent,
    rules_wrappers,
)
from ptkeras.channels.channel_map import Cause, ChannelMap, Inner
from ptkeras.channels.elementwise import nature_of_node
from ptkeras.channels.graph import functional_of, given_to, is_graph, nodes_of
from ptkeras.channels.labels import Labels
from ptkeras.channels.registry import Call, rule_for


def trace(model: keras.Model, *, exact: bool = True) -> ChannelMap:
    """Finds the channels of a model.

    Every tensor of the graph carries a label per position of its channel axis. Layers with a kernel
    make new labels, others hand them on, adding two tensors ties their labels; tied labels are one
    channel. Nested models are walked too, and what is called twice is tied to itself. Nothing of
    the model is run or changed.

    Args:
        model: a Functional or built Sequential model; subclasses of `keras.Model` that were built
            functionally count as such.
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
    with held_back(), bar(f"Tracing '{model.name}'", _size(model, set())) as step:
        return _Tracer(model, exact, step).run()


def _size(model: keras.Model, counted: set[int]) -> int:
    """How many nodes are visited: those of a nested model once, however often it is called."""
    if id(model) in counted:
        return 0
    counted.add(id(model))
    nodes = list(nodes_of(model))
    return len(nodes) + sum(_size(n.operation, counted) for n in nodes if is_graph(n.operation))


class _Tracer:
    def __init__(self, model: keras.Model, exact: bool, step: Callable[[], None]) -> None:
        self.model = model
        self.exact = exact
        self.step = step
        self.labels = Labels()
        self.tensors: dict[int, np.ndarray] = {}
        self.zeros: dict[int, bool] = {}
        self.walked: set[int] = set()
        self.warned: set[int] = set()

    def run(self) -> ChannelMap:
        graph = functional_of(self.model)
        inputs = []
        for tensor in graph.inputs:
            self.labels.cause = Cause("input", tensor)
            inputs.append(self.frozen_labels(tensor))
        self.walk(self.model, inputs, zeros=True)  # what never goes may count as zero where it goes
        for output in graph.outputs:
            self.labels.cause = Cause("output", output)
            self.labels.freeze(self.tensors[id(output)])
        channel, causes, slices = self.labels.channels()
        tensors = {key: channel[labels] for key, labels in self.tensors.items()}
        inner = []
        for layer, vector in self.labels.inner:
            count = sum(other.layer is layer for other in inner)
            inner.append(Inner(layer, count, (len(vector),)))
            tensors[id(inner[-1])] = channel[vector]
        zeros = frozenset(key for key, zero in self.zeros.items() if zero)
        return ChannelMap(self.model, slices, causes, tensors, inner, zeros)

    def frozen_labels(self, tensor: Any) -> np.ndarray:
        """New labels that may not go, along the last axis of a tensor."""
        size = (tensor.shape[-1] or 1) if len(tensor.shape) > 1 else 1
        labels = self.labels.new(size, frozen=True)
        return labels.reshape((1,) * (len(tensor.shape) - 1) + (-1,))

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
        if id(model) not in self.walked:
            self.walked.add(id(model))
            for node in nodes_of(model):
                self.visit(node)
                self.step()
        return [self.tensors[id(x)] for x in graph.outputs]

    def visit(self, node: Any) -> None:
        inputs = [self.tensors[id(x)] for x in node.input_tensors]
        if is_graph(node.operation):
            outputs = self.walk(node.operation, self.entering(node))
            zero = all(self.zeros[id(x)] for x in functional_of(node.operation).outputs)
        else:
            outputs, zero = self.apply_rule(node, inputs)
        _check_rule(node, outputs)
        for tensor, labels in zip(node.outputs, outputs, strict=True):
            self.tensors[id(tensor)] = self.fitted(self.labels.reduced(labels), tensor)
            self.zeros[id(tensor)] = zero

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
            self.tensors[id(value)]
            if isinstance(value, keras.KerasTensor)
            else self.frozen_labels(tensor)
            for value, tensor in zip(given, graph.inputs, strict=True)
        ]

    def fitted(self, labels: np.ndarray, tensor: Any) -> np.ndarray:
        """`labels`, unless they lie along an axis without a size, such as the batch: frozen."""
        if all(n in (1, size) for n, size in zip(labels.shape, tensor.shape, strict=True)):
            return labels
        self.labels.freeze(labels)
        return self.frozen_labels(tensor)

    def apply_rule(self, node: Any, inputs: list[np.ndarray]) -> tuple[list[np.ndarray], bool]:
        self.labels.cause = Cause("rule", node.operation)
        zeros = [self.zeros[id(x)] for x in node.input_tensors]
        rule = None if _is_changed(node.operation) else rule_for(node.operation)
        if rule is not None:
            call = Call(self.labels, node, inputs, zeros, self.exact, self.walk)
            outputs = rule(call)
            if outputs is not None:
                return outputs if isinstance(outputs, list) else [outputs], call.zero_output
        elif (nature := nature_of_node(node)).elementwise:
            return inputs, all(zeros) and nature.keeps_zero
        return self.unknown(node, inputs), False

    def unknown(self, node: Any, inputs: list[np.ndarray]) -> list[np.ndarray]:
        """What has no rule may do anything with its inputs: nothing that touches it may go."""
        op = node.operation
        if id(op) not in self.warned:
            self.warned.add(id(op))
            warnings.warn(
                f"No rule says what '{op.name}' (a {type(op).__name__}) does to channels, so the "
                "channels that touch it are kept; ptkeras.channels.register adds a rule.",
                stacklevel=6,
            )
        self.labels.cause = Cause("unknown", op)
        for labels in inputs:
            self.labels.freeze(labels)
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


def _is_changed(op: Any) -> bool:
    """Whether a layer computes something else than its type says: LoRA or quantised weights."""
    return bool(getattr(op, "lora_enabled", False) or getattr(op, "quantization_mode", None))
