"""The rules of attention layers: heads, the channels of each head, and the model's width."""

from __future__ import annotations

from typing import Any

import numpy as np
from keras import layers

from ptkeras.channels.operands import known_zero
from ptkeras.channels.registry import Call, register
from ptkeras.keras_compat.attention import has_gate, projection
from ptkeras.keras_compat.operations import keras_nn


def _project(call: Call, dense: Any, read: np.ndarray, made: list[np.ndarray | None]) -> list:
    """A projection (width, heads, head width): makes new labels, or those that are given."""
    kernel = dense.kernel
    call.consume(kernel, 0, call.along(read, -1, kernel.shape[0]))
    result = []
    for axis, labels in enumerate(made, start=1):
        if labels is None:
            labels = call.produce(kernel, axis)
        else:
            call.makes(kernel, axis, labels)
        call.vector(dense.bias, labels, axis - 1)
        result.append(labels)
    return result


def _join_heads(call: Call, heads: np.ndarray, width: np.ndarray) -> np.ndarray:
    """The projection (heads, head width, model width) behind the attention."""
    dense = projection(call.op, "output")
    call.consume(dense.kernel, 0, heads)
    call.consume(dense.kernel, 1, width)
    outputs = call.produce(dense.kernel, -1)
    call.vector(dense.bias, outputs, -1)
    call.zero_output = True
    return call.spread(outputs, -1, len(call.output_shapes[0]))


def _outputs(call: Call, result: np.ndarray, heads: np.ndarray) -> list[np.ndarray]:
    if len(call.output_shapes) == 1:
        return [result]
    call.zero_output = False  # the scores of a head of zeros are all alike
    return [result, call.spread(heads, 1, len(call.output_shapes[1]))]  # the scores of each head


def _operands(call: Call) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """Query, key and value, or None if an array is among them; freezes the masks."""
    query, value = (call.labels_of(call.argument(name)) for name in ("query", "value"))
    key = call.labels_of(call.argument("key"))
    for name in ("attention_mask", "query_mask", "value_mask", "key_mask"):
        mask = call.labels_of(call.argument(name))
        if mask is not None:
            call.freeze(mask)
    if query is None or value is None:
        return None
    return query, value if key is None else key, value


def _has_mask_by_head(call: Call) -> bool:
    """Whether the mask of an attention has numbers of its own for each head."""
    mask = call.argument("attention_mask")
    return mask is not None and len(mask.shape) > 3 and mask.shape[1] != 1


@register(layers.MultiHeadAttention)
def _multi_head_attention(call: Call) -> list[np.ndarray] | None:
    """Heads and head widths go by themselves.

    Queries, keys and values that were of one width stay so: the fused attention of JAX, and flash
    attention, know no other.
    """
    layer = call.op
    operands = _operands(call)
    if operands is None:
        return None
    query, key, value = operands
    heads, width = _project(call, projection(layer, "query"), query, [None, None])
    _project(call, projection(layer, "key"), key, [heads, width])
    shared = width if layer.value_dim == layer.key_dim else None
    _, value_width = _project(call, projection(layer, "value"), value, [heads, shared])
    if has_gate(layer):
        _project(call, projection(layer, "gate"), query, [heads, value_width])
    if _has_mask_by_head(call):
        call.freeze(heads)
    for inner in (heads, width, value_width):
        call.needs(inner)
    return _outputs(call, _join_heads(call, heads, value_width), heads)


@register(layers.GroupQueryAttention)
def _grouped_query_attention(call: Call) -> list[np.ndarray] | None:
    """A head of keys and values goes along with the query heads that it serves."""
    layer = call.op
    operands = _operands(call)
    if operands is None:
        return None
    query, key, value = operands
    # Keras wants the query as wide as the value, and makes the output so.
    call.tie(call.along(query, -1, call.shapes[0][-1]), call.along(value, -1, call.shapes[0][-1]))
    served, width = _project(call, projection(layer, "key"), key, [None, None])
    _project(call, projection(layer, "value"), value, [served, width])
    heads = np.repeat(served, layer.num_repeats)
    _project(call, projection(layer, "query"), query, [heads, width])
    if getattr(layer, "use_gate", False):
        _project(call, projection(layer, "gate"), query, [heads, width])
    if _has_mask_by_head(call):
        call.freeze(heads)
    for inner in (served, width):
        call.needs(inner)
    result = _join_heads(call, heads, width)
    call.tie(result.reshape(-1), call.along(query, -1, result.size))  # as wide as the query
    return _outputs(call, result, heads)


@register(layers.Attention, layers.AdditiveAttention)
def _attention(call: Call) -> list[np.ndarray] | None:
    """Sums products of query and key over the channels, to which zeros add nothing."""
    tensors = call.argument("inputs")
    query, value = (call.labels_of(tensors[i]) for i in (0, 1))
    key = call.labels_of(tensors[2]) if len(tensors) > 2 else value
    if query is None or value is None or key is None:
        return None  # an array among them
    for labels in call.inputs[len(tensors) :]:  # masks
        call.freeze(labels)
    read = [call.along(x, -1, call.shapes[0][-1]) for x in (query, key)]
    call.tie(*read)
    additive = isinstance(call.op, layers.AdditiveAttention)
    if additive and call.op.use_scale:
        call.vector(call.op.scale, read[0])
    elif not _exact_scores(call, additive):
        call.freeze(read[0])
    vector = call.along(value, -1, call.shapes[1][-1])
    call.zero_output = call.zero_inputs[1]
    result = [call.spread(vector, -1, len(call.output_shapes[0]))]
    if len(call.output_shapes) > 1:
        result.append(call.constant(1).reshape((1,) * len(call.output_shapes[1])))
    return result


@register(keras_nn.DotProductAttention)
def _dot_product_attention(call: Call) -> np.ndarray | None:
    """Queries, keys and values of (batch, time, heads, width): the widths of all are one."""
    given = [call.labels_of(call.argument(name)) for name in ("query", "key", "value")]
    for name in ("bias", "mask", "scale"):
        labels = call.labels_of(call.argument(name))
        if labels is not None:
            call.freeze(labels)
    operands = [labels for labels in given if labels is not None]
    if len(operands) < 3 or len({s[-1] for s in call.shapes[:3]}) > 1:
        return None
    widths = [call.along(labels, -1, call.shapes[0][-1]) for labels in operands]
    for other in widths[1:]:
        call.tie(widths[0], other)
    # A zero adds nothing to a product, so it is enough that one factor is known to be zero.
    if not any(known_zero(call, call.argument(name)) for name in ("query", "key")):
        call.freeze(widths[0])
    call.zero_output = known_zero(call, call.argument("value"))
    return call.spread(widths[0], -1, len(call.output_shapes[0]))


def _exact_scores(call: Call, additive: bool) -> bool:
    """Whether a channel that is zero adds nothing to the scores."""
    key = call.zero_inputs[2] if len(call.argument("inputs")) > 2 else call.zero_inputs[1]
    zeros = (call.zero_inputs[0], key)
    return all(zeros) if additive or call.op.score_mode == "concat" else any(zeros)
