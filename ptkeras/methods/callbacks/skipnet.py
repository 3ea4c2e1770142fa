"""What SkipNet trains with: gates that learn by the loss, and then by reinforcement too."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from ptkeras import export, skipnet
from ptkeras.export import ExportError
from ptkeras.keras_compat.messages import print_msg
from ptkeras.methods.callbacks.accounts import Accounts
from ptkeras.skipnet.routing import Watch

if TYPE_CHECKING:
    from ptkeras.data import Dataset
    from ptkeras.utils.flagging import Settings

# How many test images latency is measured on, in onnxruntime and in Keras, which takes longer.
TIMED_IMAGES = 200
KERAS_IMAGES = 20


class Gates(Accounts):
    """Has the gates of a `SkipNet` learn as the epoch says, and tells what they decide.

    Args:
        settings: the flags of `ptkeras.train`.
        dataset: what is trained with.
    """

    def __init__(self, settings: Settings, dataset: Dataset) -> None:
        super().__init__(dataset.num_train)
        self.settings = settings
        self.dataset = dataset
        self._stage: str | None = None
        self._watch: Watch | None = None

    def stage(self, epoch: int) -> str:
        """What an epoch, counted from 0, belongs to: "pretraining" or "reinforcement"."""
        return "pretraining" if epoch < self.settings.epochs else "reinforcement"

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Counts, and begins anew: the network may come from a checkpoint."""
        super().on_train_begin(logs)
        self._stage = self._watch = None

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Has the gates learn as the stage says."""
        stage = self.stage(epoch)
        if stage != self._stage:
            self.enter(stage)
            self._stage = stage
            self._watch = None  # what it has compiled decides as the gates did before
        if stage == "reinforcement":
            self.model.optimizer.learning_rate = self.settings.rl_learning_rate

    def enter(self, stage: str) -> None:
        """Begins a stage, or takes it up again."""
        network, settings = self.model, self.settings
        if stage == "pretraining":
            network.pretrain(settings.gates)
        else:
            network.reinforce(settings.alpha, settings.gamma, settings.rl_weight)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Adds to the logs, the share of branches that the test images take among it."""
        super().on_epoch_end(epoch, logs)
        if logs is not None:
            logs["blocks_run"] = self.watch().measure(self.dataset.test).blocks_run

    def watch(self) -> Watch:
        """What tells the decisions of the network as it is."""
        if self._watch is None or self._watch.output is not self.model.outputs[0]:
            self._watch = Watch(self.model)
        return self._watch

    def finish(self, model: skipnet.SkipNet) -> keras.Model:
        """The network of a run: in plain Keras, and without gates that are always alike.

        Args:
            model: the network as it was trained.
        """
        self._routing = Watch(model).measure(self.dataset.test)
        # The images as an epoch has them, whichever epoch the run went on from.
        self.dataset.epoch.assign(0)
        self.dataset.first_step.assign(0)
        settled = skipnet.settle(model, self.dataset.train)
        self._settled = skipnet.measure(settled, self.dataset.test)
        if self._settled.blocks:
            settled = skipnet.plain(settled)
        settled.compile(
            "sgd",
            loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            metrics=["accuracy"],
        )
        settled.optimizer.build(settled.trainable_variables)  # or loading warns that it was not
        self._times = self.times(skipnet.remove_gates(model), settled)
        return settled

    def times(self, dense: keras.Model, settled: keras.Model) -> dict[str, list[float]]:
        """The milliseconds of a test image with all branches, and with those that it takes.

        Args:
            dense: the network without gates.
            settled: the network of the run.
        """
        images = np.concatenate([x for x, _ in self.dataset.test.as_numpy_iterator()])
        fast = skipnet.skipping(settled) if self._settled.blocks else settled
        found = {"keras": skipnet.keras_latency([dense, fast], images[:KERAS_IMAGES])}
        if importlib.util.find_spec("onnxruntime") is not None:
            pair = [dense, settled]
            try:
                found["onnxruntime"] = export.onnx_latency(pair, images[:TIMED_IMAGES])
            except ExportError as error:  # the run is worth more than this figure
                print_msg(f"No milliseconds in onnxruntime: {error}")
        return {
            f"milliseconds_{name}": [round(each, 4) for each in pair]
            for name, pair in found.items()
        }

    def result(self) -> dict[str, Any]:
        """What the gates decide for the test images.

        The inference FLOPs of an image are a mean: those of what it takes, and of the gates that
        are left. Milliseconds are those of one image at a time, on one thread in onnxruntime, where
        that is installed.
        """
        routing, settled = self._routing, self._settled
        names = self.dataset.labels
        return {
            "blocks_run": routing.blocks_run,
            "blocks_run_by_block": dict(
                zip(routing.blocks, routing.by_block.tolist(), strict=True)
            ),
            "images_by_blocks_run": routing.images_by_blocks,
            "blocks_run_by_class": {names[n]: share for n, share in routing.by_class.items()},
            "gates": [len(routing.blocks), len(settled.blocks)],
            "flops_quartiles": settled.quantiles(),
            "mean_inference_flops": round(float(settled.flops.mean())),
        } | self._times
