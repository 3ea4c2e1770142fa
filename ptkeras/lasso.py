"""Putting the group lasso on a model's kernels for the time of a training, and taking it off."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from ptkeras.channels import ChannelMap
from ptkeras.importance import kernel_slices
from ptkeras.regularizers import EPSILON, GroupLasso


class AttachedLasso(GroupLasso):
    """A `GroupLasso` that a callback put on a variable, and will take off again."""


def attach(channel_map: ChannelMap, strength: float | keras.Variable) -> None:
    """Regularises every kernel of a model over its channels, beside what regularises it already.

    The regularizer hangs on the variables, not in the configs of the layers: a model saved
    meanwhile loads without ptkeras. Frozen channels, the network's inputs and outputs among them,
    are in no group; neither are kernels that do not train.

    Args:
        channel_map: the channels of the model.
        strength: λ, see `GroupLasso`.
    """
    detach(channel_map.model)
    groups: dict[int, dict[int, Any]] = {}
    kernels = {}
    for row in kernel_slices(channel_map):
        ids = np.where(channel_map.frozen[row.channels], -1, row.channels)
        if row.variable.trainable and (ids >= 0).any():
            groups.setdefault(id(row.variable), {})[row.axis] = ids
            kernels[id(row.variable)] = row.variable
    for key, variable in kernels.items():
        variable.regularizer = AttachedLasso(strength, groups[key], base=variable.regularizer)


def detach(model: keras.Model) -> None:
    """Takes off what `attach` put on."""
    for variable in model.weights:
        if isinstance(variable.regularizer, AttachedLasso):
            variable.regularizer = variable.regularizer.base


def is_attached(model: keras.Model) -> bool:
    """Whether `attach` has put something on a model that is there still."""
    return any(isinstance(v.regularizer, AttachedLasso) for v in model.weights)


def group_norms(channel_map: ChannelMap) -> float:
    """The group lasso of a model with strength 1, GL in the paper's equation 3."""
    total = 0.0
    for row in kernel_slices(channel_map):
        if not row.variable.trainable:
            continue
        (squares,) = channel_map.sums(np.square, [row])
        free = ~channel_map.frozen[row.channels]
        sums = np.bincount(row.channels[free], squares[free])
        total += float(np.sqrt(sums[np.unique(row.channels[free])] + EPSILON).sum())
    return total


def strength_for(ratio: float, loss: float, norms: float) -> float:
    """λ from the lasso penalty ratio: λ·GL / (CE + λ·GL) = ratio (PruneTrain, equation 3).

    Args:
        ratio: the share of the whole loss that the penalty is to be, between 0 and 1.
        loss: CE, the loss of the initial network without regularisation.
        norms: GL, the group lasso of the initial network with strength 1.
    """
    return ratio * loss / ((1.0 - ratio) * norms)
