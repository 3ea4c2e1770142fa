"""The rules of layers that wrap another one."""

from __future__ import annotations

from typing import Any

import numpy as np
from keras import layers

from ptkeras.channels.graph import is_graph
from ptkeras.channels.registry import Call, register, rule_for


def inner_results(
    call: Call, layer: Any, inputs: list[np.ndarray], shapes: list[tuple], outputs: list[tuple]
) -> list[np.ndarray] | None:
    """What the rule of a layer within the layer of a call returns; None if there is none."""
    if is_graph(layer):
        return call.walk(layer, inputs)
    rule = rule_for(layer)
    if rule is None:
        return None
    inner = call.inside(layer, inputs, shapes, outputs)
    results = rule(inner)
    call.zero_output = inner.zero_output
    return results if results is None or isinstance(results, list) else [results]


@register(layers.TimeDistributed)
def _time_distributed(call: Call) -> list[np.ndarray] | None:
    """The rule of the wrapped layer, without the axis of time."""
    layer = call.op.layer
    if call.inputs[0].shape[1] > 1:
        return None
    for mask in call.inputs[1:]:
        call.freeze(mask)
    inputs = [np.squeeze(call.inputs[0], 1)]
    shapes = [(call.shapes[0][0], *call.shapes[0][2:])]
    outputs = [(s[0], *s[2:]) for s in call.output_shapes]
    results = inner_results(call, layer, inputs, shapes, outputs)
    return None if results is None else [np.expand_dims(x, 1) for x in results]


@register(layers.SpectralNormalization)
def _spectral_normalization(call: Call) -> list[np.ndarray] | None:
    results = inner_results(call, call.op.layer, call.inputs, call.shapes, call.output_shapes)
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
