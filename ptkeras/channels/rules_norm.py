"""The rules of normalisations."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import layers

from ptkeras.channels.operands import data_of, keep_whole, known_zero, number_per_channel
from ptkeras.channels.registry import Call, register
from ptkeras.keras_compat.operations import keras_nn


def _axes(axis: int | list[int] | tuple[int, ...], rank: int) -> list[int]:
    axes = axis if isinstance(axis, (list, tuple)) else [axis]
    return [a % rank for a in axes]


@register(layers.BatchNormalization)
def _batch_normalization(call: Call) -> np.ndarray:
    layer, labels = call.op, call.inputs[0]
    for mask in call.inputs[1:]:
        call.freeze(mask)
    if _beside(call, labels, layer.axis):  # numbers per place, whose statistics are of all channels
        call.mixes(labels)
        return labels
    vector = call.along(labels, layer.axis, call.shapes[0][layer.axis])
    names = ("gamma", "beta", "moving_mean", "moving_variance")
    renorm = ("moving_stddev", "renorm_mean", "renorm_stddev")
    for name in names + renorm:
        call.vector(getattr(layer, name, None), vector)
    # With a scale of zero nothing is left of the input, and what is added is zero as well.
    call.zero_output = bool(layer.scale) or call.zero_inputs[0]
    return call.spread(vector, layer.axis, len(call.shapes[0]))


def _beside(call: Call, labels: np.ndarray, axis: int) -> bool:
    """Whether the channels lie along another axis than one."""
    return labels.size > 1 and labels.shape[axis] == 1


@register(layers.LayerNormalization, layers.RMSNormalization)
def _layer_normalization(call: Call) -> np.ndarray:
    layer = call.op
    scale = getattr(layer, "gamma", None)
    scale = getattr(layer, "scale", None) if scale is None else scale
    scale = scale if isinstance(scale, keras.Variable) else None  # a flag of that name
    return _normalized(call, call.inputs[0], scale, getattr(layer, "beta", None))


@register(keras_nn.LayerNorm, keras_nn.RMSNorm)
def _functional_layer_normalization(call: Call) -> np.ndarray | list[np.ndarray]:
    labels = call.labels_of(data_of(call))
    names = ("scale",) if isinstance(call.op, keras_nn.RMSNorm) else ("gamma", "beta")
    scale, offset = (*map(call.argument, names), None)[:2]
    if labels is None:
        for value in (scale, offset):
            if isinstance(value, keras.Variable):
                keep_whole(call, value)
        return call.untouched()
    return _normalized(call, labels, scale, offset)


def _normalized(call: Call, labels: np.ndarray, scale: Any, offset: Any) -> np.ndarray:
    """The labels behind a normalisation over axes that scale and offset have, in their order."""
    axes = sorted(_axes(call.op.axis, labels.ndim))
    varies = [axis for axis in axes if labels.shape[axis] > 1]
    if varies:
        call.mixes(labels)
        vector = call.along(labels, varies[0])
        for values in (scale, offset):
            number_per_channel(call, values, vector, axes.index(varies[0]) - len(axes))
        shifted = not (offset is None or known_zero(call, offset))
        call.zero_output = not shifted and scale is not None and known_zero(call, scale)
        return labels
    if any(call.shapes[0][axis] == 1 for axis in axes):
        call.mixes(labels)
    for values in (scale, offset):
        _keep(call, values)
    return labels


def _keep(call: Call, values: Any) -> None:
    """Numbers that do not lie along the channels, which nothing may be taken from."""
    if isinstance(values, keras.Variable):
        keep_whole(call, values)
    elif (labels := call.labels_of(values)) is not None:
        call.freeze(labels)


@register(keras_nn.BatchNorm)
def _functional_batch_normalization(call: Call) -> np.ndarray | list[np.ndarray]:
    labels, axis = call.labels_of(data_of(call)), call.op.axis
    names = ("mean", "variance", "offset", "scale")
    mean, _, offset, scale = values = [call.argument(name) for name in names]
    if labels is None or _beside(call, labels, axis):
        for value in values:
            _keep(call, value)
        return call.untouched() if labels is None else labels
    vector = call.along(labels, axis, call.shapes[0][axis])
    for value in values:
        number_per_channel(call, value, vector)
    scaled = scale is not None and known_zero(call, scale)
    centred = known_zero(call, data_of(call)) and known_zero(call, mean)
    call.zero_output = (scaled or centred) and (offset is None or known_zero(call, offset))
    return call.spread(vector, axis, labels.ndim)


@register(layers.GroupNormalization)
def _group_normalization(call: Call) -> np.ndarray:
    """Whole groups may go; within a group channels are mixed, and the groups stay of one size."""
    layer, labels = call.op, call.inputs[0]
    if _beside(call, labels, layer.axis):  # groups of places, each of which mixes all channels
        call.mixes(labels)
        return labels
    vector = call.along(labels, layer.axis, call.shapes[0][layer.axis])
    groups = vector.reshape(layer.groups, -1)
    if not call.exact:
        call.tie(groups, groups[:1])
    elif layer.groups == 1:
        call.freeze(vector)
    else:
        call.tie(groups, groups[:, :1])
    call.vector(layer.gamma if layer.scale else None, vector)
    call.vector(layer.beta if layer.center else None, vector)
    call.zero_output = bool(layer.scale)
    return call.spread(vector, layer.axis, len(call.shapes[0]))


@register(layers.UnitNormalization, keras_nn.Normalize)
def _unit_normalization(call: Call) -> np.ndarray:
    """Divides by the norm, to which zeros add nothing."""
    labels = call.inputs[0]
    axes = _axes(call.op.axis, labels.ndim)
    if any(labels.shape[axis] > 1 for axis in axes) and not call.zero_inputs[0]:
        call.mixes(labels)
    call.passes()
    return labels
