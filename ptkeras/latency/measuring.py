"""What a multiply-accumulate takes on this machine, by kind of layer."""

from __future__ import annotations

import time
from collections import defaultdict
from typing import Any

import keras
import numpy as np

from ptkeras.cost.calls import Call, calls
from ptkeras.cost.macs import macs as count_macs
from ptkeras.utils.arguments import check_count
from ptkeras.utils.progress import track

# The largest layers of each kind are timed: in them the overhead of a call weighs least.
_LAYERS_PER_KIND = 3


def measure(
    model: keras.Model, batch_size: int = 8, repeats: int = 5, input_shape: Any = None
) -> dict[str, float]:
    """Times a forward pass of the largest layers of each kind, one by one.

        weight(kind) = Σ (t(2·batch) - t(batch)) / Σ (MACs of a batch)

    over the three layers of that kind with the most MACs, where t is the shortest of `repeats`
    calls; the difference leaves out what a call costs however small it is. If it is not over 0,
    half of t(2·batch) takes its place. A depthwise convolution,
    which waits for memory, gets a larger weight than one that does its MACs in matrix products.

    ```python
    weights = ptkeras.latency.measure(model, batch_size=1)
    ptkeras.prune(model, 0.3, of=weights)
    ```

    Args:
        model: a built model of any kind; it is not changed.
        batch_size: the number of examples in the smaller of the two calls.
        repeats: how often each layer is called.
        input_shape: shape of one example, for a model that leaves sizes open.

    Returns:
        Seconds for each MAC, by the name of the layers' class: `{"Conv2D": 2.1e-11, …}`.

    Raises:
        ValueError: If the batch size or the number of repeats is under 1, or the code of the model
            cannot be seen through.
    """
    batch_size, repeats = check_count("batch_size", batch_size), check_count("repeats", repeats)
    found, batch = calls(model, input_shape)
    by_kind: dict[str, list[tuple[int, Call]]] = defaultdict(list)
    for call, macs in zip(found, count_macs(found), strict=True):
        if macs:
            by_kind[type(call.operation).__name__].append((macs // batch, call))
    weights = {}
    for kind, layers in track(list(by_kind.items()), "Timing layers", timed=True):
        largest = sorted(layers, key=lambda pair: -pair[0])[:_LAYERS_PER_KIND]
        larger = sum(_seconds(call, batch, 2 * batch_size, repeats) for _, call in largest)
        seconds = larger - sum(_seconds(call, batch, batch_size, repeats) for _, call in largest)
        if seconds <= 0:  # on a busy machine the larger batch may happen to be the faster one
            seconds = larger / 2
        weights[kind] = seconds / (batch_size * sum(macs for macs, _ in largest))
    return weights


def _seconds(call: Call, batch: int, batch_size: int, repeats: int) -> float:
    rng = np.random.default_rng(0)

    def example(value: Any) -> Any:
        if not isinstance(value, keras.KerasTensor):
            return value
        first, *rest = value.shape
        # An axis that was folded into the batch's comes out in front of it.
        shape = ((first or 1) // batch * batch_size or batch_size, *rest)
        return keras.ops.cast(rng.random(shape, dtype="float32"), value.dtype)

    args, kwargs = keras.tree.map_structure(example, (call.args, call.kwargs))
    times = []
    for _ in range(repeats + 1):  # the first one compiles
        started = time.perf_counter()
        result = call.operation(*args, **kwargs)
        keras.tree.map_structure(keras.ops.convert_to_numpy, result)
        times.append(time.perf_counter() - started)
    return min(times[1:])
