"""One-shot pruning of trained models."""

from ptkeras.pruning.one_shot import (
    LayerChange,
    PruneReport,
    prune,
    remove_channels,
)

__all__ = [
    "LayerChange",
    "PruneReport",
    "prune",
    "remove_channels",
]
