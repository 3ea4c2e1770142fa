"""What EigenDamage trains with: prunings, and fine-tunings after them."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from ptkeras import cost, eigendamage
from ptkeras.channels import ChannelMap, trace
from ptkeras.keras_compat.messages import print_msg
from ptkeras.prunetrain import Reconfiguration

if TYPE_CHECKING:
    from ptkeras.utils.flagging import Settings

# Parts of a fine-tuning after which its learning rate is divided by 10, as in the authors' code.
DROPS = (0.5, 0.75)
# Passes over the images for one pruning: for the factors, and for the second moments.
PASSES = 2


class EigenDamage(keras.callbacks.Callback):
    """Prunes between the training and the fine-tunings, and keeps the accounts.

    Put it after what sets the learning rate, which in a fine-tuning is its own.

    Args:
        settings: the flags of `ptkeras.train`.
        examples: the number of examples in an epoch.

    Attributes:
        reconfigurations: a dict for each pruning: `epoch`, `seconds`, and pairs of what the network
            was before and after, `channels`, `params`, `inference_flops`; `layers` has for each
            layer the smallest of its widths, that of a core once it is pruned.
        training_flops: the training FLOPs so far, with those of the prunings.
    """

    def __init__(self, settings: Settings, examples: int) -> None:
        super().__init__()
        self.settings = settings
        self.examples = examples
        self.reconfigurations: list[Reconfiguration] = []
        self.training_flops = 0
        self._widths: dict[str, int] = {}

    def get_state(self) -> dict[str, Any]:
        """What has to survive beside the model."""
        return {
            "reconfigurations": self.reconfigurations,
            "training_flops": self.training_flops,
            "widths": self._widths,
        }

    def set_state(self, state: dict[str, Any]) -> None:
        """Takes back what `get_state` returned."""
        self.reconfigurations = list(state["reconfigurations"])
        self.training_flops = state["training_flops"]
        self._widths = state["widths"]

    def result(self) -> dict[str, Any]:
        """What the prunings took."""
        return {"prune_seconds": round(sum(one["seconds"] for one in self.reconfigurations), 1)}

    def trained(self) -> int:
        """The number of epochs after which the first pruning comes."""
        return self.settings.epochs

    def left_alone(self) -> list[str]:
        """The names of the layers that are not pruned."""
        return []

    # The hooks of Keras.

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Looks at the network."""
        produced = self._refresh().produced()
        if not self.reconfigurations:
            self._widths = {path: len(channels) for path, channels in produced.items()}

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Sets the learning rate of a fine-tuning."""
        done = epoch - self.trained()
        if 0 <= done < len(self.settings.prune_ratio) * self.settings.finetune_epochs:
            part = done % self.settings.finetune_epochs / self.settings.finetune_epochs
            tenths = sum(part >= drop for drop in DROPS)
            rate = self.settings.finetune_learning_rate / 10**tenths
            self.model.optimizer.learning_rate = rate

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Adds to the logs, and prunes where a training or fine-tuning has ended."""
        self.training_flops += self.examples * self._training_flops
        if logs is not None:
            logs.update(self._figures(), lasso=0.0, training_flops=self.training_flops)
        done = epoch + 1 - self.trained()
        number, into = divmod(done, self.settings.finetune_epochs)
        if done >= 0 and into == 0 and number < len(self.settings.prune_ratio):
            self._prune(epoch + 1, number)

    # What they are made of.

    def _prune(self, epoch: int, number: int) -> None:
        started = time.perf_counter()
        before = self._figures()
        images = first_images(self.settings)
        report = eigendamage.prune(
            self.model,
            images,
            self.settings.prune_ratio[number],
            ratio_limit=self.settings.prune_ratio_limit,
            leave_alone=self.left_alone(),
            batch_size=self.settings.batch_size,
            seed=self.settings.seed + number,
        )
        self.training_flops += PASSES * len(images) * self._training_flops
        self._refresh()
        after = self._figures()
        layers = {name: [count, count] for name, count in self._widths.items()}
        for row in report.layers:
            layers[row.name] = [min(widths[1:]) for widths in row.widths]
        self._widths = {name: pair[1] for name, pair in layers.items()}
        record: Reconfiguration = {
            "epoch": epoch,
            "seconds": round(time.perf_counter() - started, 3),
            "channels": [before["channels"], after["channels"]],
            "params": [before["params"], after["params"]],
            "inference_flops": [before["inference_flops"], after["inference_flops"]],
            "layers": layers,
        }
        self.reconfigurations.append(record)
        print_msg("\n" + describe(record))

    def _refresh(self) -> ChannelMap:
        channel_map = trace(self.model)
        self._channels = int(channel_map.prunable.sum())
        self._inference_flops = cost.inference_flops(self.model)
        self._training_flops = cost.training_flops(self.model)
        return channel_map

    def _figures(self) -> dict[str, int]:
        return {
            "channels": self._channels,
            "params": self.model.count_params(),
            "inference_flops": self._inference_flops,
        }


def first_images(settings: Settings) -> np.ndarray:
    """Training images, as many as the flags say, always the same ones.

    They come from a data set of their own: where the one that is trained with stands depends on
    whether the run was stopped.

    Args:
        settings: the flags of `ptkeras.train`.
    """
    from ptkeras import data

    dataset = data.load(
        settings.dataset,
        batch_size=min(settings.fisher_images, 256),
        data_dir=settings.data_dir,
        seed=settings.seed,
    )
    found: list[np.ndarray] = []
    for images, _ in dataset.train:
        found.append(images.numpy())
        if sum(map(len, found)) >= settings.fisher_images:
            break
    return np.concatenate(found)[: settings.fisher_images]


def describe(record: Reconfiguration) -> str:
    """One line about a pruning, a value of `EigenDamage.reconfigurations`."""
    params, flops = record["params"], record["inference_flops"]
    return (
        f"EigenDamage, epoch {record['epoch']}: "
        f"inference MFLOPs {flops[0] / 1e6:.2f} → {flops[1] / 1e6:.2f}, "
        f"parameters {params[0]:,} → {params[1]:,} ({record['seconds']:.1f} s)"
    )
