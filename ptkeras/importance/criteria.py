"""Criteria: a score per channel, computed over all slices of a channel together."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from typing import Any, Literal

import keras
import numpy as np

from ptkeras.channels import ChannelMap, Slice
from ptkeras.fisher.channel_scores import kron_obd, kron_obs
from ptkeras.fisher.gradients import gradients
from ptkeras.keras_compat.trainers import compiled_loss
from ptkeras.utils.arguments import check_count
from ptkeras.utils.arrays import numbers
from ptkeras.utils.progress import track

__all__ = [
    "Criterion",
    "Measure",
    "batch_norm_scale",
    "channel_magnitudes",
    "group_magnitudes",
    "kernel_slices",
    "kron_obd",
    "kron_obs",
    "l1",
    "l2",
    "random",
    "round_up",
    "taylor",
    "weight_slices",
]

Measure = Literal["max", "mean"]
Criterion = Callable[[ChannelMap], np.ndarray]


def kernel_slices(channel_map: ChannelMap) -> list[Slice]:
    """The groups of PruneTrain: input and output axes of convolution and dense kernels.

    Depthwise kernels are left out (as the authors have it), and so are tables that read no
    channels, such as embeddings.
    """
    roles = defaultdict(set)
    for row in channel_map.slices:
        roles[id(row.variable)].add(row.role)
    return [
        row
        for row in channel_map.slices
        if row.role in ("input", "output") and {"input", "output"} <= roles[id(row.variable)]
    ]


def group_magnitudes(channel_map: ChannelMap, row: Slice, measure: Measure) -> np.ndarray:
    """The size of each group of one kernel axis.

    Args:
        channel_map: the channels of a model.
        row: one of its `kernel_slices`.
        measure: `"max"`, the group's largest absolute weight, or `"mean"` of its absolute weights.

    Returns:
        Array of shape `(len(channel_map),)`; 0 for channels that are not on the axis.
    """
    reduce = np.max if measure == "max" else np.mean
    (values,) = channel_map.reduce(lambda v, axes: reduce(np.abs(v), axis=axes), [row])
    result = np.zeros(len(channel_map))
    if measure == "max":
        np.maximum.at(result, row.channels, values)
        return result
    counts = np.bincount(row.channels, minlength=len(result))
    return np.bincount(row.channels, values, len(result)) / np.maximum(counts, 1)


def channel_magnitudes(channel_map: ChannelMap, measure: Measure = "max") -> np.ndarray:
    """The largest of each channel's groups (channel union: a channel goes when all groups agree).

    Args:
        channel_map: the channels of a model.
        measure: how large a group is, see `group_magnitudes`.

    Returns:
        Array of shape `(len(channel_map),)`; infinite for channels that no kernel has a group of.
    """
    result = np.full(len(channel_map), -np.inf)
    for row in kernel_slices(channel_map):
        present = np.unique(row.channels)
        magnitudes = group_magnitudes(channel_map, row, measure)
        result[present] = np.maximum(result[present], magnitudes[present])
    result[np.isneginf(result)] = np.inf
    return result


def round_up(
    channel_map: ChannelMap,
    keep: np.ndarray,
    scores: np.ndarray,
    *,
    least: int = 1,
    multiple: int = 1,
    dead_ok: bool = False,
) -> np.ndarray:
    """Keeps more channels, the best of those that were to go, until the counts of all layers suit.

    Args:
        channel_map: the channels of a model.
        keep: a bool per channel.
        scores: a number per channel; of the channels that were to go the highest stay.
        least: the least number of output channels a layer keeps.
        multiple: what the number of a layer's output channels is a multiple of, unless the layer
            has fewer or its own number is none.
        dead_ok: whether a layer may lose all of its channels.

    Returns:
        A new keep mask.
    """
    keep = keep.copy()
    # Raising one layer's count may raise that of another which shares some of its channels.
    while True:
        before = keep.copy()
        for row in channel_map.slices:
            if row.role == "output":
                _round_up_row(row.made, keep, scores, least, multiple, dead_ok)
        if (keep == before).all():
            return keep


def _round_up_row(
    channels: np.ndarray,
    keep: np.ndarray,
    scores: np.ndarray,
    least: int,
    multiple: int,
    dead_ok: bool,
) -> None:
    count = int(keep[channels].sum())
    if count == 0 and dead_ok:
        return
    target = min(-(-max(count, least) // multiple) * multiple, len(channels))
    candidates = np.unique(channels[~keep[channels]])
    for channel in candidates[np.argsort(-scores[candidates], kind="stable")]:
        if keep[channels].sum() >= target:
            return
        keep[channel] = True


# Criteria for one-shot pruning: functions of a ChannelMap that return a score per channel. The
# lowest go first, an infinite one never goes. `taylor` and `random` make such a function.


def weight_slices(channel_map: ChannelMap) -> list[Slice]:
    """The weights that a channel's magnitude is measured on: of all kernels, depthwise ones too.

    Biases and the numbers of normalisation layers shift and scale what the kernels make, and are
    left out.
    """
    return [row for row in channel_map.slices if row.role != "vector"]


def l1(channel_map: ChannelMap) -> np.ndarray:
    """The sum of a channel's absolute weights, over every kernel that makes, filters or reads it.

        score(c) = Σ_rows Σ |w[c]|

    (Li et al. 2017, "Pruning filters for efficient ConvNets", over all slices of the channel as in
    DepGraph, Fang et al. 2023.)

    ```python
    ptkeras.prune(model, 0.5, criterion="l1")
    ```

    Args:
        channel_map: the channels of a model.

    Returns:
        Array of shape `(len(channel_map),)`; infinite for channels that no kernel holds.
    """
    rows = weight_slices(channel_map)
    return _summed(channel_map, rows, np.abs)


def l2(channel_map: ChannelMap) -> np.ndarray:
    """The Euclidean norm of a channel's weights, over every kernel that makes, filters or reads it.

        score(c) = sqrt(Σ_rows Σ w[c]²)

    Args:
        channel_map: the channels of a model.

    Returns:
        Array of shape `(len(channel_map),)`; infinite for channels that no kernel holds.
    """
    rows = weight_slices(channel_map)
    return np.sqrt(_summed(channel_map, rows, np.square))


def batch_norm_scale(channel_map: ChannelMap) -> np.ndarray:
    """The size of the scales that batch normalisation gives a channel, over all such layers.

        score(c) = Σ_rows |γ[c]|

    (Network slimming, Liu et al. 2017.)

    ```python
    ptkeras.prune(model, 0.5, criterion="batch_norm")
    ```

    Args:
        channel_map: the channels of a model.

    Returns:
        Array of shape `(len(channel_map),)`; infinite for channels without such a scale.

    Raises:
        ValueError: no channel of the model has a batch norm's scale.
    """
    rows = [
        row
        for row in channel_map.slices
        if isinstance(row.layer, keras.layers.BatchNormalization)
        and row.layer.scale
        and row.variable is row.layer.gamma
    ]
    if not rows:
        raise ValueError(
            f"No channel of '{channel_map.model.name}' passes a BatchNormalization with scale=True,"
            ' so the criterion "batch_norm" has nothing to go by: use "l1" or "l2".'
        )
    return _summed(channel_map, rows, np.abs)


def taylor(
    x: Any,
    y: Any,
    loss: Callable[[Any, Any], Any] | None = None,
    *,
    signed: bool = True,
    batch_size: int = 32,
) -> Criterion:
    """First-order Taylor expansion: what the loss would change by if a channel were zero.

        score(c) = mean over mini-batches of |Σ_rows Σ w[c] · ∂L/∂w[c]|        (signed)
        score(c) = mean over mini-batches of Σ_rows Σ |w[c] · ∂L/∂w[c]|        (not signed)

    over all trainable slices of the channel: kernels, biases, batch-norm scales (Molchanov et al.
    2019, "Importance estimation for neural network pruning"; the second as in Torch-Pruning). The
    gradient is taken at inference.

    ```python
    ptkeras.prune(model, 0.5, criterion=ptkeras.importance.taylor(x[:512], y[:512]))
    ```

    Args:
        x: examples, as the model takes them: an array, or a list or dict of arrays.
        y: the targets that go with them.
        loss: a function of targets and outputs, such as `keras.losses.MeanSquaredError()`. None
            takes the loss that the model is compiled with.
        signed: whether the terms of a channel may cancel. Without, what its slices do is added up
            whatever its sign; behind batch normalisation, where kernel and scale work against each
            other, that tends to be the better guide if no fine-tuning follows.
        batch_size: the number of examples in a mini-batch.

    Returns:
        The criterion, a function of a `ChannelMap`.

    Raises:
        ValueError: the batch size is under 1; and, from the criterion, the model has no loss, or
            the gradient is not finite.
    """
    batch_size = check_count("batch_size of taylor", batch_size)

    def criterion(channel_map: ChannelMap) -> np.ndarray:
        model = channel_map.model
        rows = [row for row in channel_map.slices if not row.variable.name.startswith("moving_")]
        scores = np.zeros(len(channel_map))
        size = len(keras.tree.flatten(x)[0])
        for i in track(range(0, size, batch_size), "Measuring the channels' importance"):
            inputs, targets = keras.tree.map_structure(lambda v, i=i: v[i : i + batch_size], (x, y))
            objective = loss or _compiled_loss(model, inputs, targets)
            weight = min(batch_size, size - i) / size  # the last one may be smaller
            part = _first_order(channel_map, rows, objective, inputs, targets, signed)
            scores += weight * part
        if not np.isfinite(scores).all():
            raise ValueError(
                f"The loss of '{model.name}' on the examples given to taylor has no finite "
                "gradient: check x, y and the loss."
            )
        return np.where(_present(channel_map, rows), scores, np.inf)

    return criterion


def random(seed: int = 0) -> Criterion:
    """Scores out of a random generator, uniform in [0, 1): what a better criterion has to beat.

    ```python
    ptkeras.prune(model, 0.5, criterion=ptkeras.importance.random(seed=1))
    ```

    Args:
        seed: of `np.random.default_rng`; the same seed gives the same scores.

    Returns:
        The criterion, a function of a `ChannelMap`.
    """

    def criterion(channel_map: ChannelMap) -> np.ndarray:
        scores = np.random.default_rng(seed).random(len(channel_map))
        return np.where(_present(channel_map, weight_slices(channel_map)), scores, np.inf)

    return criterion


def _summed(
    channel_map: ChannelMap,
    rows: list[Slice],
    of: Callable[[np.ndarray], np.ndarray],
) -> np.ndarray:
    total = np.zeros(len(channel_map))
    for row, values in zip(rows, channel_map.sums(of, rows), strict=True):
        total += np.bincount(row.channels, values, len(total))
    return np.where(_present(channel_map, rows), total, np.inf)


def _present(channel_map: ChannelMap, rows: list[Slice]) -> np.ndarray:
    """Whether a channel lies along one of the rows."""
    present = np.zeros(len(channel_map), bool)
    for row in rows:
        present[row.channels] = True
    return present


def _first_order(
    channel_map: ChannelMap, rows: list[Slice], loss: Callable, x: Any, y: Any, signed: bool
) -> np.ndarray:
    """The Taylor scores of one mini-batch."""
    variables = list({id(row.variable): row.variable for row in rows}.values())
    slopes = gradients(lambda: loss(y, channel_map.model(x, training=False)), variables)
    effects = {
        id(v): numbers(v).astype("float64") * slope
        for v, slope in zip(variables, slopes, strict=True)
    }
    total = np.zeros(len(channel_map))
    for row in rows:
        effect = effects[id(row.variable)] if signed else np.abs(effects[id(row.variable)])
        others = tuple(a for a in range(effect.ndim) if a != row.axis)
        total += np.bincount(row.channels, effect.sum(others), len(total))
    return np.abs(total)


def _compiled_loss(model: keras.Model, x: Any, y: Any) -> Callable[[Any, Any], Any]:
    """The loss that a model is compiled with, without what regularisation adds to it."""
    loss = compiled_loss(model)
    if loss is None:
        raise ValueError(
            f"'{model.name}' is not compiled with a loss, so taylor has nothing to differentiate: "
            "compile it, or pass loss= to taylor."
        )
    if not loss.built:
        # It makes its metrics when it is first called, which the gradient's scope does not allow.
        loss.build(y, model(x, training=False))
    return loss
