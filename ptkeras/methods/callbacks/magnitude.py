"""What magnitude pruning trains with: a schedule, and the accounts of zeros."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ptkeras.magnitude import report
from ptkeras.methods.callbacks.accounts import Accounts


def gradual(sparsity: float, begin: int, end: int, frequency: int) -> Callable[[int], float | None]:
    """A sparsity that rises from zero, quickly at first (Zhu & Gupta, arXiv 1710.01878, eq. 1).

        s(t) = sparsity · (1 - (1 - (t - begin) / (end - begin))³)

    Args:
        sparsity: what it rises to.
        begin: the number of steps before it does.
        end: the number of steps before it is there; `begin` for all at once.
        frequency: steps between two values.

    Returns:
        A schedule for `ptkeras.MagnitudePruning`.
    """

    def schedule(step: int) -> float | None:
        done = step - 1  # steps are counted from 1
        if done < begin:
            return None
        if done >= end:
            return sparsity
        done -= (done - begin) % frequency
        return sparsity * (1 - (1 - (done - begin) / (end - begin)) ** 3)

    return schedule


class SparseAccounts(Accounts):
    """The accounts of a network that keeps its size, and what its zeros save."""

    def result(self) -> dict[str, Any]:
        """The share of zeros in the kernels; parameters, and bytes, without them."""
        found = report(self.model)
        return {
            "sparsity": found.sparsity,
            "nonzero_params": [found.params, found.nonzero_params],
            "gzip_bytes": [found.raw_bytes, found.gzip_bytes],
        }
