"""Whether a group lasso can get anywhere: the warnings that come early rather than at the end."""

from __future__ import annotations

import math
from typing import Any

import keras
import numpy as np

from ptkeras.channels import ChannelMap
from ptkeras.importance import channel_magnitudes, kernel_slices

_MARGIN = 3.0  # the loss moves weights too
_FRESH = 0.3  # of the loss of a network that guesses


def too_far(
    channel_map: ChannelMap, free: np.ndarray, strength: float, optimizer: Any, steps: float
) -> str | None:
    """Returns a sentence if no channel can get to zero in the steps of a training.

    Under SGD with momentum m the lasso takes the norm of a group down by lr·λ / (1 − m) a step; an
    optimizer that scales its steps, such as Adam, moves a weight by lr.

    Args:
        channel_map: the channels of a model.
        free: a bool per channel, those that the lasso is on.
        strength: λ.
        optimizer: the optimizer that trains the model.
        steps: the number of its steps.
    """
    rate = float(keras.ops.convert_to_numpy(optimizer.learning_rate))
    if isinstance(optimizer, keras.optimizers.SGD):
        way = rate * strength * steps / (1.0 - min(float(optimizer.momentum), 0.999))
        sizes = _largest_norms(channel_map)
        what = "norm"
    else:
        way = rate * steps
        sizes = channel_magnitudes(channel_map, "max")
        what = "largest weight"
    smallest = float(sizes[free & channel_map.prunable].min(initial=np.inf))
    if not math.isfinite(smallest) or smallest <= _MARGIN * way:
        return None
    return (
        f"The group lasso of PruneTrain will hardly remove a channel: λ is {strength:.2g}, which "
        f"takes a channel down by some {way:.2g} in {steps:.0f} steps at a learning rate of "
        f"{rate:.2g}, and the smallest has a {what} of {smallest:.2g}. Raise the ratio, train for "
        "more steps, or take PruneTrain(target=0.5), which arrives in any number of them."
    )


def _largest_norms(channel_map: ChannelMap) -> np.ndarray:
    """Returns the largest norm of each channel's groups; infinite for channels without one."""
    result = np.full(len(channel_map), -np.inf)
    rows = kernel_slices(channel_map)
    for row, squares in zip(rows, channel_map.sums(np.square, rows), strict=True):
        np.maximum.at(result, row.channels, np.sqrt(squares))
    return np.where(np.isneginf(result), np.inf, result)


def no_fresh_network(model: keras.Model, loss: float) -> str | None:
    """Returns a sentence if a first loss is far under that of a network that guesses.

    λ is a share of it, so that it would be as much too small.

    Args:
        model: the compiled model.
        loss: the first loss, without regularization.
    """
    kinds = (keras.losses.SparseCategoricalCrossentropy, keras.losses.CategoricalCrossentropy)
    names = ("sparse_categorical_crossentropy", "categorical_crossentropy")
    given = getattr(model, "loss", None)
    shape = getattr(model, "output_shape", None)
    if not (isinstance(given, kinds) or given in names) or not isinstance(shape, tuple):
        return None
    classes = shape[-1]
    if not isinstance(classes, int) or classes < 2 or loss > _FRESH * math.log(classes):
        return None
    return (
        f"The first loss is {loss:.2g}, and that of a fresh network of {classes} classes is about "
        f"{math.log(classes):.2g}: this one has been trained, and λ, a share of the loss, is set "
        "too small. To go on with a training give its λ as PruneTrain(strength=…); to prune a "
        "trained network take PruneTrain(target=…) or ptkeras.prune."
    )
