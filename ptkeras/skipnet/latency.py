"""How long single images take in onnxruntime: real ones, since gates decide by what they see."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import keras
import numpy as np


def onnx_latency(
    models: Sequence[keras.Model], images: np.ndarray, *, threads: int = 1, rounds: int = 9
) -> list[float]:
    """Times networks on images, one after the other, in onnxruntime.

    Each is exported at batch 1, where a gate is an `If` node. The networks take turns, in an order
    that turns with the rounds, so that what else the machine does weighs on all of them alike.

    Args:
        models: the networks, of one input.
        images: of shape `(images, …)`, float32; all of them are run in each round.
        threads: how many threads to compute with.
        rounds: how many turns each has, after one that is not counted.

    Returns:
        For each network the milliseconds of an image, the median of the rounds' means.

    Raises:
        ptkeras.export.ExportError: a network cannot be exported.
    """
    import onnxruntime

    from ptkeras import export

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    sessions = []
    with tempfile.TemporaryDirectory() as folder:
        for number, model in enumerate(models):
            path = Path(folder) / f"{number}.onnx"
            export.to_onnx(model, path, batch_size=1)
            sessions.append(onnxruntime.InferenceSession(path, options))
    feeds = [images[place : place + 1] for place in range(len(images))]
    times: list[list[float]] = [[] for _ in sessions]
    for number in range(-1, rounds):
        start = number % len(sessions)
        for place in [*range(start, len(sessions)), *range(start)]:
            session = sessions[place]
            name = session.get_inputs()[0].name
            started = time.perf_counter()
            for feed in feeds:
                session.run(None, {name: feed})
            seconds = time.perf_counter() - started
            if number >= 0:
                times[place].append(1e3 * seconds / len(feeds))
    return [statistics.median(each) for each in times]
