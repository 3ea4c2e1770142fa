"""A network whose weights stay as they are, and whose channels have gates that are learned."""

from __future__ import annotations

from collections import Counter
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

from ptkeras.channels import ChannelMap, Slice
from ptkeras.channels.graph import functional_of, given_to, is_graph, nodes_of
from ptkeras.channels.opening import OpenedNode, tensors_in
from ptkeras.keras_compat.operations import keras_numpy

# What is zero where one operand is.
MULTIPLY = (keras.layers.Multiply, keras_numpy.Multiply)


class SparsityBalance(keras.regularizers.Regularizer):
    """`γ · (mean |λ| - r)²` over all gates λ (Pruning from Scratch, equations 3 and 4).

    Args:
        sparsity_ratio: r, what the mean of the gates is driven to.
        balance_factor: γ.
    """

    def __init__(self, sparsity_ratio: float, balance_factor: float) -> None:
        self.sparsity_ratio = sparsity_ratio
        self.balance_factor = balance_factor

    def __call__(self, gates: Any) -> Any:
        excess = ops.mean(ops.abs(gates)) - self.sparsity_ratio
        return self.balance_factor * ops.square(excess)


class Unit(keras.constraints.Constraint):
    """Clips to [0, 1]."""

    def __call__(self, w: Any) -> Any:
        return ops.clip(w, 0.0, 1.0)


class GatedNetwork(keras.Model):
    """The network of a channel map with a trainable gate on each channel that may go.

    A gate behind batch normalisation is the same as one on its scale and its shift:
    `λ · (γ · x̂ + β) = (λ · γ) · x̂ + λ · β`. So the network's own graph is called, with those
    variables multiplied. Batch norms normalise by the batch and keep their moving statistics as in
    any training; nothing else of the network changes.

    Args:
        channel_map: the channels of the network, whose batch norms have scales. The network belongs
            to this model from now on: its variables no longer train.
        sparsity_ratio: r, see `SparsityBalance`.
        balance_factor: γ, likewise.
    """

    def __init__(
        self, channel_map: ChannelMap, sparsity_ratio: float, balance_factor: float
    ) -> None:
        super().__init__(name="gated_" + channel_map.model.name)
        self.network = channel_map.model
        if is_graph(self.network):
            self.output_names = functional_of(self.network).output_names  # losses may go by them
        for variable in self.network.trainable_variables:
            variable.trainable = False  # not the layers: a frozen batch norm would not normalise
        gated = np.flatnonzero(channel_map.prunable)
        self.gates = self.add_weight(
            (len(gated),),
            initializer="ones",
            regularizer=SparsityBalance(sparsity_ratio, balance_factor),
            constraint=Unit(),
            dtype="float32",  # whatever the weights are: losses are too
            autocast=False,
            name="gates",
        )
        # Positions in the gates, and behind the last one for channels that have none.
        number = np.full(len(channel_map), len(gated))
        number[gated] = np.arange(len(gated))
        self._channel_gates = gated, len(channel_map)
        self._rows = {
            id(row.variable): (row.axis, np.where(mask, number[row.channels], len(gated)))
            for row, mask in gated_rows(channel_map)
        }
        self.built = True  # all weights are there, and `Survival` wants them before the first call

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        one = ops.ones((1,), self.gates.dtype)
        gates = ops.concatenate([ops.convert_to_tensor(self.gates), one])
        frozen = self.network.non_trainable_variables
        values = [self._gated(v, gates) for v in frozen]
        outputs, states = self.network.stateless_call([], values, inputs, training=bool(training))
        for variable, before, after in zip(frozen, values, states, strict=True):
            if after is not before and id(variable) not in self._rows:
                variable.assign(after)
        return outputs

    def gates_by_channel(self) -> np.ndarray:
        """The gate of each channel of the map; infinite for channels without one."""
        channels, count = self._channel_gates
        result = np.full(count, np.inf)
        result[channels] = ops.convert_to_numpy(self.gates.value)
        return result

    def _gated(self, variable: keras.Variable, gates: Any) -> Any:
        value = ops.convert_to_tensor(variable)
        if id(variable) not in self._rows:
            return value
        axis, numbers = self._rows[id(variable)]
        shape = [1] * len(variable.shape)
        shape[axis] = -1
        factors = ops.reshape(ops.take(gates, numbers, axis=0), shape)
        return value * ops.cast(factors, value.dtype)


def gated_rows(channel_map: ChannelMap) -> list[tuple[Slice, np.ndarray]]:
    """The slices that gates are multiplied into, each with a bool per position: whether it is.

    A gate is to lie on every way from what makes a channel to what reads it. The scales and shifts
    of normalisations have one always; kernels and biases where a way leads to a reader past all
    normalisations, such as that of a shortcut whose convolution has none, added to one that does.
    """
    rows = [row for row in channel_map.slices if channel_map.prunable[row.channels].any()]
    # Of a layer that was seen through, nobody knows what its own scale comes after.
    opened = {id(each.layer) for each in channel_map.graph.seen_through}
    scaled = {id(row.layer) for row in rows if _is_scale(row)} - opened
    makers = {id(row.layer) for row in rows if row.role == "output"}
    biased = {id(row.layer) for row in rows if _is_shift(row)} - scaled
    behind = _passed(channel_map, scaled, makers, biased)
    found = []
    for row in rows:
        gated = np.ones(len(row.channels), bool)
        if id(row.layer) not in scaled and (row.role == "output" or _is_shift(row)):
            gated &= ~np.isin(row.channels, behind.get(id(row.layer), ()))
        elif not (_is_scale(row) or _is_shift(row)):
            continue
        if gated.any():
            found.append((row, gated))
    return found


