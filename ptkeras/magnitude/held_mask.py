"""The constraint that magnitude pruning hangs on a kernel, where surgery can see it too."""

from __future__ import annotations

import weakref
from typing import Any

import keras
from keras import ops


class HeldMask(keras.constraints.Constraint):
    """The constraint that holds the zeros of one kernel: 0 where neither mask nor `lifted` is 1.

    Keras's optimisers apply it after each update, so that neither momentum nor weight decay nor
    loss scaling brings a weight back. It hangs on the variable, not in the config of the layer: a
    model that is saved meanwhile loads without ptkeras.

    Args:
        mask: a variable of the kernel's shape, 1 for weights that stay and 0 for the others.
        lifted: a scalar variable; while it is 1, nothing is held.
        base: the constraint that the kernel has already, applied first, or None.

    Attributes:
        trainer: a weak reference to the model that trains the kernel, or None.
        holds_size: why the kernel may not get smaller, see `ptkeras.surgery.variables`.
    """

    trainer: weakref.ref | None = None
    holds_size = (
        "The zeros of '{model}' are held by MagnitudePruning, whose masks do not fit smaller "
        "kernels: call ptkeras.magnitude.strip(model) first, and do not put it beside PruneTrain "
        "in one fit."
    )

    def __init__(
        self,
        mask: keras.Variable,
        lifted: keras.Variable,
        base: keras.constraints.Constraint | None,
    ) -> None:
        self.mask = mask
        self.lifted = lifted
        self.base = base

    def __call__(self, w: Any) -> Any:
        w = ops.convert_to_tensor(w if self.base is None else self.base(w))
        stays = ops.maximum(self.mask, ops.cast(self.lifted, self.mask.dtype))
        # Not a product: -w · 0 is -0, and bytes of two kinds of zeros compress to half more.
        return ops.where(ops.greater(stays, 0), w, ops.zeros_like(w))


def mask_of(variable: Any) -> HeldMask | None:
    """The constraint that holds zeros of a variable, None if there is none."""
    constraint = getattr(variable, "constraint", None)
    return constraint if isinstance(constraint, HeldMask) else None


def known_mask_of(variable: Any) -> HeldMask:
    """The constraint that holds zeros of a variable.

    Raises:
        ValueError: there is none.
    """
    constraint = mask_of(variable)
    if constraint is None:
        raise ValueError(
            f"Something has taken the mask of MagnitudePruning off '{variable.path}': call "
            "ptkeras.magnitude.strip(model) after the training, not within it."
        )
    return constraint
