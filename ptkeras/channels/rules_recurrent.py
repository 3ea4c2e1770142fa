"""The rules of recurrent layers, and of layers that wrap another one."""

from __future__ import annotations

from typing import Any

import numpy as np
from keras import layers
from keras.src.layers.core.wrapper import Wrapper

from ptkeras.channels.elementwise import nature
from ptkeras.channels.graph import is_graph
from ptkeras.channels.registry import Call, register, rule_for


def _units(call: Call, layer: Any, inputs: np.ndarray) -> np.ndarray:
    """The labels of recurrent units: each has a column of the kernel for each gate."""
    cell = layer.cell
    call.consume(cell.kernel, 0, call.along(inputs, -1, cell.kernel.shape[0]))
    gates = cell.kernel.shape[-1] // layer.units
    columns = call.produce(cell.kernel, 1)
    units = columns[: layer.units]
    call.tie(columns.reshape(gates, -1), units)
    call.consume(cell.recurrent_kernel, 0, units)
    call.makes(cell.recurrent_kernel, 1, np.tile(units, gates))
    call.vector(cell.bias, np.tile(units, gates), -1)
    elementwise, zero = nature(layer.activation)
    if not elementwise or not nature(getattr(layer, "recurrent_activation", None)).elementwise:
        call.freeze(units)
    for state in getattr(layer, "states", None) or []:
        call.vector(state, units, -1)
    call.zero_output = zero
    return units


def _tie_states(call: Call, units: list[np.ndarray]) -> bool:
    """Ties the initial states to the units; False if they are given in a way not known here."""
    states = call.argument("initial_state")
    states = (
        [] if states is None else list(states if isinstance(states, (list, tuple)) else [states])
    )
    each = len(states) // len(units)
    for i, state in enumerate(states):
        labels = call.labels_of(state)
        if labels is None:
            return False
        own = units[i // each]
        call.tie(call.along(labels, -1, len(own)), own)
        call.zero_output = False
    others = len(call.inputs) - 1 - len(states)
    if others:  # a mask
        mask = call.labels_of(call.argument("mask"))
        if mask is None or others > 1:
            return False
        call.freeze(mask)
    return True


@register(layers.SimpleRNN, layers.LSTM, layers.GRU)
def _recurrent(call: Call) -> list[np.ndarray] | None:
    units = _units(call, call.op, call.inputs[0])
    if not _tie_states(call, [units]):
        return None
    return [call.spread(units, -1, len(shape)) for shape in call.output_shapes]


@register(layers.Bidirectional)
def _bidirectional(call: Call) -> list[np.ndarray] | None:
    layer = call.op
    if not all(
        isinstance(x, (layers.SimpleRNN, layers.LSTM, layers.GRU))
        for x in (layer.forward_layer, layer.backward_layer)
    ):
        return None
    forward = _units(call, layer.forward_layer, call.inputs[0])
    zero = call.zero_output
    backward = _units(call, layer.backward_layer, call.inputs[0])
    call.zero_output &= zero
    if not _tie_states(call, [forward, backward]):
        return None
    call.tie(forward, backward)  # Keras takes both to have as many units
    if layer.merge_mode == "concat":
        results = [np.concatenate([forward, backward])]
    elif layer.merge_mode is None:
        results = [forward, backward]
    else:
        results = [forward]
    states = len(call.output_shapes) - len(results)
    results += [forward] * (states // 2) + [backward] * (states // 2)
    return [
        call.spread(units, -1, len(shape))
        for units, shape in zip(results, call.output_shapes, strict=True)
    ]


@register(layers.TimeDistributed)
def _time_distributed(call: Call) -> list[np.ndarray] | None:
    """The rule of the wrapped layer, without the axis of time."""
    layer = call.op.layer
    if len(call.inputs) != 1 or call.inputs[0].shape[1] > 1:
        return None
    inputs = [np.squeeze(call.inputs[0], 1)]
    shapes, outputs = ([(s[0], *s[2:]) for s in each] for each in (call.shapes, call.output_shapes))
    results = _inner(call, layer, inputs, shapes, outputs)
    return None if results is None else [np.expand_dims(x, 1) for x in results]


@register(layers.SpectralNormalization)
def _spectral_normalization(call: Call) -> list[np.ndarray] | None:
    results = _inner(call, call.op.layer, call.inputs, call.shapes, call.output_shapes)
    if results is None:
        return None
    vector = results[0].reshape(-1)
    if len(vector) == call.op.vector_u.shape[-1]:
        call.vector(call.op.vector_u, vector, -1)
    else:  # the kernel's last axis is not the one that makes channels
        call.freeze(results[0])
        for labels in call.inputs:
            call.freeze(labels)
    return results


def _inner(
    call: Call, layer: Any, inputs: list[np.ndarray], shapes: list[tuple], outputs: list[tuple]
) -> list[np.ndarray] | None:
    if is_graph(layer):
        return call.walk(layer, inputs)
    rule = rule_for(layer)
    if rule is None or isinstance(layer, Wrapper):
        return None
    inner = call.inside(layer, inputs, shapes, outputs)
    results = rule(inner)
    call.zero_output = inner.zero_output
    return results if results is None or isinstance(results, list) else [results]
