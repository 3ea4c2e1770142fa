"""The callback that tells a dataset which epoch it is."""

import warnings
from typing import Any

import keras

from ptkeras.data.dataset import Dataset


class EpochSeed(keras.callbacks.Callback):
    """Sets `dataset.epoch` before each epoch, so that each has its own order and augmentation.

    A run that is resumed at epoch k sees the very batches that an uninterrupted run sees there.

    ```python
    dataset = ptkeras.data.load("digits", batch_size=32, seed=1)
    seeding = ptkeras.data.EpochSeed(dataset)
    model.fit(dataset.train, shuffle=False, epochs=60, initial_epoch=20, callbacks=[seeding])
    ```

    Args:
        dataset: What `ptkeras.data.load` returned, whose `train` is being fitted.
    """

    def __init__(self, dataset: Dataset) -> None:
        super().__init__()
        self.dataset = dataset
        self._steps_at_start = 0
        self._steps = 0
        self._quiet: warnings.catch_warnings | None = None

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Counts the steps of an epoch, as Keras has done.

        Args:
            logs: Not used.

        Raises:
            ValueError: If `fit` was called with another `steps_per_epoch`: Keras would then carry
                one iterator on from epoch to epoch.
        """
        self._steps_at_start = int(self.dataset.train.cardinality())
        steps = (self.params or {}).get("steps")
        if steps not in (None, self._steps_at_start):
            raise ValueError(
                f"steps_per_epoch must be left out to train on whole epochs of "
                f"{self._steps_at_start} steps; got {steps}."
            )

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Sets the epoch; Keras starts the epoch's iterator right after this.

        Args:
            epoch: Number of the epoch, counted from 0.
            logs: Not used.
        """
        self.dataset.epoch.assign(epoch)

    def on_train_batch_begin(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Ends an epoch whose batches have grown, since Keras goes by its old number of steps.

        Were it left to find the iterator empty, TensorFlow would run what does not depend on data
        once more: weight decay, and the optimizer's count of its steps.

        Args:
            batch: Number of the step in the epoch.
            logs: Not used.

        Raises:
            StopIteration: If the epoch is over, which is how an iterator tells Keras.
            ValueError: If the batch size has become smaller than it was when `fit` began, because
                Keras would then leave out the end of every epoch.
        """
        if batch == 0:
            self._count_steps()
        # On other backends the step starts when its batch is there, and nothing runs twice.
        if batch >= self._steps and keras.backend.backend() == "tensorflow":
            raise StopIteration

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Lets Keras warn again.

        Args:
            logs: Not used.
        """
        if self._quiet is not None:
            self._quiet.__exit__(None, None, None)
            self._quiet = None

    def _count_steps(self) -> None:
        self._steps = int(self.dataset.train.cardinality())
        if self._steps > self._steps_at_start:
            raise ValueError(
                f"batch_size shrank to {int(self.dataset.batch_size)} inside one fit, which "
                f"would end each epoch after {self._steps_at_start} of {self._steps} steps; "
                "start a new fit."
            )
        if self._steps < self._steps_at_start and self._quiet is None:
            self._silence_keras()

    def _silence_keras(self) -> None:
        # Keras warns whenever an epoch is shorter than it was when fit began.
        self._quiet = warnings.catch_warnings()
        self._quiet.__enter__()
        warnings.filterwarnings("ignore", message="Your input ran out of data")
