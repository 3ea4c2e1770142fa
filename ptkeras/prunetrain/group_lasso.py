"""PruneTrain as the paper has it: a group lasso whose strength a ratio sets, and a threshold."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Sequence
from typing import Any, Literal

import keras
import numpy as np

from ptkeras.channels import ChannelMap
from ptkeras.importance import channel_magnitudes, round_up
from ptkeras.prunetrain import lasso
from ptkeras.prunetrain.epochs import Epochs, check_interval
from ptkeras.prunetrain.gating import shortcut_gates
from ptkeras.prunetrain.multiples import check_multiple, find_multiple
from ptkeras.regularizers import GroupLasso
from ptkeras.surgery.reconfigure import scope_of
from ptkeras.surgery.variables import Gate
from ptkeras.utils.arguments import check_count, check_number


class LassoSparsifier:
    """Draws all channels to zero by a group lasso; those under a threshold have arrived.

    See `PruneTrain` for the arguments.

    Attributes:
        strength: λ, or None before it is set.
        is_measured: whether λ was set from a loss, and not by the user.
    """

    step_type = lasso.LassoStep

    def __init__(
        self,
        ratio: float = 0.2,
        threshold: float = 1e-4,
        measure: Literal["max", "mean"] = "max",
        channel_gating: bool = False,
        remove_dead_branches: bool = True,
        min_channels: int = 1,
        channel_multiple: int | Literal["auto"] = 1,
        interval: int | Literal["auto"] = 10,
        strength: float | None = None,
    ) -> None:
        check_number("ratio of PruneTrain", ratio, lambda x: 0 < x < 1, "over 0 and under 1")
        check_number("threshold of PruneTrain", threshold, lambda x: x > 0, "over 0 and finite")
        if measure not in ("max", "mean"):
            raise ValueError(
                f'The measure of PruneTrain must be "max" or "mean"; received {measure!r}.'
            )
        if strength is not None:
            check_number("strength of PruneTrain", strength, lambda x: x >= 0, "0 or more")
        self.ratio = float(ratio)  # JSON holds no numbers of NumPy
        self.threshold = float(threshold)
        self.measure: Literal["max", "mean"] = measure
        self.interval = check_interval(interval)
        self.channel_gating = channel_gating
        self.dead_branches = remove_dead_branches
        self.min_channels = check_count("min_channels of PruneTrain", min_channels)
        self.channel_multiple = check_multiple(channel_multiple)
        self.arguments = {
            "ratio": self.ratio,
            "threshold": self.threshold,
            "measure": measure,
            "channel_gating": channel_gating,
            "remove_dead_branches": remove_dead_branches,
            "min_channels": self.min_channels,
            "channel_multiple": self.channel_multiple,
            "interval": self.interval,
        }
        self.strength = None if strength is None else float(strength)
        self.is_measured = False
        self.scores = np.zeros(0)
        self.groups: dict[int, dict[int, np.ndarray]] = {}
        self._variable: Any = None  # of λ
        self._multiple = 1  # of the numbers of channels
        self._base_loss = 0.0  # what the user's own regularizers add
        self._probe: lasso.Probe | None = None

    @property
    def is_auto(self) -> bool:
        """Whether channels are removed when that saves time, rather than at each interval."""
        return self.interval == "auto"

    is_holding = False

    def get_state(self) -> dict[str, Any]:
        """Returns what has to survive when a training is stopped."""
        return {"strength": self.strength, "is_measured": self.is_measured}

    def set_state(self, state: dict[str, Any]) -> None:
        """Takes back what `get_state` returned."""
        self.strength, self.is_measured = state["strength"], state["is_measured"]
        if self.strength is not None and self._variable is not None:
            self._variable.assign(self.strength)

    def forget(self) -> None:
        """Starts again, for another model."""
        if self.is_measured:
            self.strength = None
        self.is_measured = False

    def free(self, channel_map: ChannelMap) -> np.ndarray:
        """Returns the channels that have no weights in kernels that do not train."""
        self._free = ~channel_map.frozen
        self._free &= ~lasso.held_channels(channel_map, self.threshold, self.measure)
        return self._free

    def begin(self, channel_map: ChannelMap, trainer: keras.Model) -> None:
        """Makes the variable of λ."""
        self._base_loss = _regularization(trainer)
        self._multiple = find_multiple(self.channel_multiple, trainer)
        with scope_of(trainer):
            self._variable = keras.Variable(self.strength or 0.0, trainable=False, name="lasso")

    def plan(self, epochs: Epochs) -> None:
        """Has nothing to plan: the interval counts."""

    def attach(self, channel_map: ChannelMap, trainer: keras.Model) -> None:
        """Puts the lasso on the kernels."""
        self._probe = lasso.Probe() if self.strength is None and self._base_loss else None
        lasso.attach(channel_map, self._variable, self._free, trainer, self._probe)

    def bind(self, channel_map: ChannelMap, optimizer: Any) -> None:
        """Notes the groups, of which `penalty` is."""
        self.groups = lasso.groups_of(channel_map, self._free)

    def detach(self, model: keras.Model, trainer: keras.Model) -> None:
        """Takes the lasso off."""
        lasso.detach(model)

    def watched(self, model: keras.Model) -> list[keras.Variable]:
        """Returns the kernels that have a lasso."""
        return lasso.kernels_of(model)

    def set_strength(self, channel_map: ChannelMap, loss: float, what: str) -> None:
        """Sets λ from the lasso penalty ratio.

        Args:
            channel_map: the channels of the initial model.
            loss: its loss on the first batch, without regularization.
            what: where the loss is from, as the start of a sentence.

        Raises:
            ValueError: If the loss is not positive and finite.
        """
        if not 0 < loss < math.inf:
            raise ValueError(
                f"{what}: the lasso penalty ratio needs a positive, finite loss to be a share of. "
                "Check the data; for a loss that may be negative set PruneTrain(strength=…), λ, "
                "yourself."
            )
        norms = lasso.group_norms(channel_map, self._free)
        self.strength = lasso.strength_for(self.ratio, loss, norms)
        self._variable.assign(self.strength)
        self.is_measured = True

    def set_strength_from_logs(
        self, channel_map: ChannelMap, logs: dict[str, Any], monitor: str
    ) -> float:
        """Sets λ from the logs of the first batch, and returns the loss that it is a share of.

        Raises:
            ValueError: If the loss is not there, or is not positive and finite.
        """
        if monitor not in logs:
            names = ", ".join(logs) or "none"
            raise ValueError(
                f"The logs of the first batch have no '{monitor}', which the lasso penalty ratio "
                f"is a share of, but: {names}. Name one as PruneTrain(monitor=…), or set "
                "PruneTrain(strength=…), λ, yourself."
            )
        # A train_step that leaves out self.losses has no regularization in its loss.
        base = self._base_loss if self._probe is not None and self._probe.is_in_loss else 0.0
        loss = float(logs[monitor])
        what = f"The loss of the first batch is {loss}, of which {base:g} is regularization"
        self.set_strength(channel_map, loss - base, what)
        return loss - base

    def penalty(self, variables: Sequence[keras.Variable], values: Sequence[Any]) -> Any:
        """Returns λ·GL of some values of variables, a scalar that can be differentiated."""
        strength = self._variable
        if keras.config.backend() == "jax":
            strength = self.strength or 0.0  # a compiled step holds the number
        total = 0.0
        for variable, value in zip(variables, values, strict=True):
            groups = self.groups.get(id(variable))
            if groups is not None:
                total = total + GroupLasso(strength, groups)(value)
        return total

    def count_epoch(self, is_loop: bool = False) -> None:
        """Has nothing to count."""

    def removes_after(self, epochs: Epochs) -> bool:
        """Returns whether the interval is over, or the training."""
        return epochs.is_due

    def keep(self, channel_map: ChannelMap) -> np.ndarray:
        """Returns the channels that are over the threshold, and those that a layer needs."""
        self.scores = channel_magnitudes(channel_map, self.measure)
        # Written so that what has become NaN counts as large: a broken network is not pruned.
        keep = channel_map.frozen | ~(self.scores < self.threshold)
        return self.round_up(channel_map, keep, dead_ok=self.dead_branches)

    def gates(self, channel_map: ChannelMap, keep: np.ndarray) -> dict[int, Gate]:
        """Returns the selections of channel gating, if that is asked for."""
        if not self.channel_gating:
            return {}
        return shortcut_gates(channel_map, keep, self.threshold, self.measure)

    def round_up(self, channel_map: ChannelMap, keep: np.ndarray, dead_ok: bool) -> np.ndarray:
        """Returns a keep mask under which every layer has a number of channels that suits."""
        return round_up(
            channel_map,
            keep,
            self.scores,
            least=self.min_channels,
            multiple=self._multiple,
            dead_ok=dead_ok,
        )

    def paused(self) -> contextlib.nullcontext[None]:
        """Returns a context in which the model may be changed; nothing stands in the way."""
        return contextlib.nullcontext()

    def removed(self) -> None:
        """Has nothing to do: the lasso acts on."""

    def postpone(self) -> None:
        """Has nothing to do: the lasso holds channels where they are."""

    def after_epoch(self, channel_map: ChannelMap, epochs: Epochs, pace: float = 1.0) -> str | None:
        """Decides nothing."""
        return None

    def figures(self, channel_map: ChannelMap) -> dict[str, float]:
        """Returns λ·GL."""
        norms = lasso.group_norms(channel_map, self._free)
        return {"lasso": (self.strength or 0.0) * norms}

    def nothing_removed(self, channel_map: ChannelMap) -> str:
        """Returns why nothing has been removed, as the end of a sentence."""
        magnitudes = channel_magnitudes(channel_map, self.measure)
        smallest = magnitudes[self._free & channel_map.prunable].min(initial=np.inf)
        return f"the smallest channel is at {smallest:.2g}, the threshold is {self.threshold:.2g}"

    def outcome(self, channel_map: ChannelMap, epochs: Epochs, has_removed: bool) -> str | None:
        """Returns a sentence about the end of a training that has removed nothing."""
        if has_removed or epochs.is_piece:
            return None
        return (
            f"PruneTrain has removed nothing: {self.nothing_removed(channel_map)}. Train for more "
            f"steps, raise the ratio ({self.ratio}) or the threshold, or take "
            "PruneTrain(target=0.5), which needs neither."
        )


def _regularization(model: keras.Model) -> float:
    """Returns what the regularization of weights that a user chose adds to the loss.

    The losses of a model also have what depends on data, of whatever the model was called on last.
    """
    penalties = [v.regularizer(v) for v in model.trainable_variables if v.regularizer is not None]
    return float(sum(float(keras.ops.convert_to_numpy(penalty)) for penalty in penalties))
