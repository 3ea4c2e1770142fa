"""Magnitude weight pruning (Han et al., NIPS 2015, arXiv 1506.02626)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import keras

from ptkeras.magnitude import MagnitudePruning, report
from ptkeras.methods.dense import Accounts

if TYPE_CHECKING:
    from ptkeras.data import Dataset


def callbacks(settings: Any, dataset: Dataset) -> list[keras.callbacks.Callback]:
    """Trains, sets the smallest weights to zero, and trains on with the zeros held.

    Args:
        settings: the flags of `ptkeras.train`.
        dataset: what is trained with.
    """
    steps = -(-dataset.num_train // int(dataset.batch_size))
    schedule = gradual(
        settings.sparsity,
        settings.pruning_begin * steps,
        settings.pruning_end * steps,
        settings.pruning_frequency,
    )
    return [MagnitudePruning(schedule, scope=settings.scope), SparseAccounts(dataset.num_train)]


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
