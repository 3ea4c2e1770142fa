"""The rules of reductions, softmax and products that sum over an axis: einsum, matmul, dot.

A sum over channels can do without those that are zero. What else mixes channels (a mean, a
maximum, softmax) freezes them.
"""

from __future__ import annotations

import string
from typing import NamedTuple

import keras
import numpy as np
from keras import layers
from keras.src.ops import linalg as keras_linalg
from keras.src.ops import math as keras_math
from keras.src.ops import nn as keras_nn
from keras.src.ops import numpy as keras_numpy

from ptkeras.channels.registry import Call, existing, register
from ptkeras.channels.rules import activate
from ptkeras.channels.rules_merge import is_array


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
    op, labels, rank = call.op, call.inputs[0], len(call.shapes[0])
    axes = range(rank) if op.axis is None else np.atleast_1d(op.axis) % rank
    reduced = tuple(int(a) for a in axes)
    if len([a for a in keras.tree.flatten((call.args, call.kwargs)) if _is_operand(a)]) > 1:
        return None  # weights of an average
    sums = _is_sum(op) and call.zero_inputs[0]
    keepdims = len(call.output_shapes[0]) == rank
    if any(labels.shape[a] > 1 for a in reduced):
        if not sums:
            call.freeze(labels)
        return call.constant(1).reshape((1,) * len(call.output_shapes[0]))
    if getattr(op, "initial", None) is None and not isinstance(op, keras_math.Logsumexp):
        call.passes()
    return labels if keepdims else np.squeeze(labels, reduced)


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


@register(keras_math.TopK)
def _top_k(call: Call) -> list[np.ndarray]:
    labels = call.inputs[0]
    if labels.shape[-1] == 1:
        return [labels, labels]
    return call.untouched()


class Term(NamedTuple):
    """One operand of a contraction.

    Attributes:
        letters: a letter per axis, as in einsum.
        labels: its label array; None for a constant.
        shape: its shape.
        zero: whether it is zero where its channels are.
    """

    letters: str
    labels: np.ndarray | None
    shape: tuple
    zero: bool

    def letter(self) -> str | None:
        """The letter of the axis that channels lie along."""
        if self.labels is None:
            return None
        return next((self.letters[a] for a, n in enumerate(self.labels.shape) if n > 1), None)


def contract(call: Call, terms: list[Term], out: str) -> np.ndarray:
    """The labels behind an einsum: what is multiplied is tied, zeros add nothing to a sum."""
    result: dict[str, tuple[np.ndarray, bool]] = {}
    for letter in dict.fromkeys("".join(term.letters for term in terms)):
        having = [t for t in terms if letter in t.letters]
        wide = [t for t in having if t.shape[t.letters.index(letter)] != 1]
        varying = [t for t in having if t.letter() == letter]
        for term in varying[1:]:
            call.tie(varying[0].labels.reshape(-1), term.labels.reshape(-1))
        if not varying:
            continue
        alone = any(t.letter() != letter or t.letters.count(letter) > 1 for t in wide)
        zero = any(t.zero for t in varying)
        if alone or (letter not in out and not zero):
            for term in varying:
                call.freeze(term.labels)
        if letter in out:
            result[letter] = (varying[0].labels.reshape(-1), zero)
    for term in terms:
        if term.labels is not None and term.labels.size == 1:
            call.freeze(term.labels)  # one channel that is a part of everything
    chosen = max(result, key=out.index, default=None)
    for letter, (labels, _) in result.items():
        if letter != chosen:
            call.freeze(labels)
    if chosen is None:
        return call.constant(1).reshape((1,) * len(out))
    labels, call.zero_output = result[chosen]
    return call.spread(labels, out.index(chosen), len(out))


def _terms(call: Call, letters: list[str], operands: list) -> list[Term]:
    result = []
    for own, operand in zip(letters, operands, strict=True):
        labels = call.labels_of(operand)
        zero = labels is not None and next(
            z
            for t, z in zip(call._tensors, call.zero_inputs, strict=True)  # the same order
            if t is operand
        )
        result.append(Term(own, labels, tuple(operand.shape), zero))
    return result


def _is_operand(value: object) -> bool:
    return isinstance(value, keras.KerasTensor) or is_array(value)


def spell(equation: str, ranks: list[int]) -> tuple[list[str], str]:
    """The letters of the operands and of the result of an einsum, with any `...` spelled out."""
    left, _, right = equation.replace(" ", "").partition("->")
    parts = left.split(",")
    spare = [c for c in string.ascii_letters if c not in equation]
    most = max([r - len(p) + 3 for p, r in zip(parts, ranks, strict=False) if "..." in p] or [0])
    if not _:
        letters = left.replace(",", "").replace("...", "")
        right = "..." * ("..." in left) + "".join(
            sorted(c for c in set(letters) if letters.count(c) == 1)
        )

    def full(part: str, rank: int) -> str:
        if "..." not in part:
            return part
        count = rank - len(part) + 3
        return part.replace("...", "".join(spare[most - count : most]))

    out = full(right, len(right) - 3 + most)
    return [full(p, r) for p, r in zip(parts, ranks, strict=False)], out


@register(keras_numpy.Einsum)
def _einsum(call: Call) -> np.ndarray | None:
    operands = [a for a in call.args if _is_operand(a)]
    letters, out = spell(call.op.subscripts, [len(x.shape) for x in operands])
    if len(letters) != len(operands):
        return None
    return contract(call, _terms(call, letters, operands), out)


@register(keras_numpy.Matmul)
def _matmul(call: Call) -> np.ndarray | None:
    operands = [a for a in (*call.args, *call.kwargs.values()) if _is_operand(a)]
    if len(operands) != 2 or any(len(x.shape) < 2 for x in operands):
        return None
    return contract(call, _terms(call, *_pairwise(operands, "ij", "jk")), _batch(operands) + "ik")


@register(keras_numpy.Dot, keras_numpy.Inner, keras_numpy.Tensordot)
def _tensordot(call: Call) -> np.ndarray | None:
    """Sums over pairs of axes; what is left of the first operand stands before the second's."""
    operands = [a for a in (*call.args, *call.kwargs.values()) if _is_operand(a)]
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


def _batch(operands: list) -> str:
    return string.ascii_uppercase[: max(len(x.shape) for x in operands) - 2]


def _pairwise(operands: list, first: str, second: str) -> tuple[list[str], list]:
    batch = _batch(operands)
    letters = [
        batch[len(batch) - len(x.shape) + 2 :] + last
        for x, last in zip(operands, (first, second), strict=True)
    ]
    return letters, operands


@register(layers.Dot)
def _dot(call: Call) -> np.ndarray | None:
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
def _einsum_dense(call: Call) -> np.ndarray | None:
    """A kernel whose axes read channels, make them, or (in both tensors) belong to one each."""
    layer, labels = call.op, call.inputs[0]
    kernel = layer._kernel
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
    if layer.bias is not None:
        axis = place - (len(out) - len(layer.bias.shape))
        if axis >= 0 and layer.bias.shape[axis] == len(result) > 1:
            call.vector(layer.bias, result, axis)
    activated = activate(call, call.spread(result, place, len(out)))
    call.zero_output &= letter in w or call.zero_inputs[0]
    return activated
