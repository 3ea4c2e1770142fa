"""The multiply-accumulates of one call: a small function for each type of layer or operation."""

import math
import warnings
from collections.abc import Iterable

import keras

from ptkeras.channels.einsum import spell
from ptkeras.cost.calls import Call, Shape, sizes
from ptkeras.cost.mac_rules import register, rule_of
from ptkeras.keras_compat.attention import has_gate


def macs(found: Iterable[Call]) -> list[int]:
    """MACs of each call, for the whole batch; 0, with one warning, where no rule is known.

    Only a layer with a matrix among its weights is warned of: vectors scale and shift, and do not
    make a matrix product.
    """
    counts, unknown = [], {}
    for call in found:
        rule = rule_of(call.operation)
        counts.append(int(rule(call)) if rule else 0)
        weights = [] if rule else getattr(call.operation, "weights", [])
        if any(len(w.shape) > 1 for w in weights):
            unknown[call.name] = type(call.operation).__name__
    if unknown:
        names = ", ".join(f"'{name}' ({kind})" for name, kind in unknown.items())
        warnings.warn(
            f"The multiply-accumulates of {names} are counted as 0, for want of a rule; "
            "ptkeras.cost.register adds one.",
            stacklevel=3,
        )
    return counts


@register(
    "BatchNormalization",
    "Bidirectional",
    "Embedding",
    "GroupNormalization",
    "LayerNormalization",
    "Normalization",
    "PReLU",
    "RMSNormalization",
    "Wrapper",
)
def _no_product(call: Call) -> int:
    return 0


@register("ReversibleEmbedding")
def _reversible_embedding(call: Call) -> int:
    reverse = call.argument("reverse")
    return math.prod(call.outputs[0]) * call.operation.output_dim if reverse else 0


@register("Conv1D", "Conv2D", "Conv3D")
def _conv(call: Call) -> int:
    layer, channels = call.operation, _channels(call.operation, call.inputs[0])
    return math.prod(call.outputs[0]) * math.prod(layer.kernel_size) * channels // layer.groups


@register("DepthwiseConv1D", "DepthwiseConv2D")
def _depthwise_conv(call: Call) -> int:
    return math.prod(call.outputs[0]) * math.prod(call.operation.kernel_size)


@register("SeparableConv1D", "SeparableConv2D")
def _separable_conv(call: Call) -> int:
    layer = call.operation
    between = _channels(layer, call.inputs[0]) * layer.depth_multiplier
    positions = math.prod(call.outputs[0]) // layer.filters
    return positions * between * (math.prod(layer.kernel_size) + layer.filters)


@register("Conv1DTranspose", "Conv2DTranspose", "Conv3DTranspose")
def _conv_transpose(call: Call) -> int:
    layer = call.operation
    return math.prod(call.inputs[0]) * math.prod(layer.kernel_size) * layer.filters


def _channels(layer: keras.layers.Layer, shape: Shape) -> int:
    return shape[1] if layer.data_format == "channels_first" else shape[-1]


@register("Conv")
def _conv_op(call: Call) -> int:
    return math.prod(call.outputs[0]) * math.prod(call.inputs[1][:-1])


@register("DepthwiseConv")
def _depthwise_conv_op(call: Call) -> int:
    return math.prod(call.outputs[0]) * math.prod(call.inputs[1][:-2])


@register("SeparableConv")
def _separable_conv_op(call: Call) -> int:
    _, depthwise, pointwise = call.inputs
    positions = math.prod(call.outputs[0]) // pointwise[-1]
    return positions * (math.prod(depthwise) + math.prod(pointwise))


@register("ConvTranspose")
def _conv_transpose_op(call: Call) -> int:
    return math.prod(call.inputs[0]) * math.prod(call.inputs[1][:-1])


@register("Dense", "Matmul", "Inner")
def _matmul(call: Call) -> int:
    return math.prod(call.outputs[0]) * call.inputs[0][-1]


@register("Dot")
def _dot(call: Call) -> int:
    """`keras.layers.Dot` says which axes it contracts; `keras.ops.dot` contracts the last one."""
    if () in call.inputs or len(call.inputs) < 2:
        return 0  # by a single number
    axes = getattr(call.operation, "axes", -1)
    return math.prod(call.outputs[0]) * call.inputs[0][axes if isinstance(axes, int) else axes[0]]


@register("Vdot")
def _vdot(call: Call) -> int:
    return math.prod(call.inputs[0])


