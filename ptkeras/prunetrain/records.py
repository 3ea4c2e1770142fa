"""What a reconfiguration saves, and its record."""

from __future__ import annotations

import math
from typing import TypedDict

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


class NetworkSize(TypedDict):
    """The size of a network.

    Attributes:
        channels: the number of channels that may be removed.
        params: the number of parameters.
        inference_flops: the FLOPs of one forward pass of one example.
        layers: the number of channels of each layer that makes some, by its path.
    """

    channels: int
    params: int
    inference_flops: int
    layers: dict[str, int]


class Reconfiguration(TypedDict):
    """The record of a reconfiguration; pairs are of the network before and after it.

    Attributes:
        epoch: the number of the epoch after which it was, from 1.
        seconds: how long it took.
        channels: the pair of the channels that may be removed.
        params: the pair of the parameters.
        inference_flops: the pair of the FLOPs of one forward pass of one example.
        layers: the pair of the channels of each layer that made some, by its path.
    """

    epoch: int
    seconds: float
    channels: list[int]
    params: list[int]
    inference_flops: list[int]
    layers: dict[str, list[int]]


def changes(epoch: int, before: NetworkSize, after: NetworkSize, seconds: float) -> Reconfiguration:
    """Returns a value of `PruneTrain.reconfigurations`.

    Args:
        epoch: the number of the epoch after which it was, from 1.
        before: the size of the network before it.
        after: the size after it. Layers that were removed are not there.
        seconds: how long it took.
    """
    layers = {path: [n, after["layers"].get(path, 0)] for path, n in before["layers"].items()}
    return {
        "epoch": epoch,
        "seconds": seconds,
        "channels": [before["channels"], after["channels"]],
        "params": [before["params"], after["params"]],
        "inference_flops": [before["inference_flops"], after["inference_flops"]],
        "layers": layers,
    }


def describe(record: Reconfiguration) -> str:
    """Returns one line about a reconfiguration, a value of `PruneTrain.reconfigurations`."""
    channels, params, flops = record["channels"], record["params"], record["inference_flops"]
    return (
        f"PruneTrain, epoch {record['epoch']}: channels {channels[0]} → {channels[1]}, "
        f"inference MFLOPs {flops[0] / 1e6:.2f} → {flops[1] / 1e6:.2f}, "
        f"parameters {params[0]:,} → {params[1]:,} ({record['seconds']:.1f} s)"
    )
