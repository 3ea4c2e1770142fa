"""How large a network's channels are, as a training goes on."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from ptkeras.channels import ChannelMap, trace
from ptkeras.importance import Measure, channel_magnitudes
from ptkeras.runs.run_folder import RunFolder
from ptkeras.runs.schema import Moment, Norms

# Powers of ten, ten classes to each: thresholds and magnitudes lie decades apart.
LOWEST, HIGHEST, PER_DECADE = -12, 4, 10


class ChannelNorms(keras.callbacks.Callback):
    """Writes `norms.json`: the magnitudes of the channels at the start, in the middle, at the end.

    They are what a sparsity threshold is compared with (`ptkeras.importance.channel_magnitudes`),
    and a histogram of them is kept. Put it ahead of the callback that prunes: it is to see what the
    last step of an epoch has left, before channels go.

    Args:
        folder: the run folder.
        measure: how large a group of weights is, `"max"` or `"mean"`.
    """

    def __init__(self, folder: RunFolder, measure: Measure) -> None:
        super().__init__()
        self.folder = folder
        self.measure = measure
        self.moments: list[Moment] = []

    def get_state(self) -> dict[str, Any]:
        """The histograms so far, for `Survival`."""
        return {"moments": self.moments}

    def set_state(self, state: dict[str, Any]) -> None:
        """The histograms of the epochs that are not run again."""
        self.moments = list(state["moments"])

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """The start, unless this is a training that goes on."""
        epochs = self.params["epochs"]
        self._names = {epochs: "end", -(-epochs // 2): "middle"} if epochs > 1 else {1: "end"}
        if not self.moments:
            self._add(0, "start")

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        if epoch + 1 in self._names:
            self._add(epoch + 1, self._names[epoch + 1])

    def _add(self, epoch: int, name: str) -> None:
        counts = histogram(trace(self.model), self.measure)
        self.moments.append({"name": name, "epoch": epoch, "counts": counts})
        told: Norms = {"lowest": LOWEST, "per_decade": PER_DECADE, "moments": self.moments}
        self.folder.write_json(self.folder.norms, told)


def histogram(channel_map: ChannelMap, measure: Measure) -> list[int]:
    """How many of the channels that may go have each magnitude.

    Args:
        channel_map: the channels of a model.
        measure: how large a group of weights is.

    Returns:
        Counts for magnitudes from `10**LOWEST` to `10**HIGHEST`, `PER_DECADE` to a power of ten.
        What is smaller, zero too, is in the first, and what is larger in the last.
    """
    sizes = channel_magnitudes(channel_map, measure)[channel_map.prunable]
    classes = (HIGHEST - LOWEST) * PER_DECADE
    powers = np.log10(np.maximum(sizes[np.isfinite(sizes)], 10.0**LOWEST))
    places = np.clip(np.floor((powers - LOWEST) * PER_DECADE), 0, classes - 1)
    return np.bincount(places.astype(int), minlength=classes).tolist()
