"""What PruneTrain does to a model: which channels it removes, and the record of it."""

from __future__ import annotations

import time
import warnings
from typing import Any, Literal

import keras
import numpy as np

from ptkeras import cost, multi_worker
from ptkeras.channels import trace
from ptkeras.cost.prediction import has_open_sizes
from ptkeras.importance import channel_magnitudes, kernel_slices, round_up
from ptkeras.keras_compat.messages import print_msg
from ptkeras.prunetrain import lasso
from ptkeras.prunetrain.batching import BatchAdjustment
from ptkeras.prunetrain.epochs import Epochs
from ptkeras.prunetrain.gating import shortcut_gates
from ptkeras.prunetrain.records import NetworkSize, Reconfiguration, changes, describe, gain
from ptkeras.surgery.constants import DeadEndError
from ptkeras.surgery.generations import Generations
from ptkeras.surgery.reconfigure import remove, scope_of
from ptkeras.surgery.variables import check_resizable
from ptkeras.utils.arguments import check_count, check_number

# Below this share of inference FLOPs a reconfiguration does not earn the retrace that it costs: it
# is put off to the next interval, except at the end of the training, where nothing follows.
LEAST_GAIN = 0.01


class ChannelPruning:
    """The arguments of `PruneTrain`, and its reconfigurations of a model, without a training.

    See `PruneTrain` for the arguments.
    """

    def __init__(
        self,
        ratio: float,
        interval: int,
        threshold: float,
        measure: Literal["max", "mean"],
        channel_gating: bool,
        remove_dead_branches: bool,
        min_channels: int,
        channel_multiple: int,
        batch_size: Any,
        verbose: int,
    ) -> None:
        super().__init__()
        check_number("ratio of PruneTrain", ratio, lambda x: 0 < x < 1, "over 0 and under 1")
        check_number("threshold of PruneTrain", threshold, lambda x: x > 0, "over 0 and finite")
        if measure not in ("max", "mean"):
            raise ValueError(
                f'The measure of PruneTrain must be "max" or "mean"; received {measure!r}.'
            )
        self.ratio = float(ratio)  # JSON holds no numbers of NumPy
        self.interval = check_count("interval of PruneTrain", interval)
        self.threshold = float(threshold)
        self.measure = measure
        self.channel_gating = channel_gating
        self.remove_dead_branches = remove_dead_branches
        self.min_channels = check_count("min_channels of PruneTrain", min_channels)
        self.channel_multiple = check_count("channel_multiple of PruneTrain", channel_multiple)
        self.verbose = verbose
        self.strength: float | None = None
        self.reconfigurations: list[Reconfiguration] = []
        self.training_flops = 0
        self._epochs = Epochs(self.interval)
        self._epoch_examples = 0
        self._served: keras.Model | None = None  # the model that was pruned last
        self._is_measured = False  # whether λ is of that model
        self._is_in_fit = False  # whether Keras calls the hooks, and the lasso is on the model
        self._input_shape: Any = None
        self._inference_flops: int | None = None
        self._vain: np.ndarray | None = None  # a keep mask that came to nothing
        self._adjustment = None if batch_size is None else BatchAdjustment(batch_size)

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
        self._refresh()
        self._check_free()
        with scope_of(trainer):
            self._strength = keras.Variable(
                0.0 if self.strength is None else self.strength, trainable=False, name="lasso"
            )
        self._generations = Generations(model)
        self._regularize()
        if self._adjustment is not None:
            self._adjustment.begin(model, optimizer)

    def _forget_other_model(self, pruned: keras.Model) -> None:
        """Starts again if the callback served another model before."""
        if self._served not in (None, pruned):
            if self._is_measured:
                self.strength = None
            self.training_flops, self.reconfigurations = 0, []
            self._epochs = Epochs(self.interval)
            self._is_measured = False
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
            warnings.warn(
                f"PruneTrain acts on {free} of the {prunable} channels of '{name}': the others "
                f"have weights in kernels that do not train ({fixed}), and are kept.",
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
        keep = self._decide()
        gates = {}
        if self.channel_gating:
            gates = shortcut_gates(self._map, keep, self.threshold, self.measure)
        multi_worker.check_decision(self._trainer, epoch, keep, gates)
        is_vain = not gates and self._vain is not None and np.array_equal(keep, self._vain)
        little = not is_vain and gain(self._map, keep, gates) < LEAST_GAIN
        if little and not always:
            return False
        self._epochs.reconfigured = epoch
        if is_vain or (keep.all() and not gates):
            return False
        before, requested = self._summary(), keep.copy()
        if not self._remove(keep, gates):
            self._vain = requested
            return False
        self._refresh()
        self._regularize()
        self._record(epoch, before, time.perf_counter() - started)
        if self._adjustment is not None:
            self._adjustment.adjust(self._pruned, self._epoch_examples)
        return True

    def _decide(self) -> np.ndarray:
        scores = channel_magnitudes(self._map, self.measure)
        # Written so that what has become NaN counts as large: a broken network is not pruned.
        keep = self._map.frozen | ~(scores < self.threshold)
        self._scores = scores
        return self._round_up(keep, dead_ok=self.remove_dead_branches)

    def _round_up(self, keep: np.ndarray, dead_ok: bool) -> np.ndarray:
        return round_up(
            self._map,
            keep,
            self._scores,
            least=self.min_channels,
            multiple=self.channel_multiple,
            dead_ok=dead_ok,
        )

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
                keep[channels[np.argmax(self._scores[channels])]] = True
                keep = self._round_up(keep, dead_ok=True)
        return False

    def _refresh(self) -> None:
        """Reads the model as it is now."""
        self._map = trace(self._pruned, input_shape=self._input_shape)
        self._inference_flops = None
        self._training_flops = 0
        if self._input_shape is not None or not has_open_sizes(self._pruned):
            self._count_flops()
        self._free = ~self._map.frozen
        self._free &= ~lasso.held_channels(self._map, self.threshold, self.measure)
        self._vain = None

    def _count_flops(self) -> int:
        shape = self._input_shape
        self._inference_flops = flops = cost.inference_flops(self._pruned, shape)
        self._training_flops = cost.training_flops(self._pruned, shape)
        return flops

    def _regularize(self) -> None:
        """Puts the lasso on the channels that the model has now."""
        raise NotImplementedError

    def _count(self, examples: int) -> None:
        """Counts an epoch's examples."""
        self._epoch_examples = examples
        self.training_flops += examples * self._training_flops

    def _figures(self) -> dict[str, float]:
        return {
            "lasso": (self.strength or 0.0) * lasso.group_norms(self._map, self._free),
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
        if self.verbose and multi_worker.is_chief(self._trainer):
            print_msg("\n" + describe(record))
