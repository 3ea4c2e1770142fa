"""The rules of recurrent layers and of their cells."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import layers

from ptkeras.channels.elementwise import nature
from ptkeras.channels.registry import Call, register
from ptkeras.channels.rules import channel_axis
from ptkeras.channels.rules_wrappers import inner_results
from ptkeras.keras_compat.layers import ConvLSTM, ConvLSTMCell


@register(layers.SimpleRNNCell, layers.LSTMCell, layers.GRUCell, ConvLSTMCell)
def _cell(call: Call) -> list[np.ndarray]:
    """The units, as output and as every state: each has a column of the kernel for each gate."""
    cell, rank = call.op, len(call.shapes[0])
    axis = channel_axis(cell, rank) if isinstance(cell, ConvLSTMCell) else rank - 1
    call.consume(cell.kernel, -2, call.along(call.inputs[0], axis, cell.kernel.shape[-2]))
    gates = cell.kernel.shape[-1] // cell.recurrent_kernel.shape[-2]
    columns = call.produce(cell.kernel, -1, repeats=gates)
    units = columns[: len(columns) // gates]
    call.tie(columns.reshape(gates, -1), units)
    call.consume(cell.recurrent_kernel, -2, units)
    call.makes(cell.recurrent_kernel, -1, np.tile(units, gates), repeats=gates)
    call.vector(cell.bias, np.tile(units, gates), -1)
    elementwise, call.zero_output = nature(cell.activation)
    if not elementwise or not nature(getattr(cell, "recurrent_activation", None)).elementwise:
        call.freeze(units)
    states = 2 if isinstance(cell, (layers.LSTMCell, ConvLSTMCell)) else 1
    return [call.spread(units, axis, rank)] * (1 + states)


@register(layers.StackedRNNCells)
def _stacked_cells(call: Call) -> list[np.ndarray] | None:
    """Each cell reads the output of the one below; their states lie side by side."""
    output, states = call.inputs[0], []
    for number, cell in enumerate(call.op.cells):
        if number:
            call.needs(output.reshape(-1))  # what is between two cells, no tensor shows
        results = inner_results(call, cell, [output], call.shapes, [])
        if results is None:
            return None
        output, *own = results
        states += own
    return [output, *states]


def _run(call: Call, layer: Any) -> list[np.ndarray] | None:
    """What a cell makes at one step, run over time: its output and its states."""
    rank = len(call.shapes[0])
    axis = channel_axis(layer, rank - 1) + 1 if isinstance(layer, ConvLSTM) else rank - 1
    vector = call.along(call.inputs[0], axis, call.shapes[0][axis])
    shape = (call.shapes[0][0], *call.shapes[0][2:])
    step = call.spread(vector, axis - 1, rank - 1)
    results = inner_results(call, layer.cell, [step], [shape], [])
    if results is None:
        return None
    for variable, labels in zip(
        keras.tree.flatten(getattr(layer, "states", None) or []), results[1:], strict=False
    ):
        place = int(np.argmax(labels.shape))
        call.vector(variable, labels.reshape(-1), place)
    return results


def _tie_states(call: Call, own: list[np.ndarray]) -> bool:
    """Ties the initial states to the layer's own; False if they are given in an unknown way."""
    given = keras.tree.flatten(call.argument("initial_state"))
    given = [state for state in given if state is not None]
    if len(given) not in (0, len(own)):
        return False
    for state, labels in zip(given, own, strict=False):
        read = call.labels_of(state)
        if read is None:
            return False
        axis = int(np.argmax(labels.shape))
        call.tie(call.along(read, axis, labels.size), labels.reshape(-1))
        call.zero_output = False
    others = len(call.inputs) - 1 - len(given)
    if others:  # a mask
        mask = call.labels_of(call.argument("mask"))
        if mask is None or others > 1:
            return False
        call.freeze(mask)
    return True


def _over_time(labels: np.ndarray, shape: tuple) -> np.ndarray:
    return labels if labels.ndim == len(shape) else np.expand_dims(labels, 1)


@register(layers.RNN)
def _recurrent(call: Call) -> list[np.ndarray] | None:
    results = _run(call, call.op)
    if results is None or not _tie_states(call, results[1:]):
        return None
    results = results[: len(call.output_shapes)]
    return [_over_time(x, s) for x, s in zip(results, call.output_shapes, strict=True)]


@register(layers.Bidirectional)
def _bidirectional(call: Call) -> list[np.ndarray] | None:
    layer = call.op
    both, zeros = [], []
    for inner in (layer.forward_layer, layer.backward_layer):
        if not isinstance(inner, layers.RNN) or (results := _run(call, inner)) is None:
            return None
        both.append(results)
        zeros.append(call.zero_output)
    (forward, *ahead), (backward, *back) = both
    call.zero_output = all(zeros)
    if forward.shape != backward.shape or not _tie_states(call, ahead + back):
        return None
    call.tie(forward, backward)  # Keras takes both to have as many units
    if layer.merge_mode == "concat":
        results = [np.concatenate([forward, backward], -1)]
    elif layer.merge_mode is None:
        results = [forward, backward]
    else:
        results = [forward]
    if len(call.output_shapes) > len(results):
        results += ahead + back
    return [_over_time(x, s) for x, s in zip(results, call.output_shapes, strict=True)]
