"""The rules of Keras's own layers and operations: what each one does to channels."""

from __future__ import annotations

import keras
import numpy as np
from keras import layers
from keras.src.layers.convolutional.base_conv import BaseConv
from keras.src.layers.convolutional.base_conv_transpose import BaseConvTranspose
from keras.src.layers.convolutional.base_depthwise_conv import BaseDepthwiseConv
from keras.src.layers.convolutional.base_separable_conv import BaseSeparableConv
from keras.src.layers.pooling.base_global_pooling import BaseGlobalPooling
from keras.src.layers.pooling.base_pooling import BasePooling
from keras.src.ops import numpy as keras_numpy

from ptkeras.channels.elementwise import is_elementwise
from ptkeras.channels.registry import Call, register


def channel_axis(layer: layers.Layer, rank: int) -> int:
    """The axis of a layer's input that its `data_format` calls the channel axis."""
    return 1 if layer.data_format == "channels_first" else rank - 1


def activate(call: Call, labels: np.ndarray) -> np.ndarray:
    """The labels behind a layer's activation; one that mixes channels (softmax) freezes them."""
    if not is_elementwise(call.op.activation):
        call.freeze(labels)
    return labels


@register(BaseConv)
def _conv(call: Call) -> np.ndarray:
    layer, kernel = call.op, call.op._kernel
    rank = len(call.shapes[0])
    axis = channel_axis(layer, rank)
    size = call.shapes[0][axis]
    inputs = call.along(call.inputs[0], axis, size)
    if layer.groups == size > 1:  # one filter or more for each channel alone: depthwise
        outputs = np.repeat(inputs, layer.filters // size)
        call.depthwise(kernel, -1, outputs)
    else:
        groups = inputs.reshape(layer.groups, -1)
        call.tie(groups, groups[:1])
        call.consume(kernel, -2, groups[0])
        outputs = call.produce(kernel, -1)
        call.tie(outputs.reshape(layer.groups, -1), outputs[: layer.filters // layer.groups])
    call.vector(layer.bias if layer.use_bias else None, outputs)
    return activate(call, call.spread(outputs, axis, rank))


@register(BaseConvTranspose)
def _conv_transpose(call: Call) -> np.ndarray:
    layer, rank = call.op, len(call.shapes[0])
    axis = channel_axis(layer, rank)
    call.consume(layer.kernel, -1, call.along(call.inputs[0], axis, call.shapes[0][axis]))
    outputs = call.produce(layer.kernel, -2)
    call.vector(layer.bias if layer.use_bias else None, outputs)
    return activate(call, call.spread(outputs, axis, rank))


@register(BaseDepthwiseConv)
def _depthwise_conv(call: Call) -> np.ndarray:
    layer, rank = call.op, len(call.shapes[0])
    axis = channel_axis(layer, rank)
    inputs = call.along(call.inputs[0], axis, call.shapes[0][axis])
    call.depthwise(layer.kernel, -2, inputs)
    outputs = np.repeat(inputs, layer.depth_multiplier)
    call.vector(layer.bias if layer.use_bias else None, outputs)
    return activate(call, call.spread(outputs, axis, rank))


@register(BaseSeparableConv)
def _separable_conv(call: Call) -> np.ndarray:
    layer, rank = call.op, len(call.shapes[0])
    axis = channel_axis(layer, rank)
    inputs = call.along(call.inputs[0], axis, call.shapes[0][axis])
    call.depthwise(layer.depthwise_kernel, -2, inputs)
    call.consume(layer.pointwise_kernel, -2, np.repeat(inputs, layer.depth_multiplier))
    outputs = call.produce(layer.pointwise_kernel, -1)
    call.vector(layer.bias if layer.use_bias else None, outputs)
    return activate(call, call.spread(outputs, axis, rank))


@register(layers.Dense)
def _dense(call: Call) -> np.ndarray:
    layer, rank = call.op, len(call.shapes[0])
    call.consume(layer.kernel, 0, call.along(call.inputs[0], -1, call.shapes[0][-1]))
    outputs = call.produce(layer.kernel, 1)
    call.vector(layer.bias if layer.use_bias else None, outputs)
    return activate(call, call.spread(outputs, -1, rank))


@register(layers.Embedding)
def _embedding(call: Call) -> np.ndarray:
    call.freeze(call.inputs[0])
    return call.spread(call.produce(call.op._embeddings), -1, len(call.output_shapes[0]))


@register(layers.BatchNormalization)
def _batch_normalization(call: Call) -> np.ndarray:
    layer = call.op
    labels = call.along(call.inputs[0], layer.axis, call.shapes[0][layer.axis])
    call.vector(layer.gamma if layer.scale else None, labels)
    call.vector(layer.beta if layer.center else None, labels)
    call.vector(layer.moving_mean, labels)
    call.vector(layer.moving_variance, labels)
    return call.inputs[0]


@register(layers.PReLU)
def _prelu(call: Call) -> np.ndarray:
    labels, alpha = call.inputs[0], call.op.alpha
    for axis in range(1, labels.ndim):
        if labels.shape[axis] > 1 and alpha.shape[axis - 1] > 1:  # size 1: an axis alpha shares
            call.vector(alpha, call.along(labels, axis), axis=axis - 1)
    return labels


@register(layers.Activation)
def _activation(call: Call) -> np.ndarray:
    return activate(call, call.inputs[0])


@register(
    layers.ReLU,
    layers.LeakyReLU,
    layers.ELU,
    layers.Identity,
    layers.Dropout,
    layers.GaussianNoise,
    layers.GaussianDropout,
    layers.SpatialDropout1D,
    layers.SpatialDropout2D,
    layers.SpatialDropout3D,
    layers.ActivityRegularization,
    layers.Masking,
)
def _same(call: Call) -> np.ndarray:
    return call.inputs[0]


@register(
    BasePooling,
    layers.UpSampling1D,
    layers.UpSampling2D,
    layers.UpSampling3D,
    layers.ZeroPadding1D,
    layers.ZeroPadding2D,
    layers.ZeroPadding3D,
    layers.Cropping1D,
    layers.Cropping2D,
    layers.Cropping3D,
    layers.Resizing,
)
def _spatial(call: Call) -> np.ndarray:
    """Layers that work within each channel, along the other axes."""
    rank = len(call.shapes[0])
    axis = channel_axis(call.op, rank) if hasattr(call.op, "data_format") else rank - 1
    return call.spread(call.along(call.inputs[0], axis, call.shapes[0][axis]), axis, rank)


@register(BaseGlobalPooling)
def _global_pooling(call: Call) -> np.ndarray:
    rank = len(call.shapes[0])
    axis = channel_axis(call.op, rank)
    labels = call.along(call.inputs[0], axis, call.shapes[0][axis])
    return call.spread(labels, axis if call.op.keepdims else 1, len(call.output_shapes[0]))


def combine(call: Call) -> np.ndarray:
    """Elementwise arithmetic of several tensors, with broadcasting: ties what is added."""
    shape = call.output_shapes[0]
    freeze_constants(call)
    operands = [
        labels.reshape((1,) * (len(shape) - labels.ndim) + labels.shape) for labels in call.inputs
    ]
    size = max(labels.size for labels in operands)
    result = None
    for labels in operands:
        if labels.size < size:
            # A tensor of one channel that is stretched over many is part of every one of them.
            call.freeze(labels)
        elif result is None:
            result = labels
        else:
            call.tie(result, labels)
            result = np.where(result >= 0, result, labels)
    return result


def freeze_constants(call: Call) -> None:
    """Freezes what is combined with a constant array that has a number per channel."""
    constants = keras.tree.flatten((call.args, call.kwargs))
    if any(np.ndim(c) and np.size(c) > 1 for c in constants if is_array(c)):
        for labels in call.inputs:
            call.freeze(labels)


def is_array(value: object) -> bool:
    """Whether a value in a node's arguments is an array rather than a symbolic tensor."""
    return isinstance(value, np.ndarray) or keras.ops.is_tensor(value)


register(
    layers.Add,
    layers.Subtract,
    layers.Multiply,
    layers.Average,
    layers.Maximum,
    layers.Minimum,
    keras_numpy.Add,
    keras_numpy.Subtract,
    keras_numpy.Multiply,
    keras_numpy.Divide,
    keras_numpy.TrueDivide,
    keras_numpy.Maximum,
    keras_numpy.Minimum,
)(combine)


def concatenate(call: Call) -> np.ndarray:
    """Concatenates labels; beside an axis that is not the channel axis the tensors are tied."""
    rank = len(call.output_shapes[0])
    axis = call.op.axis % rank
    parts = []
    for labels, shape in zip(call.inputs, call.shapes, strict=True):
        full = list(labels.shape)
        full[axis] = shape[axis] or 1
        parts.append(np.broadcast_to(labels, full))
    widest = np.broadcast_shapes(*((*p.shape[:axis], 1, *p.shape[axis + 1 :]) for p in parts))
    parts = [
        np.broadcast_to(p, (*widest[:axis], p.shape[axis], *widest[axis + 1 :])) for p in parts
    ]
    return np.concatenate(parts, axis)


register(layers.Concatenate, keras_numpy.Concatenate)(concatenate)


def move(call: Call) -> np.ndarray | list[np.ndarray]:
    """Layers that only move data: runs them on the array of labels, to see where each one went."""
    shape = [1, *(n or 1 for n in call.shapes[0][1:])]
    full = keras.ops.convert_to_tensor(np.broadcast_to(call.inputs[0], shape).astype("int32"))
    args, kwargs = keras.tree.map_structure(
        lambda x: full if isinstance(x, keras.KerasTensor) else x, (call.args, call.kwargs)
    )
    moved = call.op.call(*args, **kwargs)
    if isinstance(moved, (list, tuple)):
        return [keras.ops.convert_to_numpy(x).astype(int) for x in moved]
    return keras.ops.convert_to_numpy(moved).astype(int)


register(layers.Flatten, layers.Reshape, layers.Permute, layers.RepeatVector)(move)


@register(layers.Rescaling)
def _rescaling(call: Call) -> np.ndarray:
    """A scale or offset per channel is part of the layer's config, which surgery slices."""
    for values in (np.asarray(call.op.scale), np.asarray(call.op.offset)):
        along = [a for a in range(-values.ndim, 0) if values.shape[a] > 1]
        if any(call.inputs[0].shape[a] == 1 for a in along):
            call.freeze(call.inputs[0])
    return call.inputs[0]


@register(keras_numpy.Take)
def _take(call: Call) -> np.ndarray:
    """Selection of channels by constant indices, as channel gating does it."""
    labels = call.inputs[0]
    axis = call.op.axis
    indices = call.args[1] if len(call.args) > 1 else call.kwargs.get("indices")
    if len(call.inputs) > 1 or axis is None or np.ndim(indices) != 1:
        for operand in call.inputs:
            call.freeze(operand)
        return call.spread(call.constant(1), -1, len(call.output_shapes[0]))
    if call.shapes[0][axis] is None or labels.size != labels.shape[axis]:
        call.freeze(labels)
        return labels
    taken = call.along(labels, axis, call.shapes[0][axis])[np.asarray(indices)]
    # Each copy of a zero may go by itself, along with whatever it is added to.
    taken = np.where(taken < 0, call.fresh(len(taken)), taken)
    return call.spread(taken, axis, labels.ndim)


@register(keras_numpy.Pad)
def _pad(call: Call) -> np.ndarray:
    """Padding with zeros puts positions of no channel beside the others."""
    labels = call.inputs[0]
    if call.op.mode != "constant" or call.kwargs.get("constant_values") not in (None, 0):
        call.freeze(labels)
    widths = np.broadcast_to(np.asarray(call.op.pad_width), (labels.ndim, 2))
    # Along the other axes the zeros belong to the channel that they stand beside.
    widths = [tuple(w) if n > 1 else (0, 0) for w, n in zip(widths, labels.shape, strict=True)]
    return np.pad(labels, widths, constant_values=-1)
