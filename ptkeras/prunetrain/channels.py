"""What PruneTrain does to a model: which channels it removes, and the record of it."""

from __future__ import annotations

import time
import warnings
from typing import Any

import keras
import numpy as np

from ptkeras import cost, multi_worker
from ptkeras.channels import trace
from ptkeras.cost.prediction import has_open_sizes
from ptkeras.importance import kernel_slices
from ptkeras.keras_compat.messages import print_msg
from ptkeras.prunetrain.batching import BatchAdjustment
from ptkeras.prunetrain.budget import BudgetSparsifier
from ptkeras.prunetrain.epochs import Epochs
from ptkeras.prunetrain.group_lasso import LassoSparsifier
from ptkeras.prunetrain.records import NetworkSize, Reconfiguration, changes, describe, gain
from ptkeras.surgery.constants import DeadEndError
from ptkeras.surgery.generations import Generations
from ptkeras.surgery.reconfigure import remove
from ptkeras.surgery.variables import check_resizable

# Below this share of inference FLOPs a reconfiguration does not earn the retrace that it costs: it
# is put off to the next interval, except at the end of the training, where nothing follows.
LEAST_GAIN = 0.01


class ChannelPruning:
    """What `PruneTrain` does to a model, without a training.

    Args:
        sparsifier: what drives channels to zero.
        batch_size: see `PruneTrain`.
        verbose: likewise.
    """

    def __init__(
        self, sparsifier: LassoSparsifier | BudgetSparsifier, batch_size: Any, verbose: int
    ) -> None:
        super().__init__()
        self._sparsifier = sparsifier
        self.verbose = verbose
        self.reconfigurations: list[Reconfiguration] = []
        self.training_flops = 0
        self._epochs = Epochs(1 if self._lasso is None else self._lasso.interval)
        self._epoch_examples = 0
        self._served: keras.Model | None = None  # the model that was pruned last
        self._is_in_fit = False  # whether Keras calls the hooks
        self._input_shape: Any = None
        self._inference_flops: int | None = None
        self._vain: np.ndarray | None = None  # a keep mask that came to nothing
        self._adjustment = None if batch_size is None else BatchAdjustment(batch_size)

    @property
    def _lasso(self) -> LassoSparsifier | None:
        """The sparsifier, if it is the paper's."""
        return self._sparsifier if isinstance(self._sparsifier, LassoSparsifier) else None

    @property
    def strength(self) -> float | None:
        """λ of the group lasso; None before it is set, and for a target."""
        return None if self._lasso is None else self._lasso.strength

    @strength.setter
    def strength(self, value: float | None) -> None:
        if self._lasso is None:
            raise ValueError(
                "PruneTrain has no strength, λ, for a target, which says how much goes: "
                "PruneTrain(strength=…) is the paper's group lasso."
            )
        self._lasso.strength = value

    @property
    def batch_scale(self) -> float:
        """Batch size over the first one."""
        return 1.0 if self._adjustment is None else self._adjustment.scale

    def _take(self, model: keras.Model, trainer: keras.Model, optimizer: Any) -> None:
        """Gets a model ready to be pruned.

        Args:
            model: the model that is pruned.
            trainer: the model that is trained: the same one, or one that holds it.
            optimizer: the Keras optimizer of the training, or None.
        """
        check_resizable(model)
        self._pruned, self._trainer = model, trainer
        self._sparsifier.detach(model, trainer)  # what a fit that was interrupted has left
        self._refresh()
        if not self.reconfigurations:  # all that may go may be gone by now
            self._check_free()
        self._sparsifier.begin(self._map, trainer)
        self._generations = Generations(model)
        self._act()
        if self._adjustment is not None:
            self._adjustment.begin(model, optimizer)

    def _forget_other_model(self, pruned: keras.Model) -> None:
        """Starts again if the callback served another model before."""
        if self._served not in (None, pruned):
            self._sparsifier.forget()
            self.training_flops, self.reconfigurations = 0, []
            self._epochs = self._epochs.renewed()
            if self._adjustment is not None:
                self._adjustment.memory = None
        self._served = pruned

    def _check_free(self) -> None:
        """Says on which channels the lasso acts, where that is not on all."""
        name = self._pruned.name
        rows = kernel_slices(self._map)
        if not self._map.prunable.any() or not rows:
            raise ValueError(
                f"'{name}' has no channels that PruneTrain could remove: a channel needs a "
                "convolution or dense layer that makes it and one that reads it."
            )
        layers = {row.layer.name: row.variable.trainable for row in rows}
        fixed = ", ".join(layer for layer, trains in layers.items() if not trains)
        if not any(row.variable.trainable and self._free[row.channels].any() for row in rows):
            raise ValueError(
                f"'{name}' has no channels that PruneTrain could bring to zero: all that could be "
                f"removed have weights in kernels that do not train ({fixed}). Set trainable=True "
                "on these layers, or train without PruneTrain."
            )
        free, prunable = int((self._free & self._map.prunable).sum()), self._map.prunable.sum()
        if free < prunable:
            why = "cannot be brought to zero without a change of the outputs"
            if fixed:
                why = f"have weights in kernels that do not train ({fixed})"
            warnings.warn(
                f"PruneTrain acts on {free} of the {prunable} channels of '{name}': the others "
                f"{why}, and are kept.",
                stacklevel=2,
            )

    def reconfigure(self, epoch: int, always: bool = True) -> bool:
        """Removes the channels that have reached zero.

        Args:
            epoch: the number of epochs trained, for the record.
            always: whether to do so if little would be gained.

        Returns:
            Whether the model has changed.
        """
        started = time.perf_counter()
        keep = self._sparsifier.keep(self._map)
        gates = self._sparsifier.gates(self._map, keep)
        multi_worker.check_decision(self._trainer, epoch, keep, gates)
        nothing = not gates and (
            keep.all() or (self._vain is not None and np.array_equal(keep, self._vain))
        )
        if nothing:
            self._epochs.reconfigured = epoch
            why = self._sparsifier.nothing_removed(self._map)
            self._say(f"PruneTrain, epoch {epoch}: nothing removed: {why}.")
            return False
        put_off = None if always else self._put_off(keep, gates)
        if put_off is not None:
            self._sparsifier.postpone()
            self._say(f"PruneTrain, epoch {epoch}: nothing removed: {put_off}")
            return False
        self._epochs.reconfigured = epoch
        before, requested = self._summary(), keep.copy()
        with self._sparsifier.paused():
            if not self._remove(keep, gates):
                self._vain = requested
                return False
        self._sparsifier.removed()
        self._refresh()
        self._act()
        self._record(epoch, before, time.perf_counter() - started)
        if self._adjustment is not None:
            self._adjustment.adjust(self._pruned, self._epoch_examples)
        return True

    def _put_off(self, keep: np.ndarray, gates: dict) -> str | None:
        """Returns why channels at zero are removed later, as the end of a sentence."""
        if (share := gain(self._map, keep, gates)) >= LEAST_GAIN:
            return None
        return (
            f"the channels at zero are {share:.2%} of the FLOPs, and are left for later until they "
            f"are {LEAST_GAIN:.0%}."
        )

    def _end_epoch(self, always: bool) -> bool:
        """Removes and chooses channels after an epoch that was counted.

        Args:
            always: whether to remove channels if little would be gained.

        Returns:
            Whether the model has changed.
        """
        self._sparsifier.count_epoch(is_loop=not self._is_in_fit)
        changed, scale = False, self.batch_scale
        if self._sparsifier.removes_after(self._epochs):
            changed = self.reconfigure(self._epochs.trained, always=always)
        pace = scale / self.batch_scale
        self._say(self._sparsifier.after_epoch(self._map, self._epochs, pace))
        return changed

    def _say(self, line: str | None) -> None:
        if line is not None and self.verbose and multi_worker.is_chief(self._trainer):
            print_msg("\n" + line)

    def _remove(self, keep: np.ndarray, gates: dict) -> bool:
        """Reconfigures; where a tensor may not lose all of its channels, its best one stays.

        Returns:
            Whether there was something to remove.
        """
        while not keep.all() or gates:
            try:
                with self._generations.shrinking() as changes:
                    remove(self._map, keep, gates, changes)
                return True
            except DeadEndError as error:
                channels = self._map.tensors[id(error.tensor)]
                channels = channels[channels >= 0]
                keep[channels[np.argmax(self._sparsifier.scores[channels])]] = True
                keep = self._sparsifier.round_up(self._map, keep, dead_ok=True)
        return False

    def _refresh(self) -> None:
        """Reads the model as it is now."""
        self._map = trace(self._pruned, input_shape=self._input_shape)
        self._inference_flops = None
        self._training_flops = 0
        if self._input_shape is not None or not has_open_sizes(self._pruned):
            self._count_flops()
        self._free = self._sparsifier.free(self._map)
        self._vain = None

    def _count_flops(self) -> int:
        shape = self._input_shape
        self._inference_flops = flops = cost.inference_flops(self._pruned, shape)
        self._training_flops = cost.training_flops(self._pruned, shape)
        return flops

    def _act(self) -> None:
        """Drives to zero the channels that the model has now."""
        raise NotImplementedError

    def _count(self, examples: int) -> None:
        """Counts an epoch's examples."""
        self._epoch_examples = examples
        self.training_flops += examples * self._training_flops

    def _figures(self) -> dict[str, float]:
        return self._sparsifier.figures(self._map) | {
            "channels": int((self._map.prunable & self._free).sum()),
            "params": self._pruned.count_params(),
            "inference_flops": self._inference_flops,
            "training_flops": self.training_flops,
        }

    def _summary(self) -> NetworkSize:
        flops = self._inference_flops
        return {
            "channels": int((self._map.prunable & self._free).sum()),
            "params": self._pruned.count_params(),
            "inference_flops": self._count_flops() if flops is None else flops,
            "layers": {path: len(channels) for path, channels in self._map.produced().items()},
        }

    def _record(self, epoch: int, before: NetworkSize, seconds: float) -> None:
        record = changes(epoch, before, self._summary(), seconds)
        self.reconfigurations.append(record)
        self._say(describe(record))
