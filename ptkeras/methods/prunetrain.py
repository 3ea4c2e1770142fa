"""PruneTrain (Lym et al., SC'19, arXiv 1901.09290)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import keras

from ptkeras.prunetrain import PruneTrain

if TYPE_CHECKING:
    from ptkeras.data import Dataset


def callbacks(settings: Any, dataset: Dataset) -> list[keras.callbacks.Callback]:
    """Prunes from the first step, by group lasso and reconfiguration.

    Args:
        settings: the flags of `ptkeras.train`.
        dataset: what is trained with; its batch grows under dynamic mini-batch adjustment.
    """
    return [
        PruneTrain(
            ratio=settings.ratio,
            interval=settings.interval,
            threshold=settings.threshold,
            measure=settings.measure,
            channel_gating=settings.channel_gating,
            remove_dead_branches=settings.remove_dead_branches,
            min_channels=settings.min_channels,
            channel_multiple=settings.channel_multiple,
            batch_size=dataset.batch_size if settings.dynamic_batch else None,
        )
    ]
