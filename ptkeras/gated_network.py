"""A network whose weights stay as they are, and whose channels have gates that are learned."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops

from ptkeras.channels import ChannelMap, Slice
from ptkeras.channels.graph import functional_of


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
        self.output_names = functional_of(self.network).output_names  # losses may go by them
        for variable in self.network.trainable_variables:
            variable.trainable = False  # not the layers: a frozen batch norm would not normalise
        gated = np.flatnonzero(channel_map.prunable)
        self.gates = self.add_weight(
            (len(gated),),
            initializer="ones",
            regularizer=SparsityBalance(sparsity_ratio, balance_factor),
            constraint=Unit(),
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

    For channels that pass batch normalisation, its scales and shifts; for the others, the kernels
    and biases that make them.
    """
    rows = channel_map.slices
    norms = [row for row in rows if isinstance(row.layer, keras.layers.BatchNormalization)]
    normed = np.zeros(len(channel_map), bool)
    for row in norms:
        normed[row.channels] = True
    makers = {id(row.layer) for row in rows if row.role == "output"}
    found = [
        (row, np.ones(len(row.channels), bool))
        for row in norms
        if not row.variable.name.startswith("moving_")
    ]
    for row in rows:
        bias = row.role == "vector" and id(row.layer) in makers
        if (row.role == "output" or bias) and not normed[row.channels].all():
            found.append((row, ~normed[row.channels]))
    return found
