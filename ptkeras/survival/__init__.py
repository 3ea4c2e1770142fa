"""Checkpoints, and trainings that go on from the last one after they are killed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ptkeras.survival.callback import NonFiniteLossError, Stateful, Survival
    from ptkeras.survival.signals import InterruptedTrainingError

__all__ = [
    "InterruptedTrainingError",
    "NonFiniteLossError",
    "Stateful",
    "Survival",
]


if not TYPE_CHECKING:  # a type checker knows the names from above, and reports all others

    def __getattr__(name: str) -> Any:
        if name not in __all__:
            raise AttributeError(f"module 'ptkeras.survival' has no attribute '{name}'")
        # Imported when asked for: the command line checks its flags and files without Keras.
        from ptkeras.survival import callback

        return getattr(callback, name)
