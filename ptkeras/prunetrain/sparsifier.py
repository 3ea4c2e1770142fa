"""What drives channels to zero, as the callback sees it."""

from __future__ import annotations

from typing import Any, Protocol

import keras
import numpy as np

from ptkeras.channels import ChannelMap
from ptkeras.prunetrain.epochs import Epochs
from ptkeras.prunetrain.steps import OptimizerStep
from ptkeras.surgery.variables import Gate


class Sparsifier(Protocol):
    """Drives channels of a model to zero while it trains, and says which have arrived.

    There are two: the paper's group lasso with a threshold, and a budget.

    Attributes:
        arguments: the arguments of PruneTrain that it reads, by name.
        scores: a number per channel: of channels that were to go the highest stay, if some must.
        dead_branches: whether a layer may lose all of its channels.
    """

    arguments: dict[str, Any]
    scores: np.ndarray
    dead_branches: bool

    def get_state(self) -> dict[str, Any]:
        """Returns what has to survive when a training is stopped."""

    def set_state(self, state: dict[str, Any]) -> None:
        """Takes back what `get_state` returned."""

    def forget(self) -> None:
        """Starts again, for another model."""

    def free(self, channel_map: ChannelMap) -> np.ndarray:
        """Returns the channels of a model as it is now that can be brought to zero."""

    def begin(self, channel_map: ChannelMap, trainer: keras.Model) -> None:
        """Gets ready for a training."""

    def plan(self, epochs: Epochs) -> None:
        """Learns how long the training is."""

    def attach(self, channel_map: ChannelMap, trainer: keras.Model) -> None:
        """Acts on the channels that the model in `fit` has now."""

    def bind(self, channel_map: ChannelMap, optimizer: Any) -> None:
        """Acts on the channels that a model in a loop of the user's own has now."""

    def detach(self, model: keras.Model, trainer: keras.Model) -> None:
        """Acts no longer."""

    def watched(self, model: keras.Model) -> list[keras.Variable]:
        """Returns the variables that it acts on."""

    def step_type(self) -> type[OptimizerStep]:
        """Returns the kind of step by which it does so in `fit`."""

    def removes_after(self, epochs: Epochs) -> bool:
        """Returns whether channels may be removed after the epoch just trained."""

    def keep(self, channel_map: ChannelMap) -> np.ndarray:
        """Returns the channels that have not arrived at zero, a bool per channel."""

    def gates(self, channel_map: ChannelMap, keep: np.ndarray) -> dict[int, Gate]:
        """Returns the selections of single layers, see `shortcut_gates`."""

    def after_epoch(self, channel_map: ChannelMap, epochs: Epochs) -> str | None:
        """Decides what to do next, and returns a line about it, or None."""

    def figures(self, channel_map: ChannelMap) -> dict[str, float]:
        """Returns what the logs get of it."""

    def nothing_removed(self, channel_map: ChannelMap) -> str:
        """Returns why nothing has been removed, as the end of a sentence."""

    def outcome(self, channel_map: ChannelMap, has_removed: bool) -> str | None:
        """Returns a sentence about the end of a training that did not do what was wanted."""
