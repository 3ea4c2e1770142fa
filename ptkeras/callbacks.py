"""PruneTrain as a Keras callback."""

from __future__ import annotations

import inspect
import math
import time
from typing import Any, Literal

import keras
import numpy as np
from keras.src.utils import io_utils

from ptkeras import cost, lasso, multi_worker
from ptkeras._arguments import check_count, check_number
from ptkeras._reconfiguration import changes, describe, gain
from ptkeras._replicas import average_statistics
from ptkeras.batching import BatchAdjustment
from ptkeras.channels import trace
from ptkeras.gating import shortcut_gates
from ptkeras.importance import channel_magnitudes, kernel_slices, round_up
from ptkeras.restore import Generations
from ptkeras.surgery import can_remove, reconfigure
from ptkeras.surgery.constants import DeadEndError
from ptkeras.surgery.reconfigure import refresh_functions, scope_of

# Below this share of inference FLOPs a reconfiguration does not earn the retrace that it costs: it
# is put off to the next interval, except at the end of the training, where nothing follows.
LEAST_GAIN = 0.01

_STATE = (
    "strength",
    "training_flops",
    "reconfigurations",
    "_trained",
    "_reconfigured",
    "_epoch_examples",
)


class PruneTrain(keras.callbacks.Callback):
    """Prunes a network while it trains from scratch (PruneTrain, Lym et al., SC'19).

    A group lasso on every input and output channel drives whole channels to zero from the first
    step. Every `interval` epochs the channels that arrived there are removed and the network is
    rebuilt smaller, with its weights, batch-norm statistics and optimiser slots; `fit` goes on with
    it, and the object that the caller holds is the pruned model.

    ```python
    model.compile(keras.optimizers.SGD(0.1, momentum=0.9), "sparse_categorical_crossentropy")
    model.fit(x, y, epochs=60, callbacks=[ptkeras.PruneTrain(ratio=0.2, interval=10)])
    ```

    The strength λ of the lasso is set once, behind the first batch (under `steps_per_execution`,
    the first execution), from the lasso penalty ratio: λ·GL / (CE + λ·GL) = ratio (equation 3),
    where CE is the loss of the initial network on that batch, the regularisation of its weights
    left out, and GL the group lasso of the initial network with strength 1. A channel goes when
    every group of it, in all kernels that make or read it, is under the threshold (channel union).

    The logs of each epoch get `lasso` (λ·GL), `channels` (those that may still go), `params`,
    `inference_flops` (of one forward pass of one example) and `training_flops` (of the whole
    training so far): put it first in the list of callbacks, so that the others see them. They are
    those of the network that the epoch trained; what its end removed shows in the next.

    Layers and nested models are new objects after a reconfiguration: ask `model.get_layer(name)`
    for them. A `fit` that an exception ends leaves the lasso on the model;
    `ptkeras.lasso.detach(model)` takes it off.

    Args:
        ratio: the lasso penalty ratio, over 0 and under 1. The paper uses 0.2 to 0.3.
        interval: the reconfiguration interval, in epochs. The last epoch ends with a
            reconfiguration too.
        threshold: the sparsity threshold that a group has to be under, over 0.
        measure: how large a group is: `"max"`, its largest absolute weight, as the authors have
            it, or `"mean"` of its absolute weights.
        channel_gating: whether layers at a shortcut keep only the channels that they use
            themselves, by selection before and behind them, rather than all that the shortcut has
            (section 4.2).
        remove_dead_branches: whether a residual branch all of whose channels in some layer have
            gone leaves the network. What its last batch norm made of nothing stays, as a constant.
        min_channels: the least number of channels a layer keeps.
        channel_multiple: what the number of a layer's channels stays a multiple of; 8 suits tensor
            cores.
        batch_size: dynamic mini-batch adjustment (section 4.3): a variable that the input pipeline
            reads at the start of each epoch (anything with `assign` that `int` reads). As the
            memory of a step shrinks, the batch grows to fill the memory of the first step, and the
            learning rate with it. A `LearningRateScheduler` that returns an absolute rate should
            multiply it by `callback.batch_scale`. None leaves the batch alone.
        verbose: 0 for silence, 1 for a line for each reconfiguration.

    Attributes:
        strength: λ, or None before it is set. Setting it before `fit` keeps the value.
        reconfigurations: one dict for each reconfiguration: `epoch` (counted from 1), `channels`,
            `params` and `inference_flops` as pairs (before, after), `seconds`, and `layers`, which
            has for the name of each layer that makes channels their number before and after.
        batch_scale: the batch size over the first one.

    Raises:
        ValueError: an argument is out of its range; in `fit`, the model has no graph, nothing that
            could be pruned, the interval is longer than the training, the first loss is not finite,
            or workers that train together differ.
    """

    def __init__(
        self,
        ratio: float = 0.2,
        interval: int = 10,
        threshold: float = 1e-4,
        measure: Literal["max", "mean"] = "max",
        channel_gating: bool = False,
        remove_dead_branches: bool = True,
        min_channels: int = 1,
        channel_multiple: int = 1,
        batch_size: Any = None,
        verbose: int = 1,
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
        self.reconfigurations: list[dict] = []
        self.training_flops = 0
        self._measured_on: int | None = None
        self._trained = self._reconfigured = self._epoch_examples = 0
        self._adjustment = None if batch_size is None else BatchAdjustment(batch_size)

    @property
    def batch_scale(self) -> float:
        """The batch size over the first one."""
        return 1.0 if self._adjustment is None else self._adjustment.scale

    def get_settings(self) -> dict[str, Any]:
        """What has to be the same when a training is taken up again."""
        names = sorted({*inspect.signature(PruneTrain).parameters} - {"batch_size", "verbose"})
        settings = {name: getattr(self, name) for name in names}
        return settings | {"adjusts_batch_size": self._adjustment is not None}

    def get_state(self) -> dict[str, Any]:
        """What has to survive beside the model when a training is stopped and taken up again."""
        state = {name: getattr(self, name) for name in _STATE}
        if self._adjustment is not None:
            state["batch"] = [self._adjustment.size, self._adjustment.memory]
        return state

    def set_state(self, state: dict[str, Any]) -> None:
        """Takes back what `get_state` returned.

        Args:
            state: from a callback with the same arguments, maybe of another process.
        """
        for name in _STATE:
            setattr(self, name, state[name])
        if self._adjustment is not None:
            size, self._adjustment.memory = state["batch"]
            self._adjustment.variable.assign(size)

    # The hooks of Keras, in the order in which fit calls them.

    def on_train_begin(self, logs: dict | None = None) -> None:
        """Puts the lasso on the model."""
        self._forget_other_model()
        lasso.detach(self.model)  # what a fit that was interrupted has left
        self._check_epochs()
        self._map = trace(self.model)
        self._initial_norms = lasso.group_norms(self._map)
        if not self._map.prunable.any() or not kernel_slices(self._map):
            raise ValueError(
                f"'{self.model.name}' has no channels that PruneTrain could remove: a channel "
                "needs a convolution or dense layer that makes it and one that reads it."
            )
        # A layer that cannot be made again from its config is told of before any work is lost.
        can_remove(self._map, np.ones(len(self._map), bool))
        with scope_of(self.model):
            self._strength = keras.Variable(
                0.0 if self.strength is None else self.strength, trainable=False, name="lasso"
            )
        self._generations = Generations(self.model)
        self._base_loss = _regularization(self.model)
        self._refresh()
        self._attach()
        # An earlier fit may have compiled a step that knows nothing of the lasso.
        refresh_functions(self.model)
        if self._adjustment is not None:
            self._adjustment.begin(self.model)
        self._trained = self._reconfigured = 0

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        """Starts counting the examples of the epoch."""
        self._examples: int | None = None

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        """Sets λ behind the first batch, whose loss is that of the initial network."""
        if self.strength is None:
            self._set_strength((logs or {}).get("loss"))

    def on_test_begin(self, logs: dict | None = None) -> None:
        """Reads the number of examples before validation resets it with the metrics."""
        average_statistics(self.model)
        if self._examples is None:
            self._examples = _examples_seen(self.model)

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Reconfigures where the interval says so, and adds to the logs."""
        average_statistics(self.model)
        examples = _examples_seen(self.model) if self._examples is None else self._examples
        self._epoch_examples = examples
        self.training_flops += examples * self._training_flops
        if logs is not None:
            logs.update(self._figures())
        self._trained = epoch + 1
        last = epoch + 1 == self.params.get("epochs")
        if last or (epoch + 1) % self.interval == 0:
            self.reconfigure(epoch + 1, always=last)

    def on_train_end(self, logs: dict | None = None) -> None:
        """Takes the lasso off the finished model.

        Where another callback has ended the training, what has gone to zero since the last interval
        is removed first.
        """
        if self._trained > self._reconfigured:
            self._refresh()  # a callback before this one may have brought an earlier network back
            self.reconfigure(self._trained)
        lasso.detach(self.model)
        refresh_functions(self.model)

    # What they are made of.

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
        multi_worker.check_decision(self.model, epoch, keep, gates)
        if not always and gain(self._map, keep, gates) < LEAST_GAIN:
            return False
        self._reconfigured = epoch
        if keep.all() and not gates:
            return False
        before = self._summary()
        self._generations.shrinking()
        self._remove(keep, gates)
        self._refresh()
        self._attach()
        self._record(epoch, before, time.perf_counter() - started)
        if self._adjustment is not None:
            self._adjustment.adjust(self.model, self._epoch_examples)
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

    def _remove(self, keep: np.ndarray, gates: dict) -> None:
        """Reconfigures; where a tensor may not lose all of its channels, its best one stays."""
        while True:
            try:
                reconfigure(self.model, keep, channel_map=self._map, gates=gates)
                return
            except DeadEndError as error:
                channels = self._map.tensors[id(error.tensor)]
                channels = channels[channels >= 0]
                keep[channels[np.argmax(self._scores[channels])]] = True
                keep = self._round_up(keep, dead_ok=True)

    def _refresh(self) -> None:
        self._map = trace(self.model)
        self._inference_flops = cost.inference_flops(self.model)
        self._training_flops = cost.training_flops(self.model)

    def _attach(self) -> None:
        lasso.attach(self._map, self._strength)

    def _set_strength(self, loss: float | None) -> None:
        data_loss = math.nan if loss is None else float(loss) - self._base_loss
        if not 0 < data_loss < math.inf:
            raise ValueError(
                f"The loss of the first batch is {loss}, of which {self._base_loss:g} is "
                "regularisation: the lasso penalty ratio needs a positive, finite loss to be a "
                "share of. Check the data; for a loss that may be negative set "
                "callback.strength, λ, yourself."
            )
        self.strength = lasso.strength_for(self.ratio, data_loss, self._initial_norms)
        self._measured_on = id(self.model)
        self._strength.assign(self.strength)
        if keras.config.backend() == "jax":
            # A compiled JAX step holds the value of a variable that is not the model's.
            self.model.make_train_function(force=True)

    def _figures(self) -> dict[str, float]:
        return {
            "lasso": (self.strength or 0.0) * lasso.group_norms(self._map),
            "channels": int(self._map.prunable.sum()),
            "params": self.model.count_params(),
            "inference_flops": self._inference_flops,
            "training_flops": self.training_flops,
        }

    def _summary(self) -> dict[str, Any]:
        figures = self._figures()
        layers = {path: len(channels) for path, channels in self._map.produced().items()}
        names = ("channels", "params", "inference_flops")
        return {name: figures[name] for name in names} | {"layers": layers}

    def _record(self, epoch: int, before: dict, seconds: float) -> None:
        record = changes(epoch, before, self._summary(), seconds)
        self.reconfigurations.append(record)
        if self.verbose and multi_worker.is_chief(self.model):
            io_utils.print_msg("\n" + describe(record))

    def _forget_other_model(self) -> None:
        """Starts anew where the callback served another model before."""
        if self._measured_on not in (None, id(self.model)):
            self.strength, self._measured_on = None, None
            self.training_flops, self.reconfigurations = 0, []

    def _check_epochs(self) -> None:
        epochs = self.params.get("epochs")
        if epochs is not None and self.interval > epochs:
            raise ValueError(
                f"The interval of PruneTrain, {self.interval} epochs, is longer than the training "
                f"of {epochs}: nothing would be removed before its end. Choose an interval of "
                f"{epochs} at most."
            )


def _examples_seen(model: keras.Model) -> int:
    """The number of examples that the loss of this epoch is the mean over."""
    return round(float(keras.ops.convert_to_numpy(model._loss_tracker.count)))


def _regularization(model: keras.Model) -> float:
    """What the regularisation that a user chose adds to the loss."""
    return float(sum(float(keras.ops.convert_to_numpy(x)) for x in model.losses))
