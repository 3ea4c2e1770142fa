"""Whether a reconfiguration saves more time than it costs."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

from ptkeras.channels import ChannelMap
from ptkeras.cost.calls import Call, calls
from ptkeras.keras_compat.layers import BaseConv, BaseDepthwiseConv
from ptkeras.keras_compat.variables import shape_of
from ptkeras.prunetrain.records import gain

_PASSES = 3  # of a kernel in a step: forward, and the gradients of its input and of the kernel
_TRIES = 3
_MOST_NUMBERS = 2**24  # in what a kernel is timed on: the rest of the memory is the training's


class StepClock:
    """Measures the steps of a training, epoch by epoch.

    Attributes:
        step: seconds that a step of the last epoch took; None before two steps of an epoch.
        steps: the number of steps of the last epoch.
        examples: the number of its examples.
    """

    def __init__(self) -> None:
        self.step: float | None = None
        self.steps = self.examples = 0
        self._making = 0.0  # what the first step took longer when its function was last made
        self._usual = 0.0  # what it takes longer anyway, for its data
        self._is_new = True  # the function of the next epoch
        self._by_size: dict[float, float] = {}
        self.begin_epoch()

    def begin_epoch(self) -> None:
        """Starts the clock."""
        self._began = self._last = time.perf_counter()
        self._first: float | None = None
        self._count = 0

    def end_step(self) -> None:
        """Notes when a step is over."""
        self._last = time.perf_counter()
        self._count += 1
        if self._first is None:
            self._first = self._last

    def end_epoch(self, size: float, examples: int) -> None:
        """Takes stock.

        Args:
            size: the FLOPs of an example, in any unit.
            examples: the number of examples of the epoch.
        """
        if self._first is None or self._count < 2:
            return
        self.steps, self.examples = self._count, max(1, examples)
        self.step = (self._last - self._first) / (self._count - 1)
        self._by_size[size] = self.step * self.steps / self.examples
        longer = max(0.0, self._first - self._began - self.step)
        if self._is_new:
            self._making = longer
        else:
            self._usual = longer
        self._is_new = False

    @property
    def cost(self) -> float:
        """Seconds that it takes to make the function of a step: to trace and compile it."""
        return max(0.0, self._making - self._usual)

    def renew(self) -> None:
        """Says that the function of the next epoch is a new one."""
        self._is_new = True

    def slope(self) -> float | None:
        """Returns seconds over FLOPs, of an example, between the largest network and the smallest.

        Of an example and not of a step, since batches may have grown in between.
        """
        if len(self._by_size) < 2:
            return None
        large, small = max(self._by_size), min(self._by_size)
        return max(0.0, (self._by_size[large] - self._by_size[small]) / (large - small))


def seconds_saved(
    channel_map: ChannelMap,
    keep: np.ndarray,
    gates: dict,
    clock: StepClock,
    size: float,
    epochs: int,
) -> float | None:
    """Estimates how many seconds of training the removal of channels saves.

    Two networks that this training has measured tell what FLOPs take here. Before there are two,
    the kernels are timed at the widths that they have and would have.

    Args:
        channel_map: the channels of the model.
        keep: the channels that stay.
        gates: the selections of channel gating.
        clock: what the steps so far have taken.
        size: the FLOPs of an example, as the clock was given them.
        epochs: the number of epochs that remain.

    Returns:
        None if no step has been measured.
    """
    if clock.step is None:
        return None
    share, slope = gain(channel_map, keep, gates), clock.slope()
    if slope is not None:
        return slope * size * share * clock.examples * epochs
    saved = clock.step * share
    # An estimate is not to end a training, whatever a layer of the user's does to its kernel.
    with contextlib.suppress(Exception):
        now, after = kernel_seconds(channel_map, keep, max(1, clock.examples // clock.steps))
        saved = min(_PASSES * max(0.0, now - after), saved)
    return saved * clock.steps * epochs


def kernel_seconds(
    channel_map: ChannelMap, keep: np.ndarray, batch_size: int
) -> tuple[float, float]:
    """Times the convolutions and matrix products of a forward pass on this machine.

    Args:
        channel_map: the channels of a model.
        keep: the channels that stay.
        batch_size: the number of examples.

    Returns:
        Seconds at the widths that the kernels have, and at those that they would have.
    """
    found, fixed = calls(channel_map.model, channel_map.input_shape)
    everything = np.ones(len(channel_map), bool)
    known: dict[Any, float] = {}
    totals = []
    for mask in (everything, keep):
        total = 0.0
        for call in found:
            run = _product(call)
            if run is None:
                continue
            kernel = channel_map.kept_variable_shape(mask, run.kernel)
            shape = _input_of(call, run.kernel, kernel, batch_size // fixed)
            key = (run.key, shape, kernel)
            if key not in known:
                few = max(1, min(shape[0], _MOST_NUMBERS // max(1, math.prod(shape[1:]))))
                seconds = _seconds(run.function, (few, *shape[1:]), kernel)
                known[key] = seconds * shape[0] / few
            total += known[key]
        totals.append(total)
    return totals[0], totals[1]


class _Product(NamedTuple):
    """A product with a kernel: `function(inputs, kernel)`."""

    function: Callable[[Any, Any], Any]
    kernel: keras.Variable
    key: Any


def _product(call: Call) -> _Product | None:
    layer = call.operation
    if isinstance(layer, keras.layers.Dense):
        return _Product(ops.matmul, layer.kernel, "dense")
    if not isinstance(layer, BaseConv | BaseDepthwiseConv) or layer.data_format != "channels_last":
        return None
    convolve = ops.depthwise_conv if isinstance(layer, BaseDepthwiseConv) else ops.conv
    settings = {
        "strides": tuple(layer.strides),
        "padding": "same" if layer.padding == "causal" else layer.padding,
        "dilation_rate": tuple(layer.dilation_rate),
    }
    kernel = next(w for w in call.weights if len(shape_of(w)) > 1)
    key = (convolve, *settings.values())
    return _Product(lambda x, k: convolve(x, k, **settings), kernel, key)


def _input_of(
    call: Call, kernel: keras.Variable, kept: tuple[int, ...], batch_size: int
) -> tuple[int, ...]:
    """Returns the shape of what a kernel gets once only some of its positions are left."""
    batch, *inner, channels = call.inputs[0]
    read = len(shape_of(kernel)) - 2  # the axis of the kernel that reads
    groups = max(1, channels // shape_of(kernel)[read])
    return (batch * batch_size, *inner, kept[read] * groups)


def _seconds(function: Callable, shape: tuple[int, ...], kernel: tuple[int, ...]) -> float:
    if not math.prod(shape) or not math.prod(kernel):
        return 0.0
    inputs, weights = ops.ones(shape), ops.ones(kernel)
    times = []
    for _ in range(1 + _TRIES):  # the first one warms up
        started = time.perf_counter()
        ops.convert_to_numpy(ops.sum(function(inputs, weights)))
        times.append(time.perf_counter() - started)
    return min(times[1:])
