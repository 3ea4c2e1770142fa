"""Which weights are small: thresholds and masks, on plain arrays.

To the bit what TF-MOT 0.8 computes (`pruning_impl.py`, `pruning_utils.py`), in NumPy: a threshold
takes a partition here where TensorFlow sorts.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def threshold(arrays: Sequence[np.ndarray], sparsity: float) -> float:
    """The magnitude under which a share of all weights of some arrays lies.

        k = max(1, round(n · (1 - sparsity))),  threshold = the k-th largest of the n |w|

    in single precision, half to even, as TF-MOT has it. Weights at the threshold stay.

    Args:
        arrays: the weights.
        sparsity: the share that is to go, from 0 and under 1.
    """
    # NaN counts as large: a network that has broken is to show it.
    magnitudes = np.abs(np.concatenate([np.ravel(a) for a in arrays]))
    magnitudes = np.where(np.isnan(magnitudes), np.inf, magnitudes)
    n = magnitudes.size
    kept = np.float32(n) * (np.float32(1) - np.float32(sparsity))
    k = min(n, max(1, int(np.round(kept))))
    return float(np.partition(magnitudes, n - k)[n - k])


def mask(array: np.ndarray, threshold: float) -> np.ndarray:
    """Bool array: the weights that stay, those that are not under the threshold."""
    return ~(np.abs(array) < threshold)


def m_by_n_mask(array: np.ndarray, m: int, n: int) -> np.ndarray:
    """Bool array in which of every n consecutive weights the m smallest are False.

    Consecutive are weights along the input channels, the last axis but one, as TF-MOT has it and
    sparse tensor cores want it: a kernel of shape `(…, inputs, outputs)` is laid out as
    `(outputs, …, inputs)`. Blocks do not cross from one row to the next; the last one of a row is
    filled up with zeros, which go first. Of equals the later go.

    Args:
        array: a kernel of at least two axes, the last two of them inputs and outputs.
        m: how many go.
        n: out of how many.
    """
    rows = np.abs(np.moveaxis(array, -1, 0))
    inputs = rows.shape[-1]
    padded = np.pad(rows, [(0, 0)] * (rows.ndim - 1) + [(0, -inputs % n)])
    order = np.argsort(-padded.reshape(-1, n), axis=-1, kind="stable")
    keep = np.zeros(order.shape, bool)
    np.put_along_axis(keep, order[:, : n - m], True, axis=-1)
    return np.moveaxis(keep.reshape(padded.shape)[..., :inputs], 0, -1)
