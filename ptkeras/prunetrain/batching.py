"""Dynamic mini-batch adjustment: the batch grows into the memory that pruning frees."""

from __future__ import annotations

from typing import Any

import keras

from ptkeras import cost
from ptkeras.keras_compat.optimizers import learning_rate_of

GRANULARITY = 32


class BatchAdjustment:
    """Grows a batch size so that a training step needs the memory that the first one needed.

    The largest multiple of 32 (of the first batch size, if that is smaller) for which

    `training_memory(model, batch size) <= training_memory(first model, first batch size)`

    holds, and the learning rate grows by the same factor (PruneTrain, section 4.3; Goyal et al.,
    2017, for the linear scaling).

    Args:
        variable: the batch size, with `assign(int)` and readable by `int`.
    """

    def __init__(self, variable: Any) -> None:
        self.variable = variable
        self.first = self.size
        self.memory: int | None = None

    @property
    def size(self) -> int:
        """Current batch size."""
        value = self.variable
        return int(value.numpy()) if hasattr(value, "numpy") else int(value)

    @property
    def scale(self) -> float:
        """Batch size over the first one."""
        return self.size / self.first

    def begin(self, model: keras.Model, optimizer: Any) -> None:
        """Notes what memory a step of the first model needs, unless an earlier `fit` has.

        Args:
            model: the model that is pruned.
            optimizer: the Keras optimizer whose learning rate grows with the batch.

        Raises:
            ValueError: If the learning rate is a schedule, which nothing can scale.
        """
        if not isinstance(learning_rate_of(optimizer), keras.Variable):
            name = getattr(optimizer, "name", optimizer)
            raise ValueError(
                f"Dynamic mini-batch adjustment scales the learning rate, but that of '{name}' is "
                "a schedule or a function: give the optimizer a number, and lower it by a "
                "LearningRateScheduler."
            )
        self.optimizer = optimizer
        if self.memory is None:
            self.memory = cost.training_memory(model, self.first)

    def adjust(self, model: keras.Model, examples: int) -> None:
        """Sets the batch size and the learning rate for a model that has shrunk.

        Args:
            model: the model.
            examples: the number of examples in an epoch, which a batch does not outgrow.
        """
        if self.memory is None:  # no training has begun
            return
        step = min(GRANULARITY, self.first)
        one, two = (cost.training_memory(model, n) for n in (1, 2))
        fits = int((self.memory - one) // max(two - one, 1)) + 1
        size = max(min(fits, examples) // step * step, self.size)
        if size > self.size:
            rate = self.optimizer.learning_rate
            self.optimizer.learning_rate = float(rate) * size / self.size
            self.variable.assign(size)
