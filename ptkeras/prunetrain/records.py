"""What a reconfiguration saves, and its record."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ptkeras.channels import ChannelMap
from ptkeras.cost.calls import calls
from ptkeras.cost.macs import macs as count_macs
from ptkeras.importance import kernel_slices
from ptkeras.surgery.variables import kept_positions


def gain(channel_map: ChannelMap, keep: np.ndarray, gates: dict) -> float:
    """Estimates the share of inference FLOPs that a keep mask removes, from the kernels' sizes."""
    rows = channel_map.slice_of
    found, _ = calls(channel_map.model, channel_map.input_shape)
    removed = total = 0.0
    kernels = {id(row.variable): row.variable for row in kernel_slices(channel_map)}
    for call, macs in zip(found, count_macs(found), strict=True):
        kernel = next((kernels[id(w)] for w in call.weights if id(w) in kernels), None)
        if kernel is None:
            continue
        positions = kept_positions(rows, keep, gates, kernel)
        left = math.prod(map(len, positions)) / math.prod(kernel.shape)
        removed += macs * (1 - left)
        total += macs
    return removed / total if total else 0.0


def changes(epoch: int, before: dict[str, Any], after: dict[str, Any], seconds: float) -> dict:
    """Returns a value of `PruneTrain.reconfigurations`.

    Args:
        epoch: the number of the epoch after which it was, from 1.
        before: channels, params and inference_flops of the network; and layers, the number of
            channels of each by its path.
        after: the same after it. Layers that were removed are not there.
        seconds: how long it took.
    """
    figures = {n: [before[n], after[n]] for n in ("channels", "params", "inference_flops")}
    layers = {path: [n, after["layers"].get(path, 0)] for path, n in before["layers"].items()}
    return {"epoch": epoch, "seconds": seconds, **figures, "layers": layers}


def describe(record: dict) -> str:
    """Returns one line about a reconfiguration, a value of `PruneTrain.reconfigurations`."""
    channels, params, flops = (record[k] for k in ("channels", "params", "inference_flops"))
    return (
        f"PruneTrain, epoch {record['epoch']}: channels {channels[0]} → {channels[1]}, "
        f"inference MFLOPs {flops[0] / 1e6:.2f} → {flops[1] / 1e6:.2f}, "
        f"parameters {params[0]:,} → {params[1]:,} ({record['seconds']:.1f} s)"
    )
