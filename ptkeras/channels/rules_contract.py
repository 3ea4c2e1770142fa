"""The rules of reductions, softmax and products that sum over an axis: einsum, matmul, dot.

A sum over channels can do without those that are zero. A mean becomes another number without them,
which `exact=False` allows; what else mixes channels (a maximum, softmax) freezes them.
"""

from __future__ import annotations

import string
from typing import NamedTuple

import keras
import numpy as np
from keras import layers

from ptkeras.channels.einsum import spell
from ptkeras.channels.operands import (
    data_of,
    is_operand,
    keep_whole,
    known_zero,
    operands_of,
    reads_one_tensor,
)
from ptkeras.channels.registry import Call, Outputs, existing, register
from ptkeras.channels.rules import activate, channel_axis
from ptkeras.keras_compat.operations import keras_linalg, keras_math, keras_nn, keras_numpy
from ptkeras.keras_compat.weights import kernel_of


@register(
    keras_numpy.Sum,
    keras_numpy.Mean,
    keras_numpy.Max,
    keras_numpy.Amax,
    keras_numpy.Min,
    keras_numpy.Amin,
    keras_numpy.Prod,
    keras_numpy.Std,
    keras_numpy.Var,
    keras_numpy.Median,
    keras_numpy.All,
    keras_numpy.Any,
    keras_numpy.CountNonzero,
    keras_numpy.Argmax,
    keras_numpy.Argmin,
    keras_numpy.Average,
    keras_math.Logsumexp,
    keras_linalg.Norm,
    *existing(keras_numpy, *(f"Nan{x}" for x in ("max", "mean", "median", "min", "prod"))),
    *existing(keras_numpy, "Nanstd", "Nansum", "Nanvar", "Ptp"),
)
def _reduce(call: Call) -> np.ndarray | None:
    op, rank = call.op, len(call.shapes[0])
    if not reads_one_tensor(call) or len(operands_of(call)) > 1:
        return None  # weights of an average
    axes = range(rank) if op.axis is None else np.atleast_1d(op.axis) % rank
    labels = _reduced(call, tuple(int(a) for a in axes))
    fills = getattr(op, "initial", None) is not None or isinstance(op, keras_math.Logsumexp)
    call.zero_output &= not fills
    return labels


@register(keras_nn.Moments)
def _moments(call: Call) -> list[np.ndarray]:
    """The mean and the variance."""
    axes = tuple(int(a) % len(call.shapes[0]) for a in np.atleast_1d(call.op.axes))
    return [_reduced(call, axes)] * 2


def _reduced(call: Call, axes: tuple[int, ...]) -> np.ndarray:
    """The labels of a tensor that loses some axes, or keeps one position of each."""
    op, labels, shape = call.op, call.inputs[0], call.output_shapes[0]
    if 0 in call.shapes[0]:  # a sum of no numbers is one that stays
        vector = call.constant((shape and shape[-1]) or 1)
        return vector.reshape(((1,) * (len(shape) - 1) + (-1,)) if shape else ())
    if any(labels.shape[a] > 1 for a in axes):
        if isinstance(op, _MEANS) or _is_sum(op):
            if not (_is_sum(op) and call.zero_inputs[0]):
                call.mixes(labels)
        else:
            call.freeze(labels)
        return call.constant(1).reshape((1,) * len(shape))
    call.passes()
    return labels if len(shape) == labels.ndim else np.squeeze(labels, axes)


_MEANS = (
    keras_numpy.Average,
    keras_numpy.Mean,
    keras_numpy.Std,
    keras_numpy.Var,
    keras_nn.Moments,
    *existing(keras_numpy, "Nanmean", "Nanstd", "Nanvar"),
)
_SUMS = (
    keras_numpy.Any,
    keras_numpy.CountNonzero,
    keras_numpy.Sum,
    *existing(keras_numpy, "Nansum"),
)


def _is_sum(op: keras.Operation) -> bool:
    """Whether zeros add nothing to a reduction, however many there are."""
    if isinstance(op, keras_linalg.Norm):
        return op.ord in (None, 1, 2, "fro")
    return isinstance(op, _SUMS)


