"""What static and dynamic pruning train with: the stages of the gates, and the prunings."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from ptkeras import export, fisher, skipnet
from ptkeras.methods.callbacks.eigendamage import EigenDamage
from ptkeras.methods.callbacks.skipnet import TIMED_IMAGES, Gates

if TYPE_CHECKING:
    from ptkeras.data import Dataset
    from ptkeras.runs.run_folder import RunFolder
    from ptkeras.utils.flagging import Settings


class Stages(Gates):
    """Has the gates be open, learn or be reinforced as the epoch says.

    Args:
        settings: the flags of `ptkeras.train`.
        dataset: what is trained with.
        folder: the run folder; the networks after the first and the third stage go there.
    """

    def __init__(self, settings: Settings, dataset: Dataset, folder: RunFolder) -> None:
        super().__init__(settings, dataset)
        self.folder = folder
        self.pretrained = settings.epochs + settings.pretraining_epochs
        self.finetuned = self.pretrained + len(settings.prune_ratio) * settings.finetune_epochs

    def stage(self, epoch: int) -> str:
        """What an epoch, counted from 0, belongs to."""
        ends = (self.settings.epochs, self.pretrained, self.finetuned)
        names = ("dense", "pretraining", "finetuning", "reinforcement")
        return names[sum(epoch >= end for end in ends)]

    def enter(self, stage: str) -> None:
        """Begins a stage, or takes it up again."""
        if stage in ("dense", "finetuning"):
            self.model.open_gates()
        else:
            super().enter(stage)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Adds to the logs, and keeps the networks that the last one is compared with."""
        super().on_epoch_end(epoch, logs)
        for name, end in (("dense", self.settings.epochs), ("static", self.finetuned)):
            if epoch + 1 == end:
                self.folder.save_model(skipnet.remove_gates(self.model), self._path(name))

    def finish(self, model: skipnet.SkipNet) -> keras.Model:
        """As for SkipNet; compares the network with those of the stages before."""
        finished = super().finish(model)
        self._table = self._compare(finished)
        return finished

    def times(self, dense: keras.Model, settled: keras.Model) -> dict[str, list[float]]:
        """None: the table has them, of all three networks."""
        return {}

    def result(self) -> dict[str, Any]:
        """What the gates decide, and the table of the three networks."""
        return super().result() | {"comparison": self._table}

    def _path(self, name: str) -> Path:
        return self.folder.path / f"{name}.keras"

    def _compare(self, finished: keras.Model) -> list[dict[str, Any]]:
        before = [keras.models.load_model(self._path(name)) for name in ("dense", "static")]
        images = np.concatenate([x for x, _ in self.dataset.test.as_numpy_iterator()])
        times = export.onnx_latency([*before, finished], images[:TIMED_IMAGES])
        rows = []
        for name, model, seconds in zip(
            ("dense", "static", "static and dynamic"), [*before, finished], times, strict=True
        ):
            routing = skipnet.measure(model, self.dataset.test)
            rows.append(
                {
                    "network": name,
                    "accuracy": routing.accuracy,
                    "params": model.count_params(),
                    "inference_flops": round(float(routing.flops.mean())),
                    "milliseconds": round(seconds, 4),
                }
            )
        return rows


class Static(EigenDamage):
    """Prunes after the pre-training of the gates, all but the gates themselves."""

    def trained(self) -> int:
        """The number of epochs after which the first pruning comes."""
        return self.settings.epochs + self.settings.pretraining_epochs

    def left_alone(self) -> list[str]:
        """The names of the layers that gates are made of."""
        kept = {op.name for op in skipnet.remove_gates(self.model).operations}
        return [layer.name for layer in fisher.layers(self.model) if layer.name not in kept]

    def _prune(self, epoch: int, number: int) -> None:
        # The static network runs all branches: what pre-training skips must not look unneeded.
        self.model.open_gates()
        super()._prune(epoch, number)
