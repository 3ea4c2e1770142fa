"""Plain training, with which the others are compared."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ptkeras.methods.method import Method, Start

if TYPE_CHECKING:
    import keras

    from ptkeras.data import Dataset
    from ptkeras.report.runs import Run
    from ptkeras.runs.run_folder import RunFolder
    from ptkeras.utils.flagging import Settings


class Dense(Method):
    """Prunes nothing, and keeps the same accounts as the methods that do."""

    name = "dense"
    is_distributed = True
    is_pruning = False

    def start(
        self, settings: Settings, dataset: Dataset, model: keras.Model, folder: RunFolder
    ) -> Start:
        """Returns the network as it is."""
        from ptkeras.methods.callbacks.accounts import Accounts

        return Start(model, [Accounts(dataset.num_train)])

    def sections(self, run: Run) -> tuple[str, ...]:
        """Returns none: nothing is removed."""
        return ()


METHOD = Dense()