@register(
    keras_nn.Softmax,
    keras_nn.LogSoftmax,
    keras_nn.Sparsemax,
    keras_numpy.Cumsum,
    keras_numpy.Cumprod,
    keras_numpy.Sort,
    keras_numpy.Argsort,
    *existing(keras_numpy, "Nancumsum", "Nancumprod"),
)
def _along_an_axis(call: Call) -> np.ndarray | None:
    """Mixes what lies along one axis, and leaves the others alone."""
    labels = call.inputs[0]
    if call.op.axis is None:
        return None
    if any(labels.shape[a] > 1 for a in np.atleast_1d(call.op.axis)):
        call.freeze(labels)
    return labels


@register(keras_numpy.Tril, keras_numpy.Triu)
def _triangle(call: Call) -> np.ndarray:
    """What it keeps of the last two axes depends on the place."""
    labels = call.inputs[0]
    if any(n > 1 for n in labels.shape[-2:]):
        call.freeze(labels)
    call.passes()
    return labels


@register(keras_math.SegmentSum, keras_math.SegmentMax)
def _segment(call: Call) -> np.ndarray | None:
    """Sums up, or compares, what lies along the first axis."""
    labels, segments = call.labels_of(data_of(call)), call.labels_of(call.argument("segment_ids"))
    if labels is None or labels.shape[0] > 1 or labels.ndim != len(call.output_shapes[0]):
        return None
    if segments is not None:
        call.freeze(segments)
    # The largest of no numbers is the least that there is.
    call.zero_output = isinstance(call.op, keras_math.SegmentSum) and call.zero_inputs[0]
    return labels


@register(keras_math.TopK)
def _top_k(call: Call) -> Outputs:
    labels = call.inputs[0]
    if labels.shape[-1] == 1:
        return [labels, labels]
    return call.untouched()


class Term(NamedTuple):
    """One operand of a contraction.

    Attributes:
        letters: a letter per axis, as in einsum.
        labels: its label array; None for an array or a variable.
        shape: its shape.
        zero: whether it is zero where its channels are.
        variable: the variable that it is, or None.
    """

    letters: str
    labels: np.ndarray | None
    shape: tuple
    zero: bool
    variable: keras.Variable | None = None

    def letter(self) -> str | None:
        """The letter of the axis that channels lie along."""
        if self.labels is None:
            return None
        return next((self.letters[a] for a, n in enumerate(self.labels.shape) if n > 1), None)

    def has(self, letter: str) -> bool:
        """Whether it has more than one position along an axis."""
        return letter in self.letters and self.shape[self.letters.index(letter)] != 1


def contract(call: Call, terms: list[Term], out: str) -> np.ndarray:
    """The labels behind an einsum: what is multiplied is tied, zeros add nothing to a sum.

    A variable among the operands is a kernel, which reads the channels that are summed over, and
    makes new ones if none of them are left.
    """
    result: dict[str, tuple[np.ndarray, bool]] = {}
    recorded: set[tuple[int, int]] = set()
    for letter in dict.fromkeys("".join(term.letters for term in terms)):
        wide = [t for t in terms if t.has(letter)]
        varying = [t for t in terms if t.letter() == letter]
        kernels = [t for t in wide if t.variable is not None]
        vectors = [t.labels.reshape(-1) for t in varying if t.labels is not None]
        for other in vectors[1:]:
            call.tie(vectors[0], other)
        if not vectors:
            continue
        vector = vectors[0]
        alone = any(
            t.letters.count(letter) > 1 or (t.variable is None and t.letter() != letter)
            for t in wide
        )
        zero = bool(kernels) or any(t.zero for t in varying)
        if alone or (letter not in out and not zero):
            call.freeze(vector)
        elif kernels:
            for term in kernels:
                recorded.add((id(term.variable), term.letters.index(letter)))
                _record(call, term, letter, vector, letter in out)
        if letter in out:
            result[letter] = (vector, zero and not alone)
    for term in terms:
        if term.labels is not None and term.labels.size == 1:
            call.freeze(term.labels)  # one channel that is a part of everything
    chosen = max(result, key=out.index, default=None)
    for letter, (labels, _) in result.items():
        if letter != chosen:
            call.freeze(labels)
    if chosen is None and (made := _made(terms, out)) is not None:
        chosen, term = made
        axis = term.letters.index(chosen)
        recorded.add((id(term.variable), axis))
        result[chosen] = (call.produce(term.variable, axis), True)
    for term in terms:
        for axis in range(len(term.letters)) if term.variable is not None else ():
            if (id(term.variable), axis) not in recorded:
                call._labels.keep_whole(term.variable, axis)
    if chosen is None:
        return call.constant(1).reshape((1,) * len(out))
    labels, call.zero_output = result[chosen]
    return call.spread(labels, out.index(chosen), len(out))


