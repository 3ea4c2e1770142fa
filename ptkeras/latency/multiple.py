"""Which numbers of channels this machine computes as fast as fewer."""

from __future__ import annotations

import functools
import time
from typing import Any

from keras import ops

_WIDTH = 64
_MULTIPLES = (16, 8, 4, 2)
_ROUNDS = 5
_IMAGES = (64, 16, 16)  # as in training, so that a convolution takes milliseconds


@functools.cache
def preferred_multiple() -> int:
    """Finds what the number of a convolution's channels should be a multiple of on this machine.

    Processors compute some channels at a time, 16 with AVX-512, 8 with AVX2 or tensor cores, and
    the rest of a last batch of them costs as much as a whole one. A 3×3 convolution from 64 to 64
    channels is timed beside narrower ones: the multiple is the largest m for which 64 − m/2
    channels save less than half of what their multiply-accumulates do.

    Returns:
        16, 8, 4, 2 or 1. It is measured once in a process.
    """
    best = {_WIDTH - m // 2: float("inf") for m in _MULTIPLES} | {_WIDTH: float("inf")}
    tensors = {n: (ops.ones((*_IMAGES, n)), ops.ones((3, 3, n, n))) for n in best}
    for _ in range(1 + _ROUNDS):  # in turns, since the speed of a machine drifts
        for width in best:
            best[width] = min(best[width], _seconds(*tensors[width]))
    for multiple in _MULTIPLES:
        width = _WIDTH - multiple // 2
        saved = 1 - (width / _WIDTH) ** 2
        if best[width] > best[_WIDTH] * (1 - saved / 2):
            return multiple
    return 1


def _seconds(inputs: Any, kernel: Any) -> float:
    started = time.perf_counter()
    ops.convert_to_numpy(ops.conv(inputs, kernel, padding="same"))
    return time.perf_counter() - started
