"""One training on several machines: what its workers agree on, and what Keras leaves undone."""

from ptkeras.multi_worker.agreement import (
    ChiefStoppedError,
    WorkerLostError,
    WorkersDifferError,
    check_decision,
    check_same,
    enable_fit,
    file_of_chief,
    from_chief,
    index_of_worker,
    is_chief,
    largest,
    number_of_workers,
    strategy_of,
    telling_of_losses,
)

__all__ = [
    "ChiefStoppedError",
    "WorkerLostError",
    "WorkersDifferError",
    "check_decision",
    "check_same",
    "enable_fit",
    "file_of_chief",
    "from_chief",
    "index_of_worker",
    "is_chief",
    "largest",
    "number_of_workers",
    "strategy_of",
    "telling_of_losses",
]
