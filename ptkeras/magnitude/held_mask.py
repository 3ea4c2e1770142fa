"""The constraint that magnitude pruning hangs on a kernel, where surgery can see it too."""

from __future__ import annotations

import weakref
from typing import Any

import keras
from keras import ops


class HeldMask(keras.constraints.Constraint):
    """The constraint that holds the zeros of one kernel: 0 where neither mask nor `lifted` is 1.

    Keras's optimisers apply it behind each update, so that neither momentum nor weight decay nor
    loss scaling brings a weight back. It hangs on the variable, not in the config of the layer: a
    model that is saved meanwhile loads without ptkeras.

    Args:
        mask: a variable of the kernel's shape, 1 for weights that stay and 0 for the others.
        lifted: a scalar variable; while it is 1, nothing is held.
        base: the constraint that the kernel has already, applied first, or None.

    Attributes:
        trainer: a weak reference to the model that trains the kernel, or None.
    """

    trainer: weakref.ref | None = None

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


def refuse_masks(model: keras.Model) -> None:
    """Raises a ValueError if zeros of a model are held: smaller kernels would lose their masks."""
    if any(mask_of(variable) is not None for variable in model.variables):
        raise ValueError(
            f"The zeros of '{model.name}' are held by MagnitudePruning, whose masks do not fit "
            "smaller kernels: call ptkeras.magnitude.strip(model) first, and do not put it beside "
            "PruneTrain in one fit."
        )
