"""Checkpoints, and trainings that go on from the last one after they are killed."""

from ptkeras.survival.callback import (
    NonFiniteLossError,
    Stateful,
    Survival,
)

__all__ = [
    "NonFiniteLossError",
    "Stateful",
    "Survival",
]
