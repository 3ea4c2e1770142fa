"""Post-training static quantisation of an ONNX model to int8, by onnxruntime."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np


def quantise(proto: Any, examples: Mapping[str, np.ndarray]) -> Any:
    """Quantises weights and activations, with the ranges that activations have on examples.

    Signed 8-bit numbers, weights with one scale for each output channel, and
    QuantizeLinear/DequantizeLinear pairs around each operation, as onnxruntime recommends.

    Args:
        proto: the float32 model.
        examples: arrays by input name, of some hundred examples.

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
            _Batches(examples),
            quant_format=quantization.QuantFormat.QDQ,
            per_channel=True,
            activation_type=quantization.QuantType.QInt8,
            weight_type=quantization.QuantType.QInt8,
        )
        return onnx.load(quantised)


class _Batches:
    """Hands out the examples in batches, as a CalibrationDataReader does."""

    def __init__(self, examples: Mapping[str, np.ndarray], size: int = 32) -> None:
        count = len(next(iter(examples.values())))
        self._batches = iter(
            [
                {name: array[start : start + size] for name, array in examples.items()}
                for start in range(0, count, size)
            ]
        )

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self._batches, None)
