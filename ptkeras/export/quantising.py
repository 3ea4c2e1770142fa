"""Post-training static quantisation of an ONNX model to int8, by onnxruntime."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np


def quantise(proto: Any, examples: Mapping[str, np.ndarray], batch_size: int | None = None) -> Any:
    """Quantises weights and activations, with the ranges that activations have on examples.

    Signed 8-bit numbers, weights with one scale for each output channel, and
    QuantizeLinear/DequantizeLinear pairs around each operation, as onnxruntime recommends.

    Args:
        proto: the float32 model.
        examples: arrays by input name, of some hundred examples.
        batch_size: the only batch size that the model takes, or None.

    Returns:
        The quantised model; its inputs and outputs stay float32.
    """
    import onnx
    from onnxruntime import quantization

    with tempfile.TemporaryDirectory() as folder:
        quantised = Path(folder, "quantised.onnx")
        quantization.quantize_static(
            proto,
            quantised,
            _Reader(batches(examples, batch_size or 32)),
            quant_format=quantization.QuantFormat.QDQ,
            per_channel=True,
            activation_type=quantization.QuantType.QInt8,
            weight_type=quantization.QuantType.QInt8,
        )
        return onnx.load(quantised)


def batches(examples: Mapping[str, np.ndarray], size: int) -> Iterator[dict[str, np.ndarray]]:
    """Examples in batches of one size; the last of them fills the last batch up.

    Seen twice, an example does not change the range of anything.
    """
    count = len(next(iter(examples.values())))
    for start in range(0, count, size):
        place = np.minimum(np.arange(start, start + size), count - 1)
        yield {name: array[place] for name, array in examples.items()}


class _Reader:
    """What onnxruntime calls a CalibrationDataReader."""

    def __init__(self, found: Iterator[dict[str, np.ndarray]]) -> None:
        self._found = found

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self._found, None)
