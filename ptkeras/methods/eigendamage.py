"""EigenDamage (Wang et al., ICML 2019, arXiv 1905.05934)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ptkeras.methods.method import Method, Start
from ptkeras.runs.schema import Field, is_number
from ptkeras.utils.flagging import COUNT, POSITIVE, Flag, Parser, reals
from ptkeras.utils.text import whole

if TYPE_CHECKING:
    import keras

    from ptkeras.data import Dataset
    from ptkeras.runs.run_folder import RunFolder
    from ptkeras.utils.flagging import Settings

_RATIOS = Parser(
    reals,
    "numbers over 0 and under 1, such as 0.5 or 0.5,0.4",
    lambda ratios: len(ratios) > 0 and all(0 < ratio < 1 for ratio in ratios),
)
_LIMIT = Parser(float, "over 0 and under 1", lambda x: 0 < x < 1)

_FLAGS = {
    "EigenDamage": (
        Flag(
            "prune_ratio",
            [0.5],
            _RATIOS,
            "Share of all rows and columns, in the eigenbasis, to go behind --epochs of "
            "training: one for one pass, such as 0.5, or one for each iteration, such as "
            "0.5,0.5,0.4.",
        ),
        Flag(
            "prune_ratio_limit",
            0.97,
            _LIMIT,
            "The largest share of one layer's rows or columns to go at once.",
        ),
        Flag("fisher_images", 2000, COUNT, "Training images to measure the Fisher information on."),
        Flag("finetune_epochs", 30, COUNT, "Epochs of fine-tuning behind each pruning."),
        Flag(
            "finetune_learning_rate",
            1e-3,
            POSITIVE,
            "Learning rate of a fine-tuning; it is divided by 10 after a half and after three "
            "quarters of it.",
        ),
    ),
}


class EigenDamage(Method):
    """Prunes a trained network, once or iteratively, and fine-tunes it."""

    name = "eigendamage"
    flags = _FLAGS
    fields = (Field("prune_seconds", is_number, "… of the prunings", whole, after="seconds"),)

    def start(
        self, settings: Settings, dataset: Dataset, model: keras.Model, folder: RunFolder
    ) -> Start:
        """Returns the training, and after it a fine-tuning for each pruning."""
        from ptkeras.methods.callbacks import eigendamage

        pruning = eigendamage.EigenDamage(settings, dataset.num_train)
        epochs = settings.epochs + len(settings.prune_ratio) * settings.finetune_epochs
        return Start(model, [pruning], epochs, result=pruning.result)


METHOD = EigenDamage()
