"""Whether a training still has numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np


def broken_loss(logs: Mapping[str, Any] | None) -> tuple[str, float] | None:
    """A loss that is NaN or infinite, as its name and value, if there is one.

    A loss is what has `loss` in its name; where a `train_step` of the user's names none so, every
    figure is taken for one. A metric may be NaN of itself.

    Args:
        logs: what Keras hands to callbacks behind a step.
    """
    figures = logs or {}
    losses = {name: value for name, value in figures.items() if "loss" in name} or figures
    for name, value in losses.items():
        if isinstance(value, (int, float)) and not math.isfinite(value):
            return name, value
    return None


def broken_variable(model: keras.Model) -> str | None:
    """The path of a weight, or of a slot of the optimiser, that is not finite, if there is one.

    It costs about what it takes to read all of them once, as saving them does. In weights that are
    not trained only NaN counts: a mask of minus infinities is one.

    Args:
        model: the model.
    """
    optimizer = getattr(model, "optimizer", None)
    slots = [] if optimizer is None else optimizer.variables
    for variables, is_fine in (
        (model.trainable_variables, np.isfinite),
        (model.non_trainable_variables, _is_number),
        (slots, np.isfinite),
    ):
        for variable in variables:
            if "float" not in variable.dtype:
                continue
            if not is_fine(keras.ops.convert_to_numpy(variable)).all():
                return variable.path
    return None


def _is_number(values: np.ndarray) -> np.ndarray:
    return ~np.isnan(values)