def _record(call: Call, term: Term, letter: str, vector: np.ndarray, remains: bool) -> None:
    """Says what the axis of a kernel is to the channels that it meets."""
    axis = term.letters.index(letter)
    if not remains:
        call.consume(term.variable, axis, vector)
    elif len(term.letters) == 1:
        call.vector(term.variable, vector)
    else:
        call.depthwise(term.variable, axis, vector)


def _made(terms: list[Term], out: str) -> tuple[str, Term] | None:
    """The last axis of the result that one variable alone makes, and that variable."""
    for letter in reversed(out):
        wide = [t for t in terms if t.has(letter)]
        if len(wide) == 1 and wide[0].variable is not None and wide[0].letters.count(letter) == 1:
            return letter, wide[0]
    return None


def _terms(call: Call, letters: list[str], operands: list) -> list[Term]:
    return [
        Term(
            own,
            call.labels_of(operand),
            tuple(operand.shape),
            known_zero(call, operand),
            operand if isinstance(operand, keras.Variable) else None,
        )
        for own, operand in zip(letters, operands, strict=True)
    ]


@register(keras_numpy.Einsum)
def _einsum(call: Call) -> np.ndarray | None:
    operands = [a for a in call.args if is_operand(a)]
    letters, out = spell(call.op.subscripts, [len(x.shape) for x in operands])
    if len(letters) != len(operands):
        return None
    return contract(call, _terms(call, letters, operands), out)


@register(keras_numpy.Matmul)
def _matmul(call: Call) -> np.ndarray | None:
    operands = operands_of(call)
    if len(operands) != 2 or not all(len(x.shape) for x in operands):
        return None
    first, second = (len(x.shape) for x in operands)
    batch = string.ascii_uppercase[: max(first, second) - 2]
    rows, columns = "i" * (first > 1), "k" * (second > 1)
    letters = [
        batch[len(batch) - first + 2 :] * (first > 2) + rows + "j",
        batch[len(batch) - second + 2 :] * (second > 2) + "j" + columns,
    ]
    return contract(call, _terms(call, letters, operands), batch + rows + columns)


@register(keras_numpy.Dot, keras_numpy.Inner, keras_numpy.Tensordot)
def _tensordot(call: Call) -> np.ndarray | None:
    """Sums over pairs of axes; what is left of the first operand stands before the second's."""
    operands = [a for a in (*call.args, *call.kwargs.values()) if is_operand(a)]
    if len(operands) != 2 or not all(len(x.shape) for x in operands):
        return None
    ranks = [len(x.shape) for x in operands]
    first, second = list(string.ascii_lowercase[: ranks[0]]), list(string.ascii_uppercase)
    second = second[: ranks[1]]
    summed = []
    for a, b in _summed_axes(call.op, *ranks):
        second[b] = first[a]
        summed.append(first[a])
    out = "".join(c for c in first + second if c not in summed)
    return contract(call, _terms(call, ["".join(first), "".join(second)], operands), out)


def _summed_axes(op: keras.Operation, first: int, second: int) -> list[tuple[int, int]]:
    """The pairs of axes of two operands of these ranks that an operation sums over."""
    if isinstance(op, keras_numpy.Dot):
        return [(first - 1, max(second - 2, 0))]
    if isinstance(op, keras_numpy.Inner):
        return [(first - 1, second - 1)]
    if isinstance(op.axes, int):
        return [(first - op.axes + i, i) for i in range(op.axes)]
    a, b = (np.atleast_1d(axes).tolist() for axes in op.axes)
    return [(i % first, j % second) for i, j in zip(a, b, strict=True)]


