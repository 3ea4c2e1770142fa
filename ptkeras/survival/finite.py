"""Detects NaN and infinite losses and weights."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from ptkeras.utils.trainers import optimizers_of


def broken_loss(logs: Mapping[str, Any] | None) -> tuple[str, float] | None:
    """Returns the name and value of a loss that is NaN or infinite, None if there is none.

    A loss has `loss` in its name; if a `train_step` of the user's names none so, every figure
    counts as one. A metric may be NaN for good reason.

    Args:
        logs: what Keras hands to callbacks after a step.
    """
    figures = logs or {}
    losses = {name: value for name, value in figures.items() if "loss" in name} or figures
    for name, value in losses.items():
        if isinstance(value, (int, float)) and not math.isfinite(value):
            return name, value
    return None


def broken_variable(model: keras.Model) -> str | None:
    """Returns the path of a weight or an optimizer slot that is not finite, None if there is none.

    It reads each of them once, as saving does. In weights that do not train only NaN counts: a mask
    may be of minus infinities.

    Args:
        model: the model; it may have several optimizers, as that of a GAN has.
    """
    optimizers = [getattr(model, "optimizer", None), *optimizers_of(model)]
    slots = {id(v): v for one in optimizers if one is not None for v in one.variables}
    for variables, is_fine in (
        (model.trainable_variables, np.isfinite),
        (model.non_trainable_variables, _is_number),
        (slots.values(), np.isfinite),
    ):
        for variable in variables:
            if "float" not in variable.dtype:
                continue
            if not is_fine(keras.ops.convert_to_numpy(variable)).all():
                return variable.path
    return None


def _is_number(values: np.ndarray) -> np.ndarray:
    return ~np.isnan(values)
