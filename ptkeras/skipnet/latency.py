"""How long single images take: real ones, since gates decide by what they see."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence

import keras
import numpy as np

from ptkeras.utils.arguments import check_count


def keras_latency(
    models: Sequence[keras.Model], images: np.ndarray, *, rounds: int = 9
) -> list[float]:
    """Times networks on images, one after the other, in Keras.

    ```python
    dense = ptkeras.skipnet.remove_gates(network)
    fast = ptkeras.skipnet.skipping(network)
    ptkeras.skipnet.keras_latency([dense, fast], x_test[:20])
    ```

    Each is run on a batch of one image. On TensorFlow it is compiled without XLA, which has no
    branches; on JAX, where XLA is all that compiles, and on PyTorch it is not compiled. They take
    turns as in `ptkeras.export.onnx_latency`.

    Args:
        models: the networks, of one input.
        images: of shape `(images, …)`, as the networks take them; all are run in each round.
        rounds: how many turns each has, after one that is not counted.

    Returns:
        For each network the milliseconds of an image, the median of the rounds' means.

    Raises:
        ValueError: there are no images, or `rounds` is under 1.
    """
    rounds = check_count("rounds", rounds)
    check_count("number of images", len(images))
    runs = []
    for model in models:
        (given,) = model.inputs
        image = keras.Input(batch_shape=(1, *given.shape[1:]), dtype=given.dtype)
        single = keras.Model(image, model(image))
        single.jit_compile = False
        runs.append(single.predict_on_batch)
    return in_turns(runs, [one_by_one(model, images) for model in models], rounds)


def one_by_one(model: keras.Model, images: np.ndarray) -> list[np.ndarray]:
    """The images of the type that a network, or its export, takes."""
    dtype = model.inputs[0].dtype
    images = np.asarray(images, "float32" if "float" in dtype else dtype)
    return [images[place : place + 1] for place in range(len(images))]


def in_turns(runs: list[Callable], images: list[list[np.ndarray]], rounds: int) -> list[float]:
    """The milliseconds that each function takes for one of its images."""
    times: list[list[float]] = [[] for _ in runs]
    for number in range(-1, rounds):
        start = number % len(runs)
        for place in [*range(start, len(runs)), *range(start)]:
            started = time.perf_counter()
            for image in images[place]:
                runs[place](image)
            seconds = time.perf_counter() - started
            if number >= 0:
                times[place].append(1e3 * seconds / len(images[place]))
    return [statistics.median(each) for each in times]