@register(layers.Dot)
def _dot(call: Call) -> Outputs:
    ranks = [len(s) for s in call.shapes]
    axes = call.op.axes if isinstance(call.op.axes, (list, tuple)) else [call.op.axes] * 2
    if len(call.inputs) != 2 or any(isinstance(a, (list, tuple)) for a in axes):
        return None
    letters = [
        "A" + string.ascii_lowercase[1 : ranks[0]],
        "A" + string.ascii_uppercase[1 : ranks[1]],
    ]
    a, b = (axis % rank for axis, rank in zip(axes, ranks, strict=True))
    summed = letters[0][a]
    letters[1] = letters[1][:b] + summed + letters[1][b + 1 :]
    out = "".join(dict.fromkeys(c for c in "".join(letters) if c != summed))
    if call.op.normalize and not all(call.zero_inputs):
        return call.untouched()
    terms = [
        Term(*each)
        for each in zip(letters, call.inputs, call.shapes, call.zero_inputs, strict=True)
    ]
    labels = contract(call, terms, out)
    if labels.ndim == len(call.output_shapes[0]):
        return labels
    return call.spread(call.constant(1), -1, len(call.output_shapes[0]))  # (batch, 1)


@register(layers.EinsumDense)
def _einsum_dense(call: Call) -> Outputs:
    """A kernel whose axes read channels, make them, or (in both tensors) belong to one each."""
    layer, labels = call.op, call.inputs[0]
    kernel = kernel_of(layer)
    (x, w), out = spell(layer.equation, [len(call.shapes[0]), len(kernel.shape)])
    along = next((x[a] for a, n in enumerate(labels.shape) if n > 1), None)
    size = 1 if along is None else labels.size
    if along is None or (along not in w and along not in out):
        call.freeze(labels)
        along = None
    elif along in w:
        known = call.depthwise if along in out else call.consume
        known(kernel, w.index(along), np.broadcast_to(labels.reshape(-1), (size,)))
    if along is not None and along in out:
        result, letter = labels.reshape(-1), along
    else:
        made = [c for c in out if c in w and c not in x]
        if not made:
            return call.untouched()
        letter = made[-1]
        result = call.produce(kernel, w.index(letter))
    place = out.index(letter)
    shifted = layer.bias is not None
    if layer.bias is not None:
        axis = place - (len(out) - len(layer.bias.shape))
        if axis >= 0 and layer.bias.shape[axis] == len(result) > 1:
            call.vector(layer.bias, result, axis)
            shifted = False  # else all channels share its numbers
    activated = activate(call, call.spread(result, place, len(out)))
    call.zero_output &= not shifted and (letter in w or call.zero_inputs[0])
    return activated


@register(keras_nn.Conv)
def _functional_conv(call: Call) -> np.ndarray | list[np.ndarray]:
    """A convolution whose kernel is a variable."""
    images, kernel = call.labels_of(call.argument("inputs")), call.argument("kernel")
    if images is None or not isinstance(kernel, keras.Variable):
        return _fixed(call, kernel)
    rank = images.ndim
    axis = channel_axis(call.op, rank)
    size = call.shapes[0][axis]
    if kernel.shape[-2] != size:
        return _fixed(call, kernel)  # groups
    call.consume(kernel, -2, call.along(images, axis, size))
    outputs = call.produce(kernel, -1)
    for place in range(len(kernel.shape) - 2):
        call._labels.keep_whole(kernel, place)
    call.zero_output = True
    return call.spread(outputs, axis, rank)


@register(keras_nn.DepthwiseConv)
def _functional_depthwise_conv(call: Call) -> np.ndarray | list[np.ndarray]:
    """A filter or more for each channel, out of a variable."""
    images, kernel = call.labels_of(call.argument("inputs")), call.argument("kernel")
    if images is None or not isinstance(kernel, keras.Variable):
        return _fixed(call, kernel)
    axis = channel_axis(call.op, images.ndim)
    inputs = call.along(images, axis, call.shapes[0][axis])
    call.depthwise(kernel, -2, inputs)
    keep_whole(call, kernel, besides=-2)
    call.zero_output = True
    return call.spread(np.repeat(inputs, kernel.shape[-1]), axis, images.ndim)


def _fixed(call: Call, kernel: object) -> np.ndarray | list[np.ndarray]:
    if isinstance(kernel, keras.Variable):
        keep_whole(call, kernel)
    axis = channel_axis(call.op, len(call.output_shapes[0]))
    for labels in call.inputs:
        call.freeze(labels)
    made = call.constant(call.output_shapes[0][axis])
    return call.spread(made, axis, len(call.output_shapes[0]))
