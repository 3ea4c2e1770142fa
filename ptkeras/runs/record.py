"""What a run folder is filled with while the network trains."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from typing import Any, Protocol

import keras
import numpy as np

from ptkeras import cost
from ptkeras.channels import trace
from ptkeras.prunetrain import Reconfiguration
from ptkeras.runs.run_folder import RunFolder
from ptkeras.runs.schema import Architecture, Network


class Reconfiguring(Protocol):
    """A callback that reconfigures the network, as `ptkeras.PruneTrain` does.

    Attributes:
        reconfigurations: the record of each reconfiguration.
    """

    reconfigurations: list[Reconfiguration]


class Record(keras.callbacks.Callback):
    """Writes `history.csv`, `architecture.json` and a checkpoint at each interval.

    Put it behind the callbacks that add to the logs.

    Args:
        folder: the run folder.
        initial: what `architecture` said of the network before it was pruned.
        interval: the number of epochs between two checkpoints.
        batch_size: the batch size, a variable that may grow.
        pruning: a callback that reconfigures the network, or None.
        columns: figures of the logs that `history.csv` has beside those of every run.

    Attributes:
        rows: a dict an epoch, by `run_folder.COLUMNS`.
    """

    def __init__(
        self,
        folder: RunFolder,
        initial: Network,
        interval: int,
        batch_size: Any,
        pruning: Reconfiguring | None = None,
        columns: Sequence[str] = (),
    ) -> None:
        super().__init__()
        self.folder = folder
        self.initial = initial
        self.interval = interval
        self.batch_size = batch_size
        self.pruning = pruning
        self.columns = columns
        self.rows: list[dict[str, Any]] = []
        self._running = False
        self._spent = 0.0  # seconds on the epoch at hand, before the run was stopped in it

    def get_state(self) -> dict[str, Any]:
        """The rows so far, for `Survival`."""
        spent = self._spent + time.perf_counter() - self._started if self._running else 0.0
        return {"rows": self.rows, "spent": spent}

    def set_state(self, state: dict[str, Any]) -> None:
        """The rows of the epochs that are not run again."""
        self.rows = list(state["rows"])
        self._spent = state["spent"]

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Writes down the first architecture."""
        self._write()

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self._started, self._running = time.perf_counter(), True
        self._size = int(self.batch_size)
        self._gradient_bytes = gradient_bytes(self.model)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Adds a row, and writes everything anew."""
        seconds = round(self._spent + time.perf_counter() - self._started, 3)
        self._running, self._spent = False, 0.0
        figures = {name: _plain(value) for name, value in (logs or {}).items()}
        own = {"epoch": epoch + 1, "batch_size": self._size, "seconds": seconds}
        own["gradient_bytes"] = self._gradient_bytes
        self.rows.append(figures | own)
        self._write()
        if (epoch + 1) % self.interval == 0:
            self.folder.save_model(self.model, self.folder.checkpoint(epoch + 1))

    def finish(self, final: Network) -> None:
        """Writes down the last architecture beside the first.

        Args:
            final: what `architecture` says of the trained network.
        """
        self._write(final)

    def _write(self, final: Network | None = None) -> None:
        self.folder.write_history(self.rows, self.columns)
        changes = [] if self.pruning is None else self.pruning.reconfigurations
        told: Architecture = {"initial": self.initial, "reconfigurations": changes}
        if final is not None:
            told["final"] = final
        self.folder.write_json(self.folder.architecture, told)


def architecture(model: keras.Model, batch_size: int) -> Network:
    """What a network costs, and the channels and multiply-accumulates of each of its layers.

    Args:
        model: a built network.
        batch_size: examples in a training step, for its memory.
    """
    channel_map = trace(model)
    costs = cost.summarise(model, batch_size)
    macs: Counter[str] = Counter()
    for layer in cost.layer_costs(model):
        macs[layer.name] += layer.macs
    return {
        "channels": int(channel_map.prunable.sum()),
        "params": costs.params,
        "inference_flops": costs.inference_flops,
        "training_flops": costs.training_flops,
        "training_memory": costs.training_memory,
        "gradient_bytes": gradient_bytes(model),
        "layers": {name: len(channels) for name, channels in channel_map.produced().items()},
        "macs": {name: count for name, count in macs.items() if count},
    }


def gradient_bytes(model: keras.Model) -> int:
    """Bytes of the gradient that devices exchange in a step.

    That is what each of two devices sends in a ring all-reduce, and each of n devices
    2 · (n - 1) / n times as much: see `ptkeras.cost.gradient_bytes`.
    """
    return cost.gradient_bytes(model, workers=2)


def gradient_traffic(rows: list[dict[str, Any]], examples: int) -> int:
    """Bytes of gradient that devices exchange over the epochs of a run.

    Args:
        rows: the record's, one for each epoch.
        examples: the number of examples in an epoch.
    """
    return sum(row["gradient_bytes"] * -(-examples // row["batch_size"]) for row in rows)


def _plain(value: Any) -> int | float:
    # Keras's figures are float32, and shortest as such: 0.1 and not 0.10000000149.
    return value if isinstance(value, int) else float(str(np.float32(value)))
