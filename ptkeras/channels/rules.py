"""The rules of layers with a kernel, and of those that work within each channel."""

from __future__ import annotations

import keras
import numpy as np
from keras import layers

from ptkeras.channels.elementwise import nature
from ptkeras.channels.registry import Call, existing, register
from ptkeras.keras_compat.layers import (
    BaseConv,
    BaseConvTranspose,
    BaseDepthwiseConv,
    BaseGlobalPooling,
    BasePooling,
    BaseSeparableConv,
    LayerScale,
    StochasticDepth,
)
from ptkeras.keras_compat.operations import keras_image, keras_nn
from ptkeras.keras_compat.weights import embeddings_of, kernel_of


def channel_axis(layer: layers.Layer, rank: int) -> int:
    """The axis of a layer's input that its `data_format` calls the channel axis."""
    data_format = layer.data_format or keras.config.image_data_format()
    return 1 if data_format == "channels_first" else rank - 1


def activate(call: Call, labels: np.ndarray) -> np.ndarray:
    """The labels behind a layer's activation; one that mixes channels (softmax) freezes them."""
    elementwise, keeps_zero = nature(call.op.activation, labels.ndim)
    if not elementwise:
        call.freeze(labels)
    call.zero_output = keeps_zero
    return labels


@register(BaseConv)
def _conv(call: Call) -> np.ndarray:
    layer, kernel = call.op, kernel_of(call.op)
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
    call.zero_output = True
    return call.spread(call.produce(embeddings_of(call.op)), -1, len(call.output_shapes[0]))


@register(*existing(layers, "ReversibleEmbedding"))
def _reversible_embedding(call: Call) -> np.ndarray:
    """Read backwards, the embeddings are the kernel of a layer that makes a number per token."""
    if not call.argument("reverse"):
        return _embedding(call)
    layer = call.op
    width = call.produce(embeddings_of(layer))
    if not layer.tie_weights:
        call.consume(layer.reverse_embeddings, 0, width)
    call.tie(call.along(call.inputs[0], -1, call.shapes[0][-1]), width)
    return call.spread(call.constant(layer.input_dim), -1, len(call.output_shapes[0]))


@register(layers.PReLU)
def _prelu(call: Call) -> np.ndarray:
    labels, alpha = call.inputs[0], call.op.alpha
    call.passes()
    for axis in range(1, labels.ndim):
        if labels.shape[axis] > 1 and alpha.shape[axis - 1] > 1:  # size 1: an axis alpha shares
            call.vector(alpha, call.along(labels, axis), axis=axis - 1)
    return labels


@register(layers.Softmax)
def _softmax(call: Call) -> np.ndarray:
    axes = call.op.axis if isinstance(call.op.axis, (list, tuple)) else [call.op.axis]
    if any(call.inputs[0].shape[axis] > 1 for axis in axes):
        call.freeze(call.inputs[0])
    for labels in call.inputs[1:]:  # a mask
        call.freeze(labels)
    return call.inputs[0]


@register(layers.Activation)
def _activation(call: Call) -> np.ndarray:
    labels = activate(call, call.inputs[0])
    call.zero_output &= call.zero_inputs[0]
    return labels


@register(layers.ReLU)
def _relu(call: Call) -> np.ndarray:
    """Below a threshold a slope goes down from there, so that it makes another number of zero."""
    call.zero_output = call.zero_inputs[0] and not (call.op.threshold and call.op.negative_slope)
    return call.inputs[0]


@register(
    layers.LeakyReLU,
    layers.ELU,
    layers.Identity,
    layers.Dropout,
    layers.GaussianNoise,
    layers.GaussianDropout,
    layers.AlphaDropout,
    layers.SpatialDropout1D,
    layers.SpatialDropout2D,
    layers.SpatialDropout3D,
    layers.ActivityRegularization,
)
def _same(call: Call) -> np.ndarray:
    call.passes()
    return call.inputs[0]


@register(layers.Masking)
def _masking(call: Call) -> np.ndarray:
    """Masks where all channels are of one value: a channel of zeros tells nothing if that is 0."""
    if np.any(call.op.mask_value) or not call.zero_inputs[0]:
        call.freeze(call.inputs[0])
    call.passes()
    return call.inputs[0]


@register(StochasticDepth)
def _stochastic_depth(call: Call) -> np.ndarray:
    return _same(call)


@register(LayerScale)
def _layer_scale(call: Call) -> np.ndarray:
    labels = call.along(call.inputs[0], -1, call.shapes[0][-1])
    call.vector(call.op.gamma, labels)
    call.zero_output = True
    return call.spread(labels, -1, len(call.shapes[0]))


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
    keras_nn.MaxPool,
    keras_nn.AveragePool,
    keras_image.CropImages,
    keras_image.PadImages,
    keras_image.Resize,
    *existing(layers, *(f"Adaptive{k}Pooling{n}D" for k in ("Average", "Max") for n in (1, 2, 3))),
    *existing(keras_nn, "AdaptiveAveragePool", "AdaptiveMaxPool"),
)
def within_channels(call: Call) -> np.ndarray:
    """The labels behind what works within each channel, along the other axes."""
    if _fills(call.op):
        call.zero_output = False
    else:
        call.passes()
    rank = len(call.shapes[0])
    axis = channel_axis(call.op, rank) if hasattr(call.op, "data_format") else rank - 1
    return call.spread(call.along(call.inputs[0], axis, call.shapes[0][axis]), axis, rank)


def _fills(op: keras.Operation) -> bool:
    """Whether an operation puts another number than zero beside what it is given."""
    fill = getattr(op, "fill_value", None)
    if isinstance(op, (layers.Resizing, keras_image.Resize)) and not op.pad_to_aspect_ratio:
        return False
    if getattr(op, "fill_mode", "constant") != "constant" or fill is None:
        return False
    return bool(np.any(keras.ops.convert_to_numpy(fill)))


@register(BaseGlobalPooling)
def _global_pooling(call: Call) -> np.ndarray:
    call.passes()
    rank = len(call.shapes[0])
    axis = channel_axis(call.op, rank)
    labels = call.along(call.inputs[0], axis, call.shapes[0][axis])
    return call.spread(labels, axis if call.op.keepdims else 1, len(call.output_shapes[0]))
