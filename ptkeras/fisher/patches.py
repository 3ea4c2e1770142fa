"""What each weight of a convolution or a dense layer is multiplied by, as plain arrays."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

import keras
import numpy as np


def patches(layer: keras.layers.Layer, inputs: np.ndarray) -> Iterator[np.ndarray]:
    """What a layer reads at each place of its kernel.

    With W[k] the weights at place k of the kernel, a matrix of inputs by outputs,

        output = Σ_k patches[k] · W[k]

    Args:
        layer: a `Conv1D`, `Conv2D`, `Conv3D` (of one group) or `Dense`.
        inputs: what it reads, with channels along the last axis.

    Yields:
        For each place of the kernel, in its order, an array of shape `(examples, positions,
        channels)`, with zeros for the padding.
    """
    if isinstance(layer, keras.layers.Dense):
        yield inputs.reshape(len(inputs), -1, inputs.shape[-1])
        return
    widths = [_padding(layer, axis, n) for axis, n in enumerate(inputs.shape[1:-1])]
    padded = np.pad(inputs, [(0, 0), *widths, (0, 0)]) if np.any(widths) else inputs
    for key in _windows(layer, padded.shape[1:-1]):
        part = padded[(slice(None), *key)]
        yield part.reshape(len(part), -1, part.shape[-1])


def uses(layer: keras.layers.Layer, sizes: tuple[int, ...]) -> np.ndarray:
    """How often a layer reads each position of its input, over all places of its kernel.

    Args:
        layer: as in `patches`.
        sizes: the sizes of the input between the axes of the examples and of the channels.

    Returns:
        An array of shape `sizes`.
    """
    if isinstance(layer, keras.layers.Dense):
        return np.ones(sizes, "float32")
    widths = [_padding(layer, axis, n) for axis, n in enumerate(sizes)]
    counts = np.zeros([n + sum(width) for n, width in zip(sizes, widths, strict=True)], "float32")
    for key in _windows(layer, counts.shape):
        counts[key] += 1
    return counts[tuple(slice(w[0], w[0] + n) for w, n in zip(widths, sizes, strict=True))]


def _windows(layer: keras.layers.Layer, sizes: tuple[int, ...]) -> Iterator[tuple[slice, ...]]:
    """For each place of the kernel the positions of the padded input that it reads."""
    for place in itertools.product(*map(range, layer.kernel_size)):
        key = []
        for axis, at in enumerate(place):
            step = layer.strides[axis]
            count = (sizes[axis] - reach(layer, axis)) // step + 1
            start = at * layer.dilation_rate[axis]
            key.append(slice(start, start + (count - 1) * step + 1, step))
        yield tuple(key)


def channels_last(layer: keras.layers.Layer, values: np.ndarray) -> np.ndarray:
    """What a layer reads or makes, with its channels along the last axis."""
    if getattr(layer, "data_format", None) == "channels_first":
        return np.moveaxis(values, 1, -1)
    return values


def reach(layer: keras.layers.Layer, axis: int) -> int:
    """How many positions of its input a kernel spans along one axis."""
    return (layer.kernel_size[axis] - 1) * layer.dilation_rate[axis] + 1


def _padding(layer: keras.layers.Layer, axis: int, size: int) -> tuple[int, int]:
    if layer.padding == "valid":
        return 0, 0
    if layer.padding == "causal":
        return reach(layer, axis) - 1, 0
    step = layer.strides[axis]
    total = max((math.ceil(size / step) - 1) * step + reach(layer, axis) - size, 0)
    return total // 2, total - total // 2
