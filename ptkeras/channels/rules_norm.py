"""The rules of normalisations."""

from __future__ import annotations

import numpy as np
from keras import layers
from keras.src.ops import nn as keras_nn

from ptkeras.channels.registry import Call, register


def _axes(axis: int | list[int] | tuple[int, ...], rank: int) -> list[int]:
    axes = axis if isinstance(axis, (list, tuple)) else [axis]
    return [a % rank for a in axes]


@register(layers.BatchNormalization)
def _batch_normalization(call: Call) -> np.ndarray:
    layer, size = call.op, call.shapes[0][call.op.axis]
    labels = call.along(call.inputs[0], layer.axis, size)
    names = ("gamma", "beta", "moving_mean", "moving_variance")
    renorm = ("moving_stddev", "renorm_mean", "renorm_stddev")
    for name in names + renorm:
        call.vector(getattr(layer, name, None), labels)
    # With a scale of zero nothing is left of the input, and what is added is zero as well.
    call.zero_output = bool(layer.scale) or call.zero_inputs[0]
    return call.spread(labels, layer.axis, len(call.shapes[0]))


@register(layers.LayerNormalization, layers.RMSNormalization)
def _layer_normalization(call: Call) -> np.ndarray:
    layer, labels = call.op, call.inputs[0]
    axes = _axes(layer.axis, labels.ndim)
    names = ("gamma", "beta", "scale")
    vectors = [v for n in names if hasattr(v := getattr(layer, n, None), "path")]
    varies = [axis for axis in axes if labels.shape[axis] > 1]
    if varies:
        call.mixes(labels)
        vector = call.along(labels, varies[0])
        for variable in vectors:  # their axes are those that are normalised, in order
            call.vector(variable, vector, sorted(axes).index(varies[0]))
        call.zero_output = bool(vectors) or call.zero_inputs[0]
    elif any(call.shapes[0][axis] == 1 for axis in axes):
        call.mixes(labels)
    return labels


@register(layers.GroupNormalization)
def _group_normalization(call: Call) -> np.ndarray:
    """Whole groups may go; within a group channels are mixed, and the groups stay of one size."""
    layer, size = call.op, call.shapes[0][call.op.axis]
    labels = call.along(call.inputs[0], layer.axis, size)
    groups = labels.reshape(layer.groups, -1)
    if not call.exact:
        call.tie(groups, groups[:1])
    elif layer.groups == 1:
        call.freeze(labels)
    else:
        call.tie(groups, groups[:, :1])
    call.vector(layer.gamma if layer.scale else None, labels)
    call.vector(layer.beta if layer.center else None, labels)
    call.zero_output = bool(layer.scale)
    return call.spread(labels, layer.axis, len(call.shapes[0]))


@register(layers.UnitNormalization, keras_nn.Normalize)
def _unit_normalization(call: Call) -> np.ndarray:
    """Divides by the norm, to which zeros add nothing."""
    labels = call.inputs[0]
    axes = _axes(call.op.axis, labels.ndim)
    if any(labels.shape[axis] > 1 for axis in axes) and not call.zero_inputs[0]:
        call.freeze(labels)
    call.passes()
    return labels