def _is_scale(row: Slice) -> bool:
    return row.role == "vector" and row.variable.name == "gamma"


def _is_shift(row: Slice) -> bool:
    return row.role == "vector" and (row.variable.name == "beta" or "bias" in row.variable.name)


class _Step(NamedTuple):
    """What happens between symbolic tensors: an operation, or None where a nested model begins."""

    operation: Any
    inputs: list[Any]
    outputs: list[Any]


def _steps(channel_map: ChannelMap) -> list[_Step]:
    """All that a model does, in order; what a nested model does once for each call of it."""
    reader = _Reader(channel_map)
    if is_graph(channel_map.model):
        reader.graph(channel_map.model)
    else:
        reader.code(reader.opened[id(channel_map.model)][0])
    return reader.steps


class _Reader:
    def __init__(self, channel_map: ChannelMap) -> None:
        self.steps: list[_Step] = []
        self.opened: dict[int, list[Any]] = {}
        for each in channel_map.graph.seen_through:
            self.opened.setdefault(id(each.layer), []).append(each)
        self._calls: Counter[int] = Counter()
        self._found: dict[int, Any] = {}

    def graph(self, model: keras.Model) -> None:
        for node in nodes_of(model):
            self.node(node)

    def code(self, opened: Any) -> None:
        for node in opened.nodes:
            self.node(node)

    def node(self, node: Any) -> None:
        opened = self.opened_at(node)
        if opened is not None:
            for own, given in opened.inputs:
                self.link([given], [own])
            self.code(opened)
            self.link(opened.results[: len(node.outputs)], node.outputs)
        elif is_graph(node.operation):
            graph = functional_of(node.operation)
            given = given_to(graph, node.arguments.args, node.arguments.kwargs)
            self.link(given, graph.inputs)
            self.graph(node.operation)
            self.link(graph.outputs, node.outputs)
        else:
            self.steps.append(_Step(node.operation, node.input_tensors, node.outputs))

    def opened_at(self, node: Any) -> Any:
        """What the layer of a node is made of, if it was seen through."""
        if isinstance(node, OpenedNode):
            return node.opened
        if id(node) not in self._found:
            own = self.opened.get(id(node.operation), [])
            number = self._calls[id(node.operation)]
            self._calls[id(node.operation)] += 1
            self._found[id(node)] = own[number] if number < len(own) else None
        return self._found[id(node)]

    def link(self, before: list[Any], after: list[Any]) -> None:
        """Adds what hands tensors into a layer or out of it."""
        for one, other in zip(before, after, strict=True):
            if isinstance(one, keras.KerasTensor):
                self.steps.append(_Step(None, [one], [other]))


def _ends(channel_map: ChannelMap) -> tuple[list[Any], list[Any]]:
    """The symbolic tensors that a model reads, and those that it returns."""
    if is_graph(channel_map.model):
        graph = functional_of(channel_map.model)
        return graph.inputs, graph.outputs
    opened = channel_map.graph.seen_through[0]
    return [own for own, _ in opened.inputs], tensors_in(opened.outputs)


def _passed(
    channel_map: ChannelMap, scaled: set[int], makers: set[int], biased: set[int]
) -> dict[int, np.ndarray]:
    """For the `id` of each layer whose outputs all pass a gate before they are read: its channels.

    Args:
        channel_map: the channels of a model.
        scaled: the layers, by `id`, whose scale has the gate.
        makers: those that make channels, and read others.
        biased: those that add a number of their own to a channel.
    """
    steps = _steps(channel_map)
    inputs, outputs = _ends(channel_map)
    unclosed = {id(x) for x in inputs}  # tensors that a closed scale need not leave zero
    for step in steps:
        some = all if isinstance(step.operation, MULTIPLY) else any
        own = id(step.operation) in makers | biased
        lost = own or some(id(x) in unclosed for x in step.inputs)
        for x in step.outputs:
            if id(step.operation) not in scaled and (lost or id(x) not in channel_map.zeros):
                unclosed.add(id(x))
    read = {id(x) for x in outputs}
    behind: dict[int, np.ndarray] = {}
    open_layers: set[int] = set()
    for step in reversed(steps):
        key, outputs = id(step.operation), [id(x) for x in step.outputs]
        wanted = not read.isdisjoint(outputs)
        if wanted:
            open_layers.add(key)
        if key in makers | biased and key not in scaled:
            channels = np.concatenate([channel_map.tensors[x].ravel() for x in outputs])
            behind[key] = np.union1d(behind.get(key, channels), channels)
        stops = key in scaled or (
            isinstance(step.operation, MULTIPLY) and any(id(x) not in unclosed for x in step.inputs)
        )
        if key in makers or (wanted and not stops):
            read.update(id(x) for x in step.inputs)
    return {key: channels for key, channels in behind.items() if key not in open_layers}
