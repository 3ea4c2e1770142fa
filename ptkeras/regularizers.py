"""Group lasso over the input and output channels of kernels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

EPSILON = 1e-8  # under the root, as PruneTrain's authors have it: the gradient at zero is zero


@keras.saving.register_keras_serializable("ptkeras")
class GroupLasso(keras.regularizers.Regularizer):
    """Group lasso over the input and output channels of one kernel.

    `strength * sum over groups g of sqrt(sum over w in g of w**2 + 1e-8)`

    where every position of each of the `groups` axes is a group: for the kernel of a convolution or
    a dense layer, shape `(…, inputs, outputs)`, its input channels and its output channels
    (equation 2 of PruneTrain, Lym et al., SC'19, with one strength for all groups as in the
    authors' code). It is meant for first-order training: on TensorFlow, where it is written for
    speed, its second derivative is not that of the formula.

    ```python
    keras.layers.Conv2D(64, 3, kernel_regularizer=ptkeras.GroupLasso(1e-4))
    ```

    Args:
        strength: λ, a non-negative float or a scalar `keras.Variable`.
        groups: for each axis that channels lie along the group of each position (-1: in no group),
            or None for a group to each position. Left out: `{-2: None, -1: None}`.
        base: a regularizer whose penalty is added, or None.

    Raises:
        ValueError: `strength` is negative or not a finite number.
    """

    def __init__(
        self,
        strength: float | keras.Variable,
        groups: Mapping[int, Sequence[int] | np.ndarray | None] | None = None,
        base: Any = None,
    ) -> None:
        if not isinstance(strength, keras.Variable) and not 0 <= strength < float("inf"):
            raise ValueError(
                f"The strength of GroupLasso must be at least 0 and finite; received {strength}."
            )
        self.strength = strength
        groups = {-2: None, -1: None} if groups is None else groups
        # JSON, which a config passes through, turns the keys of a mapping into strings.
        self.groups = {
            int(axis): None if ids is None else np.asarray(ids, "int32")
            for axis, ids in groups.items()
        }
        self.base = keras.regularizers.get(base)

    def __call__(self, kernel: Any) -> Any:
        """Returns the penalty of a kernel: a scalar of Keras's `floatx`, as its losses are."""
        penalty = self.penalty(kernel)
        if self.base is None:
            return penalty
        return penalty + ops.cast(self.base(kernel), penalty.dtype)

    def penalty(self, kernel: Any) -> Any:
        """Returns the penalty of a kernel, without that of `base`."""
        norms = ops.cast(self.norms(kernel), keras.config.floatx())
        return ops.cast(self.strength, norms.dtype) * norms

    def norms(self, kernel: Any) -> Any:
        """Returns the sum of the norms of all groups, without the strength."""
        squares, axes = self._squares(kernel)
        total = 0.0
        for ids, rest in axes.values():
            sums = _by_group(ops.sum(squares, axis=rest), ids)
            total = total + ops.sum(ops.sqrt(sums + EPSILON))
        return total

    def gradient(self, kernel: Any) -> Any:
        """Returns the gradient of the penalty, without that of `base`, in the kernel's shape.

        `strength * w * (sum over the groups g that hold w of 1 / sqrt(sum over g of w**2 + 1e-8))`
        """
        kernel = _widened(kernel)
        squares, axes = self._squares(kernel)
        total = 0.0
        for axis, (ids, rest) in axes.items():
            inverse = _inverse_norms(ops.sum(squares, axis=rest), ids)
            shape = [1] * len(kernel.shape)
            shape[axis] = kernel.shape[axis]
            total = total + ops.reshape(inverse, shape)
        return ops.cast(self.strength, kernel.dtype) * kernel * total

    def _squares(self, kernel: Any) -> tuple[Any, dict[int, tuple[Any, list[int]]]]:
        """Returns the sums of squares over the axes that have no groups, and the others.

        Those of all axes start from it: at 3x3 it is a ninth of the kernel. The others have, by
        their place in the kernel, the groups of their positions and the rest of the axes in it.
        """
        rank = len(kernel.shape)
        groups = {axis % rank: ids for axis, ids in self.groups.items()}
        kept = sorted(groups)
        squares = _square_sums(_widened(kernel), [a for a in range(rank) if a not in groups])
        rest = {axis: [i for i, a in enumerate(kept) if a != axis] for axis in groups}
        return squares, {axis: (ids, rest[axis]) for axis, ids in groups.items()}

    def get_config(self) -> dict:
        """The arguments, as JSON has them."""
        groups = {
            str(axis): None if ids is None else ids.tolist() for axis, ids in self.groups.items()
        }
        return {
            "strength": float(ops.convert_to_numpy(self.strength)),
            "groups": groups,
            "base": keras.regularizers.serialize(self.base),
        }


def _widened(kernel: Any) -> Any:
    """Returns a kernel as float32 at least: `EPSILON` is zero in float16."""
    kernel = ops.convert_to_tensor(kernel)
    return ops.cast(kernel, keras.backend.result_type(kernel.dtype, "float32"))


def _square_sums(kernel: Any, axes: list[int]) -> Any:
    """Sums of squares over some axes.

    TensorFlow, which fuses nothing, passes over a kernel three times for the gradient of a sum of
    squares: to spread that of the sum, to double the kernel, and to multiply. So the square is
    written as a product with a constant, and the doubling done on the sums. (A custom gradient
    would be one pass; but TensorFlow keeps the graph of each one, traced anew with every
    reconfiguration, for as long as the process lives.) The second derivative is not that of the
    square then.
    """
    if not axes:
        return ops.square(kernel)
    if keras.config.backend() != "tensorflow":
        return ops.sum(ops.square(kernel), axis=axes)
    sums = ops.sum(kernel * ops.stop_gradient(kernel), axis=axes)
    return sums + (sums - ops.stop_gradient(sums))


def _by_group(sums: Any, ids: np.ndarray | None) -> Any:
    """Sums over the positions of each group."""
    if ids is None:
        return sums
    used = np.flatnonzero(ids >= 0)
    groups, ids = np.unique(ids[used], return_inverse=True)
    if len(used) < sums.shape[0]:
        sums = ops.take(sums, used, axis=0)
    if len(groups) == len(ids):
        return sums
    return ops.segment_sum(sums, ids.astype("int32"), num_segments=len(groups))


def _inverse_norms(sums: Any, ids: np.ndarray | None) -> Any:
    """Returns 1 / norm of the group of each position; 0 for positions in no group."""
    if ids is None:
        return ops.rsqrt(sums + EPSILON)
    used = ids >= 0
    groups, places = np.unique(ids[used], return_inverse=True)
    if len(groups) < used.sum():
        order = np.zeros(len(ids), "int32")
        order[used] = places
        # Segments of positions that are in no group are not among the `len(groups)` first.
        segments = np.where(used, order, len(groups)).astype("int32")
        by_group = ops.segment_sum(sums, segments, num_segments=len(groups) + 1)
        sums = ops.take(by_group, segments, axis=0)
    return ops.rsqrt(sums + EPSILON) * ops.cast(used, sums.dtype)
