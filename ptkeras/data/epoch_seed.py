"""The callback that tells a dataset which epoch it is."""

import warnings

import keras

from ptkeras.data.dataset import Dataset


class EpochSeed(keras.callbacks.Callback):
    """Sets `dataset.epoch` before each epoch, so that each has its own order and augmentation.

    A run that is resumed at epoch k sees the very batches that an uninterrupted run sees there.

    ```python
    dataset = ptkeras.data.load("digits", batch_size=32, seed=1)
    model.fit(dataset.train, epochs=60, initial_epoch=20, callbacks=[EpochSeed(dataset)])
    ```

    Args:
        dataset: What `ptkeras.data.load` returned, whose `train` is being fitted.
    """

    def __init__(self, dataset: Dataset) -> None:
        super().__init__()
        self.dataset = dataset
        self._steps = 0
        self._quiet: warnings.catch_warnings | None = None

    def on_train_begin(self, logs: dict | None = None) -> None:
        """Remembers how many steps an epoch has, as Keras does.

        Args:
            logs: Not used.
        """
        self._steps = int(self.dataset.train.cardinality())

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        """Sets the epoch; Keras starts the epoch's iterator right after this.

        Args:
            epoch: Number of the epoch, counted from 0.
            logs: Not used.

        Raises:
            ValueError: If the batch size has become smaller than it was when `fit` began, because
                Keras would then leave out the end of every epoch.
        """
        self.dataset.epoch.assign(epoch)
        steps = int(self.dataset.train.cardinality())
        if steps > self._steps:
            raise ValueError(
                f"batch_size shrank to {int(self.dataset.batch_size)} inside one fit, which "
                f"would end each epoch after {self._steps} of {steps} steps; start a new fit for it."
            )
        if steps < self._steps and self._quiet is None:
            self._silence_keras()

    def on_train_end(self, logs: dict | None = None) -> None:
        """Lets Keras warn again.

        Args:
            logs: Not used.
        """
        if self._quiet is not None:
            self._quiet.__exit__(None, None, None)
            self._quiet = None

    def _silence_keras(self) -> None:
        # Keras counts the steps once, and warns whenever an epoch of bigger batches ends early.
        self._quiet = warnings.catch_warnings()
        self._quiet.__enter__()
        warnings.filterwarnings("ignore", message="Your input ran out of data")
