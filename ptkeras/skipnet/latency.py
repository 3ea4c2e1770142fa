"""How long single images take in onnxruntime: real ones, since gates decide by what they see."""

from __future__ import annotations

import numbers
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

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
        images: of shape `(images, …)`, as the networks take them; all are run in each round.
        threads: how many threads to compute with.
        rounds: how many turns each has, after one that is not counted.

    Returns:
        For each network the milliseconds of an image, the median of the rounds' means.

    Raises:
        ptkeras.export.ExportError: a network cannot be exported.
        ValueError: there are no images, or `threads` or `rounds` is under 1.
    """
    for name, value in (
        ("threads", threads),
        ("rounds", rounds),
        ("number of images", len(images)),
    ):
        if not isinstance(value, numbers.Integral) or value < 1:
            raise ValueError(f"The {name} must be a whole number from 1; received {value!r}.")
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
    feeds = [
        _feeds(session, model, images) for session, model in zip(sessions, models, strict=True)
    ]
    times: list[list[float]] = [[] for _ in sessions]
    for number in range(-1, rounds):
        start = number % len(sessions)
        for place in [*range(start, len(sessions)), *range(start)]:
            started = time.perf_counter()
            for feed in feeds[place]:
                sessions[place].run(None, feed)
            seconds = time.perf_counter() - started
            if number >= 0:
                times[place].append(1e3 * seconds / len(images))
    return [statistics.median(each) for each in times]


def _feeds(session: Any, model: keras.Model, images: np.ndarray) -> list[dict[str, np.ndarray]]:
    """The images one by one, of the type that a network's export takes."""
    dtype = model.inputs[0].dtype
    images = np.asarray(images, "float32" if "float" in dtype else dtype)
    name = session.get_inputs()[0].name
    return [{name: images[place : place + 1]} for place in range(len(images))]
