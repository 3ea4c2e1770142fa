"""Which attributes of Keras's own layers and operations say their sizes."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import layers

from ptkeras.channels.registry import existing
from ptkeras.keras_compat.attention import (
    OUTPUT_SHAPE,
    grouped_query_scale,
    multi_head_sizes,
    output_shape_of,
    projection,
    projections,
)
from ptkeras.keras_compat.layers import (
    BaseConv,
    BaseConvTranspose,
    BaseSeparableConv,
    ConvLSTM,
    ConvLSTMCell,
    LayerScale,
)
from ptkeras.keras_compat.operations import keras_numpy
from ptkeras.keras_compat.weights import embeddings_of, kernel_of
from ptkeras.surgery.sizes import Attributes, Sizes, register


@register(BaseConv)
def _conv(layer: keras.layers.Layer, attributes: Attributes, sizes: Sizes) -> None:
    # `kernel` is a property, which a subclass may make another tensor of.
    attributes["filters"] = sizes.shape(kernel_of(layer))[-1]
    if layer.groups > 1 and kernel_of(layer).shape[-2] == 1:  # depthwise: a group for each channel
        attributes["groups"] = attributes["filters"] * layer.groups // layer.filters


@register(BaseConvTranspose)
def _conv_transpose(layer: keras.layers.Layer, attributes: Attributes, sizes: Sizes) -> None:
    attributes["filters"] = sizes.shape(layer.kernel)[-2]


@register(BaseSeparableConv)
def _separable_conv(layer: keras.layers.Layer, attributes: Attributes, sizes: Sizes) -> None:
    attributes["filters"] = sizes.shape(layer.pointwise_kernel)[-1]


@register(layers.Dense)
def _dense(layer: keras.layers.Layer, attributes: Attributes, sizes: Sizes) -> None:
    attributes["units"] = sizes.shape(kernel_of(layer))[-1]


@register(layers.Embedding)
def _embedding(layer: keras.layers.Layer, attributes: Attributes, sizes: Sizes) -> None:
    attributes["output_dim"] = sizes.shape(embeddings_of(layer))[-1]


@register(layers.Reshape)
def _reshape(layer: keras.layers.Layer, attributes: Attributes, sizes: Sizes) -> None:
    target = sizes.outputs[0][1:]
    if sum(n is None for n in target) <= 1:
        attributes["target_shape"] = tuple(
            -1 if n is None or old == -1 else n
            for old, n in zip(layer.target_shape, target, strict=True)
        )


@register(layers.Rescaling)
def _rescaling(layer: keras.layers.Layer, attributes: Attributes, sizes: Sizes) -> None:
    """A scale or offset per channel loses the numbers of the channels; one by place keeps its."""
    _slice_arrays(layer, attributes, sizes, ("scale", "offset"))


@register(keras_numpy.Clip)
def _clip(op: Any, attributes: Attributes, sizes: Sizes) -> None:
    _slice_arrays(op, attributes, sizes, ("x_min", "x_max"))


def _slice_arrays(layer: Any, attributes: Attributes, sizes: Sizes, names: tuple[str, ...]) -> None:
    """Takes the numbers of the channels that go out of arrays or lists along the channels."""
    kept = sizes.kept[0]
    along = next((a - kept.ndim for a, n in enumerate(kept.shape) if n > 1), None)
    for name in names:
        given = getattr(layer, name)
        if given is None or isinstance(given, keras.Variable) or along is None or kept.all():
            continue
        values = np.asarray(given)
        if values.ndim >= -along and values.shape[along] > 1:
            values = values.compress(kept.reshape(-1), along)
            attributes[name] = values.tolist() if isinstance(given, list) else values


@register(LayerScale)
def _layer_scale(layer: keras.layers.Layer, attributes: Attributes, sizes: Sizes) -> None:
    attributes["projection_dim"] = sizes.shape(layer.gamma)[0]


@register(layers.GroupNormalization)
def _group_normalization(layer: keras.layers.Layer, attributes: Attributes, sizes: Sizes) -> None:
    """Keeps whole groups where the channels of each went together, else the number of groups."""
    size = layer.input_spec.axes[layer.axis]
    kept = sizes.kept[0]
    axis = layer.axis % kept.ndim
    if kept.shape[axis] == 1:
        return
    groups = np.broadcast_to(kept.reshape(-1), size).reshape(layer.groups, -1)
    if (groups.all(1) | ~groups.any(1)).all():
        attributes["groups"] = int(groups.any(1).sum())


@register(layers.EinsumDense)
def _einsum_dense(layer: keras.layers.Layer, attributes: Attributes, sizes: Sizes) -> None:
    """The output's sizes that the kernel says are the kernel's new ones."""
    read, kernel, output = layer.equation.replace(" ", "").replace("->", ",").split(",")
    new: dict[str, int | None] = {}
    if sizes.inputs and "..." not in read:
        new = dict(zip(read, sizes.inputs[0], strict=True))
    new |= dict(zip(kernel, sizes.shape(kernel_of(layer)), strict=True))
    for name in ("partial_output_shape", "full_output_shape"):
        old = getattr(layer, name, None)
        if old is None:
            continue
        # Counted from the right, where no ellipsis is in the way.
        letters = output.replace("...", "")[-len(old) :]
        spare = [None] * (len(old) - len(letters))
        attributes[name] = tuple(
            n if n is None else new.get(letter) or n
            for n, letter in zip(old, [*spare, *letters], strict=True)
        )


@register(layers.MultiHeadAttention)
def _multi_head_attention(layer: keras.layers.Layer, attributes: Attributes, sizes: Sizes) -> None:
    _, heads, width = sizes.shape(kernel_of(projection(layer, "query")))
    values = sizes.shape(kernel_of(projection(layer, "value")))[-1]
    attributes.update(multi_head_sizes(heads, width, values))
    output = sizes.shape(kernel_of(projection(layer, "output")))[2:]
    if output_shape_of(layer) or output != tuple(sizes.inputs[0][-1:]):
        attributes[OUTPUT_SHAPE] = output
    for inner in projections(layer):
        attributes.of(inner, sizes._replace(inputs=[]))


@register(layers.GroupQueryAttention)
def _grouped_query_attention(
    layer: keras.layers.Layer, attributes: Attributes, sizes: Sizes
) -> None:
    _, heads, width = sizes.shape(kernel_of(projection(layer, "query")))
    groups = sizes.shape(kernel_of(projection(layer, "key")))[1]
    attributes.update(num_query_heads=heads, head_dim=width, num_key_value_heads=groups)
    attributes["num_repeats"] = heads // groups
    attributes.update(grouped_query_scale(width))
    attributes["feature_dim"] = sizes.inputs[0][-1]
    for inner in projections(layer):
        attributes.of(inner, sizes._replace(inputs=[]))


@register(layers.SimpleRNNCell, layers.LSTMCell, layers.GRUCell)
def _cell(cell: keras.layers.Layer, attributes: Attributes, sizes: Sizes) -> None:
    units = sizes.shape(cell.recurrent_kernel)[-2]
    states = [units] * len(cell.state_size) if isinstance(cell.state_size, list) else units
    attributes.update(units=units, output_size=units, state_size=states)


@register(ConvLSTMCell)
def _conv_cell(cell: keras.layers.Layer, attributes: Attributes, sizes: Sizes) -> None:
    *_, inputs, columns = sizes.shape(cell.kernel)
    filters = sizes.shape(cell.recurrent_kernel)[-2]
    attributes["filters"] = filters
    attributes["kernel_shape"] = (*cell.kernel_size, inputs, columns)
    attributes["recurrent_kernel_shape"] = (*cell.kernel_size, filters, columns)


@register(layers.RNN)
def _rnn(layer: keras.layers.Layer, attributes: Attributes, sizes: Sizes) -> None:
    attributes.of(layer.cell, sizes)
    if isinstance(layer, ConvLSTM):
        return
    cells = getattr(layer.cell, "cells", [layer.cell])
    states = [_states(cell, sizes) for cell in cells]
    attributes["state_size"] = states if hasattr(layer.cell, "cells") else _listed(states[0])


def _states(cell: keras.layers.Layer, sizes: Sizes) -> Any:
    """The new size of the states of a cell, an integer or a list."""
    if not hasattr(cell, "recurrent_kernel"):
        return cell.state_size
    units = sizes.shape(cell.recurrent_kernel)[-2]
    return [units] * len(cell.state_size) if isinstance(cell.state_size, list) else units


def _listed(states: Any) -> list:
    return list(states) if isinstance(states, (list, tuple)) else [states]


@register(layers.StackedRNNCells)
def _stacked_cells(layer: keras.layers.Layer, attributes: Attributes, sizes: Sizes) -> None:
    for cell in layer.cells:
        attributes.of(cell, sizes)


@register(layers.Bidirectional)
def _bidirectional(layer: keras.layers.Layer, attributes: Attributes, sizes: Sizes) -> None:
    for inner in (layer.forward_layer, layer.backward_layer):
        attributes.of(inner, sizes)


@register(layers.TimeDistributed)
def _time_distributed(layer: keras.layers.Layer, attributes: Attributes, sizes: Sizes) -> None:
    if not isinstance(layer.layer, keras.Model):
        attributes.of(layer.layer, sizes.within_time())


@register(layers.SpectralNormalization)
def _spectral_normalization(
    layer: keras.layers.Layer, attributes: Attributes, sizes: Sizes
) -> None:
    attributes.of(layer.layer, sizes)
    attributes["kernel_shape"] = sizes.shape(layer.kernel)


@register(keras_numpy.Reshape)
def _reshape_operation(op: Any, attributes: Attributes, sizes: Sizes) -> None:
    old = [-1 if n is None else int(n) for n in op.newshape]
    attributes["newshape"] = tuple(
        n if n in (-1, 1) or size is None else size
        for n, size in zip(old, sizes.outputs[0], strict=True)
    )


@register(keras_numpy.BroadcastTo)
def _broadcast_to(op: Any, attributes: Attributes, sizes: Sizes) -> None:
    if len(op.shape) == len(sizes.outputs[0]):
        attributes["shape"] = tuple(
            old if n is None else n for old, n in zip(op.shape, sizes.outputs[0], strict=True)
        )


@register(keras_numpy.Squeeze)
def _squeeze(op: Any, attributes: Attributes, sizes: Sizes) -> None:
    """Names the axes: one that is left with a single channel is no axis to be squeezed."""
    if op.axis is None:
        former = sizes.former[0]
        attributes["axis"] = tuple(axis for axis, n in enumerate(former) if n == 1)


def scale_queries(layer: keras.layers.Layer, ratio: float) -> dict[int, float]:
    """Returns factors for the variables of the queries of an attention, by `id`.

    The scores are divided by the root of the width of a head: queries make up for a smaller one.
    """
    return {id(v): ratio**0.5 for v in projection(layer, "query").weights}


_ATTENTIONS = tuple(existing(layers, "MultiHeadAttention", "GroupQueryAttention"))


def rescaled(layer: keras.Operation, sizes: Sizes) -> dict[int, float]:
    """Returns the factors by which variables change because a layer divides by its own size."""
    if not isinstance(layer, _ATTENTIONS):
        return {}
    old = kernel_of(projection(layer, "query")).shape[-1]
    new = sizes.shape(kernel_of(projection(layer, "query")))[-1]
    return scale_queries(layer, new / old) if new != old else {}
