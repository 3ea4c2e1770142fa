"""Criteria: a score per channel, computed over all slices of a channel together."""

from ptkeras.importance.criteria import (
    Criterion,
    Measure,
    batch_norm_scale,
    channel_magnitudes,
    group_magnitudes,
    kernel_slices,
    kron_obd,
    kron_obs,
    l1,
    l2,
    random,
    round_up,
    taylor,
    weight_slices,
)

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
