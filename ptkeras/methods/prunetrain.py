"""PruneTrain (Lym et al., SC'19, arXiv 1901.09290)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ptkeras.methods.method import Method, Start
from ptkeras.utils.flagging import (
    COUNT,
    POSITIVE,
    SWITCH,
    Flag,
    Parser,
    Settings,
    SettingsError,
    choice,
)

if TYPE_CHECKING:
    import keras

    from ptkeras.data import Dataset
    from ptkeras.runs.run_folder import RunFolder

_RATIO = Parser(float, "over 0 and under 1; the paper has 0.2 to 0.3", lambda ratio: 0 < ratio < 1)

_FLAGS = {
    "PruneTrain": (
        Flag("ratio", 0.2, _RATIO, "Lasso penalty ratio: the lasso's share of the first loss."),
        Flag(
            "interval",
            10,
            COUNT,
            "Reconfiguration interval in epochs. With every method, a checkpoint is kept then.",
        ),
        Flag(
            "threshold",
            1e-4,
            POSITIVE,
            "Sparsity threshold: a channel goes when all of its groups are under it.",
        ),
        Flag(
            "measure",
            "max",
            choice("max", "mean"),
            "How large a group is: max, its largest absolute weight, or mean.",
        ),
        Flag(
            "channel_gating",
            False,
            SWITCH,
            "Whether each layer at a shortcut keeps its own channels only, by selection.",
        ),
        Flag(
            "remove_dead_branches",
            True,
            SWITCH,
            "Whether a residual branch without channels leaves the network.",
        ),
        Flag("min_channels", 1, COUNT, "The least number of channels that a layer keeps."),
        Flag(
            "channel_multiple",
            1,
            COUNT,
            "What channel counts stay a multiple of; 8 suits tensor cores.",
        ),
        Flag(
            "dynamic_batch",
            False,
            SWITCH,
            "Whether the batch, and the learning rate with it, grows into freed memory.",
        ),
    ),
}


class PruneTrain(Method):
    """Prunes from the first step, by group lasso and reconfiguration."""

    name = "prunetrain"
    flags = _FLAGS
    is_distributed = True
    threshold = "threshold"

    def complete(self, settings: Settings) -> None:
        """Checks that a reconfiguration comes before the end."""
        if settings.interval > settings.epochs:
            raise SettingsError(
                f"flag --interval={settings.interval}: must not be longer than "
                f"--epochs={settings.epochs}, or nothing would be removed before the end."
            )

    def check_devices(self, settings: Settings, replicas: int) -> None:
        """Checks that the devices can share every batch, as it grows."""
        from ptkeras.prunetrain.batching import GRANULARITY

        step = min(settings.batch_size, GRANULARITY)
        if settings.dynamic_batch and step % replicas:
            raise SettingsError(
                f"flag --dynamic_batch: the batch grows by multiples of {step}, which {replicas} "
                "devices cannot share; leave it out."
            )

    def start(
        self, settings: Settings, dataset: Dataset, model: keras.Model, folder: RunFolder
    ) -> Start:
        """Returns the network, and the callback; the batch of the data set grows if asked to."""
        from ptkeras import prunetrain

        pruning = prunetrain.PruneTrain(
            ratio=settings.ratio,
            interval=settings.interval,
            threshold=settings.threshold,
            measure=settings.measure,
            channel_gating=settings.channel_gating,
            remove_dead_branches=settings.remove_dead_branches,
            min_channels=settings.min_channels,
            channel_multiple=settings.channel_multiple,
            batch_size=dataset.batch_size if settings.dynamic_batch else None,
        )
        return Start(model, [pruning])


METHOD = PruneTrain()
