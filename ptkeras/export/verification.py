"""Comparing an artifact, run by its own runtime, with the Keras model."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np

from ptkeras.export.artifact import ExportError
from ptkeras.export.runtimes import Arrays, Runtime, first_line, load
from ptkeras.export.served import Served, Serving
from ptkeras.keras_compat.tracking import flatten_layers
from ptkeras.utils.progress import working

BATCH_SIZES = (1, 3)

# The largest difference that is let pass, over the largest absolute output. What rounding leaves of
# one is some units of 2⁻²⁴, 2⁻¹¹ and 2⁻⁸ a layer; int8 has steps of 1/255 of each tensor's range.
TOLERANCES = {"float32": 1e-4, "float16": 1e-2, "bfloat16": 5e-2, "int8": 5e-1}

# The least share of examples with the same top class. For float32 and the half precisions the
# tolerance says it all; the answers of int8 may move further, as long as they mean the same.
_LEAST_AGREEMENT = {"int8": 0.9}
_TIE = 1e-4


@dataclasses.dataclass(frozen=True)
class Verification:
    """What comparing an artifact with its model gave, over all batches and outputs.

    Attributes:
        runtime: what ran the artifact.
        batch_sizes: the sizes of the batches.
        max_absolute: the largest absolute difference.
        max_relative: the largest difference of an output over that output's largest absolute value.
        top_class: the share of vectors along the last axis of an output whose largest entry is at
            the same place; entries within 1e-4 of the largest absolute output are a tie. None where
            no output has a last axis longer than one.
        tolerance: what `max_relative` may be.
        least_agreement: what `top_class` must be.
    """

    runtime: str
    batch_sizes: tuple[int, ...]
    max_absolute: float
    max_relative: float
    top_class: float | None
    tolerance: float
    least_agreement: float = 0.0

    @property
    def passed(self) -> bool:
        """Whether the artifact answers as the model does."""
        agrees = self.top_class is None or self.top_class >= self.least_agreement
        return self.max_relative <= self.tolerance and agrees  # a NaN is not under any tolerance

    @property
    def allowance(self) -> str:
        """What would pass, in words."""
        agreement = f" with {self.least_agreement:.0%} of top classes" * bool(self.least_agreement)
        return f"{self.tolerance:.0e}{agreement}"

    def __str__(self) -> str:
        batches = " and ".join(map(str, self.batch_sizes))
        top = "" if self.top_class is None else f", top class {self.top_class:.1%} the same"
        return (
            f"{self.runtime} is within {self.max_relative:.1e} of Keras, relatively, and "
            f"{self.max_absolute:.1e} absolutely, at batch {batches}{top}"
        )


def verify(
    path: str | os.PathLike[str],
    model: keras.Model,
    *,
    inputs: Any = None,
    batch_sizes: Sequence[int] = BATCH_SIZES,
    tolerance: float | None = None,
    softmax: bool = False,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> Verification:
    """Runs an artifact in its own runtime, and the Keras model, on the same inputs.

    ```python
    report = ptkeras.export.verify("small.onnx", model, inputs=images, batch_sizes=(1, 3, 32))
    assert report.passed, report
    ```

    Args:
        path: an .onnx or .tflite file, or the folder of a SavedModel. A LiteRT file that needs
            TensorFlow's operations is run with them.
        model: the Keras model.
        inputs: examples of it: an array, or arrays in the structure of the model's inputs or by
            input name. A batch takes them from the start, again and again where there are too few.
            None for random ones: normal numbers, and 0 or 1 for integers.
        batch_sizes: the sizes of the batches that are run.
        tolerance: the largest difference that passes, over the largest absolute output; None for
            1e-4, or, if the model computes in half precision, 1e-2 (float16) or 5e-2 (bfloat16).
        softmax: whether the artifact has a softmax that the model has not.
        mean: what the artifact subtracts from its input and the model does not.
        std: what the artifact divides its input by and the model does not.

    Returns:
        The differences; it raises nothing if they are large.

    Raises:
        ExportError: the runtime is not installed, refuses the artifact, or cannot run it.
        ValueError: the path is no artifact, its inputs or outputs are not those of the model, or
            the examples are not.
    """
    served = Served(model, Serving(softmax=softmax, mean=mean, std=std))
    if tolerance is None:
        tolerance = TOLERANCES[precision_of(model)]
    with working(f"Verifying '{path}'"):
        return compare(load(path), served, inputs, batch_sizes, tolerance)


def precision_of(model: keras.Model) -> str:
    """The coarsest precision in which a model computes."""
    used = {layer.compute_dtype for layer in flatten_layers(model)}
    return next((name for name in ("bfloat16", "float16") if name in used), "float32")


def least_agreement(precision: str) -> float:
    """The least share of examples with the same top class that an export of a precision needs."""
    return _LEAST_AGREEMENT.get(precision, 0.0)


def compare(
    run: Runtime,
    served: Served,
    inputs: Any = None,
    batch_sizes: Sequence[int] = BATCH_SIZES,
    tolerance: float = TOLERANCES["float32"],
    agreement: float = 0.0,
) -> Verification:
    """Compares a loaded artifact with what it was made of; see `verify`."""
    if not batch_sizes or min(batch_sizes) < 1:
        raise ValueError(f"batch_sizes must be 1 or larger; received {batch_sizes}.")
    _check_inputs(run, served)
    shapes = [*(port.shape for port in served.inputs), *(shape for shape, _ in run.inputs.values())]
    sizes = tuple(sorted({shape[0] for shape in shapes if shape[0]})) or tuple(batch_sizes)
    absolute, relative, tops = 0.0, 0.0, []
    for number, size in enumerate(sizes):
        feeds = _batch(served, inputs, size, number)
        expected = served.run(feeds)
        try:
            got = run(feeds)
        except Exception as error:
            raise ExportError(f"It does not run: {first_line(error)}") from error
        for name, right in expected.items():
            if name not in got or got[name].shape != right.shape:
                shape = got[name].shape if name in got else "nothing"
                raise ValueError(
                    f"The artifact gives {shape} as '{name}' where the model gives {right.shape}."
                )
            if not np.isfinite(right).all():
                raise ValueError(
                    f"The Keras model itself gives '{name}' numbers that are not finite on these "
                    "inputs, so that nothing can be compared."
                )
            answer = got[name].astype(right.dtype)
            scale = float(np.abs(right).max(initial=0.0))
            difference = float(np.abs(answer.astype("float64") - right).max(initial=0.0))
            # np.maximum, unlike max, does not lose a NaN.
            absolute = float(np.maximum(absolute, difference))
            relative = float(np.maximum(relative, difference / (scale or 1.0)))
            if right.ndim > 1 and right.shape[-1] > 1:
                tops.append(_same_top(right, answer, scale).ravel())
    top = float(np.concatenate(tops).mean()) if tops else None
    return Verification(run.name, sizes, absolute, relative, top, tolerance, agreement)


def _check_inputs(run: Runtime, served: Served) -> None:
    """Raises a ValueError where an artifact takes what the model does not."""
    ports = {port.name: port.shape for port in served.inputs}
    for name, (shape, _) in run.inputs.items():
        if name not in ports:
            raise ValueError(
                f"The artifact has an input '{name}', and the model has none of that name "
                f"({', '.join(ports)}): it was made of another one."
            )
        own = ports[name]
        if len(shape) != len(own) or any(
            None not in sizes and sizes[0] != sizes[1] for sizes in zip(shape, own, strict=True)
        ):
            raise ValueError(
                f"The artifact takes '{name}' of shape {shape}, and the model of shape {own}: it "
                "was made of another one."
            )


def _batch(served: Served, inputs: Any, size: int, seed: int) -> Arrays:
    if inputs is None:
        return served.random_feeds(size, seed)
    feeds: Mapping[str, np.ndarray] = served.feeds(inputs)
    return {name: np.resize(array, (size, *array.shape[1:])) for name, array in feeds.items()}


def _same_top(right: np.ndarray, answer: np.ndarray, scale: float) -> np.ndarray:
    chosen = np.take_along_axis(right, answer.argmax(-1)[..., np.newaxis], -1)[..., 0]
    return chosen >= right.max(-1) - _TIE * scale
