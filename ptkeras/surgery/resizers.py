"""How the configs of Keras's own layers say their sizes."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import layers
from keras.src.applications.convnext import LayerScale
from keras.src.layers.convolutional.base_conv import BaseConv
from keras.src.layers.convolutional.base_conv_transpose import BaseConvTranspose
from keras.src.layers.convolutional.base_separable_conv import BaseSeparableConv
from keras.src.layers.rnn.conv_lstm import ConvLSTM

from ptkeras.surgery.layers import Sizes, register, register_adjuster, resized_config


@register(BaseConv)
def _conv(layer: Any, config: dict, sizes: Sizes) -> None:
    config["filters"] = sizes.shape(layer.kernel)[-1]
    if layer.groups > 1 and layer.kernel.shape[-2] == 1:  # depthwise: a group for each channel
        config["groups"] = config["filters"] * layer.groups // layer.filters


@register(BaseConvTranspose)
def _conv_transpose(layer: Any, config: dict, sizes: Sizes) -> None:
    config["filters"] = sizes.shape(layer.kernel)[-2]


@register(BaseSeparableConv)
def _separable_conv(layer: Any, config: dict, sizes: Sizes) -> None:
    config["filters"] = sizes.shape(layer.pointwise_kernel)[-1]


@register(layers.Dense)
def _dense(layer: Any, config: dict, sizes: Sizes) -> None:
    config["units"] = sizes.shape(layer.kernel)[-1]


@register(layers.Embedding)
def _embedding(layer: Any, config: dict, sizes: Sizes) -> None:
    config["output_dim"] = sizes.shape(layer._embeddings)[-1]


@register(layers.Reshape)
def _reshape(layer: Any, config: dict, sizes: Sizes) -> None:
    target = sizes.outputs[0][1:]
    if sum(n is None for n in target) <= 1:
        config["target_shape"] = tuple(-1 if n is None else n for n in target)


@register(layers.Rescaling)
def _rescaling(layer: Any, config: dict, sizes: Sizes) -> None:
    for name in ("scale", "offset"):
        values = np.asarray(getattr(layer, name))
        for axis in range(-values.ndim, 0):
            if values.shape[axis] > 1:
                kept = np.flatnonzero(sizes.kept[0].reshape(-1))
                values = values.take(kept, axis)
        config[name] = values.tolist()


@register(LayerScale)
def _layer_scale(layer: Any, config: dict, sizes: Sizes) -> None:
    config["projection_dim"] = sizes.shape(layer.gamma)[0]


@register(layers.GroupNormalization)
def _group_normalization(layer: Any, config: dict, sizes: Sizes) -> None:
    """Keeps whole groups where the channels of each went together, else the number of groups."""
    kept = sizes.kept[0].reshape(-1)
    groups = np.broadcast_to(kept, layer.input_spec.axes[layer.axis]).reshape(layer.groups, -1)
    if (groups.all(1) | ~groups.any(1)).all():
        config["groups"] = int(groups.any(1).sum())


@register(layers.EinsumDense)
def _einsum_dense(layer: Any, config: dict, sizes: Sizes) -> None:
    partial = layer.partial_output_shape
    sized = sizes.outputs[0][-len(partial) :]
    config["output_shape"] = [
        n if old is not None else None for n, old in zip(sized, partial, strict=True)
    ]


@register(layers.MultiHeadAttention)
def _multi_head_attention(layer: Any, config: dict, sizes: Sizes) -> None:
    _, config["num_heads"], config["key_dim"] = sizes.shape(layer._query_dense._kernel)
    config["value_dim"] = sizes.shape(layer._value_dense._kernel)[-1]
    width = sizes.shape(layer._output_dense._kernel)[2:]
    if layer._output_shape or width != sizes.inputs[0][-1:]:
        config["output_shape"] = width


@register_adjuster(layers.Normalization)
def _normalise_as_before(old: Any, new: Any) -> None:
    """What it divides by is worked out from its variables."""
    new.finalize_state()


@register_adjuster(layers.MultiHeadAttention)
def _scale_as_before(old: Any, new: Any) -> None:
    """The scores are divided by the root of the head's width: queries make up for a smaller one."""
    _scale_queries(new, new.key_dim / old.key_dim)


@register(layers.GroupQueryAttention)
def _grouped_query_attention(layer: Any, config: dict, sizes: Sizes) -> None:
    _, config["num_query_heads"], config["head_dim"] = sizes.shape(layer._query_dense._kernel)
    config["num_key_value_heads"] = sizes.shape(layer._key_dense._kernel)[1]


@register_adjuster(layers.GroupQueryAttention)
def _scale_groups_as_before(old: Any, new: Any) -> None:
    _scale_queries(new, new.head_dim / old.head_dim)


def _scale_queries(layer: Any, ratio: float) -> None:
    if ratio != 1:
        for variable in layer._query_dense.weights:
            variable.assign(variable.value * ratio**0.5)


@register(layers.SimpleRNN, layers.LSTM, layers.GRU)
def _recurrent(layer: Any, config: dict, sizes: Sizes) -> None:
    config["units"] = sizes.shape(layer.cell.recurrent_kernel)[-2]


@register(layers.SimpleRNNCell, layers.LSTMCell, layers.GRUCell)
def _cell(cell: Any, config: dict, sizes: Sizes) -> None:
    config["units"] = sizes.shape(cell.recurrent_kernel)[-2]


@register(ConvLSTM)
def _conv_lstm(layer: Any, config: dict, sizes: Sizes) -> None:
    config["filters"] = sizes.shape(layer.cell.recurrent_kernel)[-2]


@register(layers.RNN)
def _rnn(layer: Any, config: dict, sizes: Sizes) -> None:
    config["cell"] = _resized(layer.cell, sizes)


@register(layers.StackedRNNCells)
def _stacked_cells(layer: Any, config: dict, sizes: Sizes) -> None:
    config["cells"] = [_resized(cell, sizes) for cell in layer.cells]


@register(layers.Bidirectional)
def _bidirectional(layer: Any, config: dict, sizes: Sizes) -> None:
    config["layer"] = _resized(layer.forward_layer, sizes)
    config["backward_layer"] = _resized(layer.backward_layer, sizes)


def _resized(inner: Any, sizes: Sizes) -> dict:
    """A layer within another one as the other's config describes it, with its new size."""
    described = keras.saving.serialize_keras_object(inner)
    described.pop("build_config", None)  # it would be built at its old size
    return described | {"config": resized_config(inner, sizes)}
