"""What a model will cost without some of its channels, from its channel map: nothing is rebuilt."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from ptkeras.channels import ChannelMap
from ptkeras.channels.inputs import symbolic_inputs
from ptkeras.cost.calls import Call, calls
from ptkeras.cost.macs import macs as count_macs
from ptkeras.keras_compat.variables import shape_of


class Prediction:
    """The cost of a model, as a function of the keep mask.

    A layer's multiply-accumulates (MACs) go with the elements that its kernels keep:

        macs(keep) = macs · Σ_kernels Π_axes kept(axis) / Σ_kernels Π_axes size(axis)

    which is exact for convolutions, dense and recurrent layers and every wrapper of them. Products
    without a kernel (matmul, attention scores) count as they are. Parameters are exact always.

    Attributes:
        layers: the name and the layer of each row that `macs` returns.
        exact: whether `macs` is exact.
    """

    def __init__(self, channel_map: ChannelMap, input_shape: Any = None) -> None:
        self._map = channel_map
        found, self._batch = calls(channel_map.model, input_shape)
        self.layers = [(call.name, call.operation) for call in found]
        self._macs = count_macs(found)
        self._kernels = [_kernels(call) for call in found]
        costly = [(n, k) for n, k in zip(self._macs, self._kernels, strict=True) if n]
        self.exact = all(len(k) in (1, 2) for _, k in costly)

    def macs(self, keep: np.ndarray) -> list[int]:
        """MACs of each layer call for one example, once only the channels in `keep` are left."""
        kept = kept_elements(self._map, keep)
        return [
            _scaled(macs, kernels, kept) // self._batch
            for macs, kernels in zip(self._macs, self._kernels, strict=True)
        ]

    def weighted_macs(self, keep: np.ndarray, weights: Mapping[str, float] | None) -> float:
        """The sum of all layers' MACs, each times the layer's weight; None weighs all alike."""
        if weights is None:
            return sum(self.macs(keep))
        return sum(
            macs * weight_of(layer, weights)
            for (_, layer), macs in zip(self.layers, self.macs(keep), strict=True)
        )


def weighted_macs(
    model: keras.Model, weights: Mapping[str, float] | None, input_shape: Any = None
) -> float:
    """The sum of all layers' MACs as they are, each times the weight of its layer."""
    found, batch = calls(model, input_shape)
    return sum(
        macs // batch * (1 if weights is None else weight_of(call.operation, weights))
        for call, macs in zip(found, count_macs(found), strict=True)
    )


def params(channel_map: ChannelMap, keep: np.ndarray) -> int:
    """Number of parameters of a model once only the channels in `keep` are left."""
    variables = {id(row.variable): row.variable for row in channel_map.slices}
    kept = kept_elements(channel_map, keep)
    gone = sum(math.prod(shape_of(v)) - kept[key] for key, v in variables.items())
    return sum(math.prod(shape_of(v)) for v in channel_map.model.weights) - gone


def kept_elements(channel_map: ChannelMap, keep: np.ndarray) -> dict[int, int]:
    """For the `id` of each variable with channels the number of its elements that stay."""
    result: dict[int, int] = {}
    for row in channel_map.slices:
        key, shape = id(row.variable), shape_of(row.variable)
        elements = result[key] if key in result else math.prod(shape)
        result[key] = elements // shape[row.axis] * int(np.count_nonzero(keep[row.channels]))
    return result


def weight_of(layer: Any, weights: Mapping[str, float]) -> float:
    """The weight of a layer's MACs: by its name, or else by its kind; 0 where it has none."""
    return weights.get(layer.name, weights.get(type(layer).__name__, 0.0))


def has_open_sizes(model: keras.Model) -> bool:
    """Whether a model leaves sizes of its inputs open, on which its MACs depend."""
    return any(None in x.shape[1:] for x in keras.tree.flatten(symbolic_inputs(model)))


def _kernels(call: Call) -> list[keras.Variable]:
    return [w for w in call.weights if len(shape_of(w)) > 1 and w.name != "bias"]


def _scaled(macs: int, kernels: list[keras.Variable], kept: dict[int, int]) -> int:
    if not macs or not kernels:
        return macs
    sizes = [math.prod(shape_of(w)) for w in kernels]
    left = sum(kept.get(id(w), size) for w, size in zip(kernels, sizes, strict=True))
    return macs * left // sum(sizes)
