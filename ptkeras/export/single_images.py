"""How long onnxruntime takes for single images: real ones, since gates decide by what they see."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from ptkeras.export.onnx import to_onnx
from ptkeras.skipnet.latency import in_turns, one_by_one
from ptkeras.utils.arguments import check_count


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
        ExportError: a network cannot be exported.
        ValueError: there are no images, or `threads` or `rounds` is under 1.
    """
    threads, rounds = check_count("threads", threads), check_count("rounds", rounds)
    check_count("number of images", len(images))
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    runs = []
    with tempfile.TemporaryDirectory() as folder:
        for number, model in enumerate(models):
            path = Path(folder) / f"{number}.onnx"
            to_onnx(model, path, batch_size=1)
            runs.append(_session(onnxruntime.InferenceSession(path, options)))
    return in_turns(runs, [one_by_one(model, images) for model in models], rounds)


def _session(session: Any) -> Callable[[np.ndarray], Any]:
    name = session.get_inputs()[0].name
    return lambda image: session.run(None, {name: image})
