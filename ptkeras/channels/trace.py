"""Walks a model's graph and finds its channels."""

from __future__ import annotations

import warnings
from typing import Any

import keras
import numpy as np

from ptkeras.channels import rules  # noqa: F401  (fills the registry)
from ptkeras.channels.channel_map import ChannelMap
from ptkeras.channels.elementwise import is_elementwise_op
from ptkeras.channels.graph import functional_of, is_graph, nodes_of
from ptkeras.channels.labels import Labels
from ptkeras.channels.registry import Call, rule_for


def trace(model: keras.Model) -> ChannelMap:
    """Finds the channels of a model.

    Every tensor of the graph carries a label per position of its channel axis. Layers with a kernel
    make new labels, others hand them on, adding two tensors ties their labels; tied labels are one
    channel. Nested models are walked too, and what is called twice is tied to itself. Nothing of
    the model is run or changed.

    Args:
        model: a Functional or built Sequential model; subclasses of `keras.Model` that were built
            functionally count as such.

    Returns:
        The `ChannelMap` of the model.

    Raises:
        ValueError: the model is not built or has no graph.
    """
    return _Tracer(model).run()


class _Tracer:
    def __init__(self, model: keras.Model) -> None:
        self.model = model
        self.labels = Labels()
        self.tensors: dict[int, np.ndarray] = {}
        self.walked: set[int] = set()
        self.warned: set[int] = set()

    def run(self) -> ChannelMap:
        graph = functional_of(self.model)
        self.walk(self.model, [self.frozen_labels(x) for x in graph.inputs])
        for output in graph.outputs:
            self.labels.freeze(self.tensors[id(output)])
        channel, frozen, slices = self.labels.channels()
        tensors = {key: channel[labels] for key, labels in self.tensors.items()}
        return ChannelMap(self.model, slices, frozen, tensors)

    def frozen_labels(self, tensor: Any) -> np.ndarray:
        """New labels that may not go, along the last axis of a tensor."""
        size = (tensor.shape[-1] or 1) if len(tensor.shape) > 1 else 1
        labels = self.labels.new(size, frozen=True)
        return labels.reshape((1,) * (len(tensor.shape) - 1) + (-1,))

    def walk(self, model: keras.Model, inputs: list[np.ndarray]) -> list[np.ndarray]:
        graph = functional_of(model)
        for tensor, labels in zip(graph.inputs, inputs, strict=True):
            if id(tensor) in self.tensors:
                self.labels.tie(self.tensors[id(tensor)], labels)
            else:
                self.tensors[id(tensor)] = labels
        if id(model) not in self.walked:
            self.walked.add(id(model))
            for node in nodes_of(model):
                self.visit(node)
        return [self.tensors[id(x)] for x in graph.outputs]

    def visit(self, node: Any) -> None:
        inputs = [self.tensors[id(x)] for x in node.input_tensors]
        if is_graph(node.operation):
            outputs = self.walk(node.operation, inputs)
        else:
            outputs = self.apply_rule(node, inputs)
        for tensor, labels in zip(node.outputs, outputs, strict=True):
            self.tensors[id(tensor)] = self.labels.reduced(labels)

    def apply_rule(self, node: Any, inputs: list[np.ndarray]) -> list[np.ndarray]:
        rule = rule_for(node.operation)
        if rule is not None:
            outputs = rule(Call(self.labels, node, inputs))
            return outputs if isinstance(outputs, list) else [outputs]
        if is_elementwise_op(node):
            return inputs
        return self.unknown(node, inputs)

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
        for labels in inputs:
            self.labels.freeze(labels)
        return [self.frozen_labels(x) for x in node.outputs]
