"""Second moments of long vectors, and the bases in which they are diagonal."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

# Vectors that are longer have their second moments taken in blocks of at most so many numbers.
BLOCK = 2048


class Moment:
    """E[v vᵀ] of vectors, gathered bit by bit: block diagonal where they are longer than `BLOCK`.

    A dense layer behind a `Flatten` may read 25,000 numbers, whose second moments would fill 2.5 GB
    and take an hour to decompose. In blocks it is `BLOCK` numbers for each.

    Args:
        size: how long the vectors are.
    """

    def __init__(self, size: int) -> None:
        starts = range(0, size, BLOCK)
        self._parts = [slice(start, min(start + BLOCK, size)) for start in starts]
        self.blocks = [np.zeros((part.stop - part.start,) * 2) for part in self._parts]

    def add(self, rows: np.ndarray, weight: float) -> None:
        """Adds `weight` · Σ v vᵀ over the rows of an array."""
        for block, part in zip(self.blocks, self._parts, strict=True):
            own = rows[:, part]
            block += weight * (own.T @ own)

    def matrix(self) -> np.ndarray:
        """The whole of it, zeros between the blocks."""
        size = self._parts[-1].stop
        result = np.zeros((size, size))
        for block, part in zip(self.blocks, self._parts, strict=True):
            result[part, part] = block
        return result

    def basis(self) -> Basis:
        """The eigenvectors, those of the largest eigenvalues of a block first."""
        found = [np.linalg.eigh(block) for block in self.blocks]
        values = np.concatenate([values[::-1] for values, _ in found])
        return Basis([vectors[:, ::-1] for _, vectors in found], np.maximum(values, 0))


class Basis(NamedTuple):
    """An orthonormal basis, in blocks.

    Attributes:
        blocks: orthogonal matrices, a vector of the basis in each column.
        values: the second moment along each vector.
    """

    blocks: list[np.ndarray]
    values: np.ndarray

    @property
    def size(self) -> int:
        """How long the vectors are."""
        return len(self.values)

    def rotate(self, values: np.ndarray) -> np.ndarray:
        """The coordinates in this basis of what lies along the last axis of an array."""
        if len(self.blocks) == 1:
            return values @ self.blocks[0].astype(values.dtype, copy=False)
        ends = np.cumsum([len(block) for block in self.blocks])[:-1]
        parts = np.split(values, ends, axis=-1)
        return np.concatenate(
            [part @ q.astype(part.dtype) for part, q in zip(parts, self.blocks, strict=True)], -1
        )

    def columns(self, kept: np.ndarray) -> np.ndarray:
        """Some vectors of the basis, side by side.

        Args:
            kept: their numbers.
        """
        result = np.zeros((self.size, len(kept)))
        start = 0
        for block in self.blocks:
            inside = (kept >= start) & (kept < start + len(block))
            result[start : start + len(block), inside] = block[:, kept[inside] - start]
            start += len(block)
        return result
