"""The accounts of a training that removes nothing."""

from __future__ import annotations

from typing import Any

import keras

from ptkeras import cost
from ptkeras.channels import trace
from ptkeras.multi_worker.replicas import average_statistics


class Accounts(keras.callbacks.Callback):
    """Adds to the logs of each epoch what `PruneTrain` adds, for a network that keeps its size.

    Args:
        examples: the number of examples in an epoch.
        spent: training FLOPs that were spent before.
    """

    def __init__(self, examples: int, spent: int = 0) -> None:
        super().__init__()
        self.examples = examples
        self.spent = spent

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Counts; nothing changes afterwards."""
        self._figures = {
            "lasso": 0.0,
            "channels": int(trace(self.model).prunable.sum()),
            "params": self.model.count_params(),
            "inference_flops": cost.inference_flops(self.model),
        }
        self._epoch_flops = self.examples * cost.training_flops(self.model)

    def on_test_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Has all devices test the same network."""
        average_statistics(self.model)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Adds to the logs."""
        average_statistics(self.model)
        if logs is not None:
            flops = self.spent + (epoch + 1) * self._epoch_flops
            logs.update(self._figures, training_flops=flops)