@register("Tensordot")
def _tensordot(call: Call) -> int:
    # With K contracted, |out| = |a||b| / K^2, so that |out| K = sqrt(|a| |b| |out|).
    first, second = call.inputs
    return math.isqrt(math.prod(first) * math.prod(second) * math.prod(call.outputs[0]))


@register("EinsumDense")
def _einsum_dense(call: Call) -> int:
    layer, x = call.operation, call.inputs[0]
    (first, _), output = spell(layer.equation, [len(x), len(layer.kernel.shape)])
    size = _label_sizes([first, output], [x, call.outputs[0]])
    return math.prod(size.values())


@register("Einsum")
def _einsum(call: Call) -> int:
    """Contracts the operands from left to right, each step over all labels that it touches."""
    terms, output = spell(call.operation.subscripts, [len(shape) for shape in call.inputs])
    size = _label_sizes(terms, call.inputs)
    labels, kept = [set(term) for term in terms], set(output)
    total, left = 0, labels[0]
    for step, right in enumerate(labels[1:], start=2):
        total += math.prod(size[label] for label in left | right)
        left = (left | right) & kept.union(*labels[step:])
    return total


def _label_sizes(terms: list[str], shapes: list[Shape]) -> dict[str, int]:
    size: dict[str, int] = {}
    for term, shape in zip(terms, shapes, strict=True):
        for label, n in zip(term, shape, strict=True):
            size[label] = max(n, size.get(label, 1))
    return size


@register("MultiHeadAttention")
def _multi_head_attention(call: Call) -> int:
    layer = call.operation
    query, key, value = _query_key_value(call)
    axes = layer.attention_axes or range(1, len(query) - 1)
    targets = math.prod(query[:-1])
    sources = math.prod(key[axis] for axis in axes)
    keys, values = layer.num_heads * layer.key_dim, layer.num_heads * layer.value_dim
    gate = math.prod(query) * values if has_gate(layer) else 0
    projections = (math.prod(query) + math.prod(key)) * keys + math.prod(value) * values + gate
    return projections + targets * sources * (keys + values) + math.prod(call.outputs[0]) * values


@register("GroupedQueryAttention", "GroupQueryAttention")
def _grouped_query_attention(call: Call) -> int:
    layer = call.operation
    query, key, value = _query_key_value(call)
    heads = layer.num_query_heads * layer.head_dim
    shared = layer.num_key_value_heads * layer.head_dim
    gate = math.prod(query) * heads if getattr(layer, "use_gate", False) else 0
    projections = math.prod(query) * heads + (math.prod(key) + math.prod(value)) * shared + gate
    products = 2 * math.prod(query[:-1]) * key[1] * heads
    return projections + products + math.prod(call.outputs[0]) * heads


def _query_key_value(call: Call) -> tuple[Shape, Shape, Shape]:
    query, key, value = (call.argument(name) for name in ("query", "key", "value"))
    return sizes(query), sizes(value if key is None else key), sizes(value)


@register("Attention", "AdditiveAttention")
def _attention(call: Call) -> int:
    """Scores of all pairs of a query and a key, and the values weighted by them."""
    query, value = (sizes(x) for x in call.argument("inputs")[:2])
    return math.prod(query[:-1]) * value[-2] * (query[-1] + value[-1])


@register("DotProductAttention")
def _dot_product_attention(call: Call) -> int:
    query, key, value = call.inputs[:3]
    return math.prod(query[:-1]) * key[1] * (query[-1] + value[-1])


@register("SimpleRNNCell", "LSTMCell", "GRUCell")
def _recurrent_cell(call: Call) -> int:
    """One step."""
    return call.inputs[0][0] * _matrices(call.operation)


@register("RNN")
def _recurrent(call: Call) -> int:
    """Each step multiplies by every matrix of the cell, at each position of a convolutional one."""
    layer, output = call.operation, call.outputs[0]
    batch, steps = sizes(call.argument("sequences"))[:2]
    positions = 1
    if hasattr(layer.cell, "kernel_size"):
        states = math.prod(output) // (steps if layer.return_sequences else 1)
        positions = states // (batch * layer.cell.filters)
    return batch * steps * positions * _matrices(layer.cell)


def _matrices(cell: keras.layers.Layer) -> int:
    """The numbers in the matrices of a cell."""
    # A GRU's bias is a matrix too: one row for the inputs, one for the state.
    kernels = [w for w in cell.weights if len(w.shape) > 1 and w.name != "bias"]
    return sum(math.prod(w.shape) for w in kernels)
