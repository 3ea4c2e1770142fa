"""Pruning from Scratch (Wang et al., AAAI 2020): a structure found before any weight is trained.

```python
model = keras.applications.MobileNetV2(weights=None, input_shape=(32, 32, 3), classes=10)
model.compile("sgd", "sparse_categorical_crossentropy", metrics=["accuracy"])
search = ptkeras.from_scratch.learn_gates(model, x, y, validation_data=(x_val, y_val))
small = search.build(0.5)  # half of the FLOPs of the model, fresh weights
small.compile("sgd", "sparse_categorical_crossentropy", metrics=["accuracy"])
small.fit(x, y, epochs=search.budget_epochs(160, 0.5))
```
"""

from __future__ import annotations

import dataclasses
import math
import numbers
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import keras
import numpy as np

from ptkeras import cost
from ptkeras._accuracy import accuracies, is_accuracy
from ptkeras._plan import protected
from ptkeras._prediction import Prediction, has_open_sizes, weighted_macs
from ptkeras.channels import ChannelMap, trace
from ptkeras.channels.graph import functional_of
from ptkeras.gate_survival import GateSurvival
from ptkeras.gated_network import GatedNetwork
from ptkeras.surgery.fresh import fresh, scaled_norms, widen
from ptkeras.surgery.rebuild import rebuild
from ptkeras.surgery.reconfigure import scope_of

__all__ = ["Search", "learn_gates"]

# How near to the budget a structure is to come, as a share of the budget.
NEAR = 0.01

# How often FLOPs that are guessed are set right by those of the structure that came of them.
TRIES = 4


def learn_gates(
    model: keras.Model,
    x: Any,
    y: Any = None,
    *,
    validation_data: Any,
    loss: Any = None,
    sparsity_ratio: float = 0.5,
    balance_factor: float = 0.5,
    channel_expansion: float = 1.25,
    learning_rate: float = 0.01,
    epochs: int = 10,
    callbacks: keras.callbacks.Callback | Iterable[keras.callbacks.Callback] = (),
    checkpoint: str | Path | None = None,
    **fit_options: Any,
) -> Search:
    """Learns how much each channel of an untrained network matters (arXiv 1909.12579).

    Every channel that may go gets a scalar gate λ in [0, 1], after normalisation and before the
    activation. On a way past all normalisations, such as that of a shortcut whose convolution has
    none, it is on the kernel and bias that make the channel. Channels that are tied, as by a
    shortcut, have one gate. The weights stay as they were drawn; the gates start at 1, are clipped
    to [0, 1] after each step, and minimise

        loss + γ · (mean |λ| - r)²

    with Adam, where r is the sparsity ratio and γ the balance factor. Kept are the gates of the
    epoch of the best validation accuracy among those whose share of open gates, those that are not
    zero, is at most r. If there is none, they are of the epoch with the smallest share, the last of
    several; the authors' code then takes the last epoch.

    The defaults are the paper's for CIFAR-10, with batches of 128, but for the sparsity ratio,
    which is 0.2 there in the authors' code, and 0.5 for ImageNet. For ImageNet the balance factor
    is 0.05, batches are of 100, and in one epoch the gates are judged every 500 steps; here they
    are judged behind each epoch. Keras's Adam has an epsilon of 1e-7, PyTorch's 1e-8.

    Args:
        model: a Functional or built Sequential model; it is not changed, and its weights are not
            used: the network that is searched is one of its kind, wider and freshly drawn.
        x: what to train the gates with, as `fit` takes it.
        y: the targets that go with `x`, if `x` does not have them.
        validation_data: what to judge the gates by, as `fit` takes it; the paper holds 5,000
            training images of CIFAR-10 out for it. What counts is the accuracy that goes with a
            crossentropy; with another loss, those among the metrics that the model is compiled
            with. Of several the mean counts.
        loss: a Keras loss. None takes the one that the model is compiled with, and its weights of
            several.
        sparsity_ratio: r, what the mean gate is driven to, and the largest share of open gates of
            an epoch that counts; over 0 and at most 1.
        balance_factor: γ, from 0.
        channel_expansion: how much wider than the model the network is that is searched, from 1.
        learning_rate: of Adam.
        epochs: to train the gates for.
        callbacks: a callback for `fit`, or several.
        checkpoint: a file, ending in `.keras`, that is written after each epoch. The same call goes
            on from it after a kill, and ends bit for bit as it would have without one where the
            order of the data depends on the epoch alone, as with `ptkeras.data`. SIGTERM and Ctrl-C
            then say so. None for no file.
        **fit_options: more arguments of `fit`, such as `batch_size` and `verbose`.

    Returns:
        The `Search`, from which networks of any budget are built.

    Raises:
        ValueError: an argument is out of its range; the model has no graph or nothing to prune, no
            loss or no accuracy, or leaves sizes of its inputs open; a loss is not finite; or the
            checkpoint is damaged or of another search.
    """
    _check("sparsity_ratio", sparsity_ratio, lambda r: 0 < r <= 1, "over 0 and at most 1")
    _check("balance_factor", balance_factor, lambda b: b >= 0, "a number from 0")
    _check("channel_expansion", channel_expansion, lambda c: 1 <= c < 16, "from 1")
    _check("learning_rate", learning_rate, lambda r: r > 0, "a number over 0")
    _check("epochs", epochs, lambda n: n == int(n) >= 1, "a whole number from 1")
    _check_fit(validation_data, epochs, fit_options)
    callbacks = [callbacks] if isinstance(callbacks, keras.callbacks.Callback) else callbacks
    weights = None
    if loss is None:
        loss, weights = _compiled_loss(model)
    metrics = accuracies(model, loss)
    flops = _flops(model)
    started = time.perf_counter()
    channel_map = trace(widen(model, channel_expansion))
    if not channel_map.prunable.any():
        raise ValueError(f"'{model.name}' has no channels that could go, so there are no gates.")
    with scope_of(model):
        network = GatedNetwork(_gateable(channel_map), sparsity_ratio, balance_factor)
        adam = keras.optimizers.Adam(learning_rate)
        network.compile(adam, loss, loss_weights=weights, metrics=metrics)
    best = _Best(sparsity_ratio)
    arguments = {
        "sparsity_ratio": float(sparsity_ratio),  # JSON holds no numbers of NumPy
        "balance_factor": float(balance_factor),
        "channel_expansion": float(channel_expansion),
        "learning_rate": float(learning_rate),
        "loss": _kind_of(loss),
    }
    survival = [] if checkpoint is None else [GateSurvival(checkpoint, best, arguments)]
    network.fit(
        x,
        y,
        epochs=epochs,
        validation_data=validation_data,
        callbacks=[*callbacks, best, *survival],
        **fit_options,
    )
    return Search(
        channel_map=channel_map,
        flops=flops,
        gates=best.gates,
        epoch=best.epoch,
        history=best.history,
        seconds=time.perf_counter() - started + sum(one.seconds for one in survival),
    )


@dataclasses.dataclass(frozen=True, eq=False)
class Search:
    """What `learn_gates` found.

    Attributes:
        channel_map: the channels of the network that was searched, the expanded one.
        flops: the FLOPs of one forward pass of the model as it was given.
        gates: an array of a number per channel of the map: its gate; infinite for those that stay.
        epoch: the number of the epoch, counted from 1, that the gates are of.
        history: a dict for each epoch: `accuracy`, that on the validation data, and `open`, the
            share of gates that are not zero.
        seconds: what the search took.
    """

    channel_map: ChannelMap
    flops: int
    gates: np.ndarray
    epoch: int
    history: list[dict[str, float]]
    seconds: float
    _kept: dict[float, np.ndarray] = dataclasses.field(default_factory=dict, init=False, repr=False)

    def keep(self, budget: float) -> np.ndarray:
        """The structure whose FLOPs come nearest to a budget, by bisection on the gates' threshold.

        Channels go in the order of their gates; of equal gates, such as closed ones, in a random
        order that is always the same. One channel of every layer stays. Where the threshold's steps
        are coarser than 1 %, as in narrow networks whose shortcuts tie a channel of many layers,
        channels next in the order stand in for one that would take too much.

        Args:
            budget: the share of the model's FLOPs, over 0.

        Returns:
            A bool per channel of `channel_map`.

        Raises:
            ValueError: no structure comes within 1 % of the budget.
        """
        wanted = "a share of the model's FLOPs, over 0"
        _check("budget", budget, lambda b: b > 0, wanted)
        if budget not in self._kept:
            self._kept[budget] = self._nearest(budget)
        return self._kept[budget].copy()

    def _nearest(self, budget: float) -> np.ndarray:
        free = np.isfinite(self.gates) & ~protected(self.channel_map, self.gates, 1)
        candidates = np.random.default_rng(0).permutation(np.flatnonzero(free))
        order = candidates[np.argsort(self.gates[candidates], kind="stable")]
        flops = _flops_of(self.channel_map)
        goal = budget * self.flops

        def without(count: int) -> np.ndarray:
            keep = np.ones(len(self.gates), bool)
            keep[order[:count]] = False
            return keep

        low, high = 0, len(order)
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if flops(without(middle)) > goal else (low, middle)
        nearest = min((without(n) for n in (low, high)), key=lambda k: abs(flops(k) - goal))
        if abs(flops(nearest) / goal - 1) > NEAR:
            nearest = near = without(low)
            for _ in range(TRIES):
                guess = _guess_of(self.channel_map, nearest, flops(nearest))
                nearest = _filled_up(near.copy(), order[low:], guess, goal)
                right = guess(nearest) == flops(nearest)  # the next guess would be the same
                if right or abs(flops(nearest) / goal - 1) <= NEAR:
                    break
        share = flops(nearest) / self.flops
        if abs(share / budget - 1) > NEAR:
            raise ValueError(
                f"The structure of '{self.channel_map.model.name}' nearest to a budget of {budget} "
                f"of the FLOPs has {share:.4f} of them: choose a budget near that, or another "
                "channel_expansion."
            )
        return nearest

    def build(self, budget: float) -> keras.Model:
        """The network for a budget, with fresh weights, to be compiled and trained from scratch.

        Args:
            budget: the share of the model's FLOPs, over 0; met within 1 %.

        Returns:
            A new model of plain Keras.

        Raises:
            ValueError: as `keep` does.
        """
        return fresh(self.channel_map, self.keep(budget))

    def budget_epochs(self, epochs: int, budget: float) -> int:
        """Budget training: epochs that cost a built network what `epochs` cost the model.

            epochs · FLOPs of the model / FLOPs of the network

        Args:
            epochs: for which the model would be trained.
            budget: the share of the model's FLOPs.
        """
        return round(epochs * self.flops / _flops_of(self.channel_map)(self.keep(budget)))


class _Best(keras.callbacks.Callback):
    """Keeps the gates of the best epoch."""

    def __init__(self, sparsity_ratio: float) -> None:
        super().__init__()
        self.ratio = sparsity_ratio
        self.history: list[dict[str, float]] = []
        self.gates: np.ndarray | None = None
        self.epoch = 0

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        _check_finite("loss", logs["loss"])

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        gates = self.model.gates_by_channel()
        _check_finite("loss of the validation data", logs["val_loss"])
        _check_finite("sum of the gates", np.sum(gates[~np.isposinf(gates)]))
        share = float(np.mean(gates[np.isfinite(gates)] != 0))
        accuracies = [v for k, v in logs.items() if k.startswith("val_") and is_accuracy(k)]
        row = {"accuracy": float(np.mean(accuracies)), "open": share}
        logs["open"] = share
        self.history.append(row)
        *before, rank = [self._rank(row) for row in self.history]
        # The first of equal epochs that count, as in the authors' code; the last, if none counts.
        if not before or rank > max(before) or (rank == max(before) and not rank[0]):
            self.gates, self.epoch = gates, epoch + 1

    def _rank(self, row: dict[str, float]) -> tuple[bool, float]:
        sparse = row["open"] <= self.ratio
        return (sparse, row["accuracy"] if sparse else -row["open"])


def _filled_up(
    keep: np.ndarray, order: np.ndarray, flops: Callable[[np.ndarray], int], goal: float
) -> np.ndarray:
    """The mask without those channels, first to go first, that leave the goal or more."""
    for channel in order:
        keep[channel] = False
        left = flops(keep)
        keep[channel] = left < goal * (1 - NEAR)
        if not keep[channel] and left <= goal * (1 + NEAR):
            break
    return keep


def _gateable(channel_map: ChannelMap) -> ChannelMap:
    """The map of a network of the same channels in which every batch norm has a scale to gate."""
    norms = (row.layer for row in channel_map.slices)
    norms = [n for n in norms if isinstance(n, keras.layers.BatchNormalization)]
    if all(norm.scale for norm in norms):
        return channel_map
    return trace(scaled_norms(channel_map))


def _flops_of(channel_map: ChannelMap) -> Callable[[np.ndarray], int]:
    prediction = Prediction(channel_map)
    if prediction.exact:
        return lambda keep: 2 * sum(prediction.macs(keep))
    known: dict[bytes, int] = {}

    def flops(keep: np.ndarray) -> int:
        """Products without a kernel (attention scores) are counted on the graph as it would be."""
        key = keep.tobytes()
        if key not in known:
            known[key] = 2 * weighted_macs(rebuild(channel_map, keep).model, None)
        return known[key]

    return flops


def _guess_of(channel_map: ChannelMap, near: np.ndarray, flops: int) -> Callable[[np.ndarray], int]:
    """FLOPs of masks close to one whose FLOPs are known, without building any graph."""
    prediction = Prediction(channel_map)
    missing = flops - 2 * sum(prediction.macs(near))  # 0 if the prediction is exact
    return lambda keep: 2 * sum(prediction.macs(keep)) + missing


def _kind_of(loss: Any) -> Any:
    """What tells losses apart, for JSON: their names, since functions have no config."""
    if isinstance(loss, dict):
        return {name: _kind_of(each) for name, each in loss.items()}
    if isinstance(loss, (list, tuple)):
        return [_kind_of(each) for each in loss]
    if loss is None:
        return None
    loss = keras.losses.get(loss)
    return getattr(loss, "__name__", type(loss).__name__)


def _compiled_loss(model: keras.Model) -> tuple[Any, Any]:
    """The loss that a model is compiled with, and the weights of several."""
    compiled = getattr(model, "_compile_loss", None)
    if compiled is None:
        raise ValueError(
            f"'{model.name}' is not compiled with a loss, so its gates have nothing to minimise: "
            "compile it, or pass loss= to learn_gates."
        )
    return compiled._user_loss, compiled._user_loss_weights


def _flops(model: keras.Model) -> int:
    if has_open_sizes(model):
        shapes = ", ".join(str(tuple(x.shape)) for x in functional_of(model).inputs)
        raise ValueError(
            f"'{model.name}' leaves sizes of its inputs open, {shapes}, and its FLOPs depend on "
            "them: build it with a keras.Input of the sizes for which the budget is meant."
        )
    return cost.inference_flops(model)


def _check_fit(validation_data: Any, epochs: int, fit_options: dict[str, Any]) -> None:
    if validation_data is None and not fit_options.get("validation_split"):
        raise ValueError(
            "Pruning from Scratch judges its gates by validation_data; received None: hold some of "
            "the training examples out for it."
        )
    if fit_options.get("initial_epoch", 0) >= epochs:
        raise ValueError(
            "Pruning from Scratch needs an epoch to learn its gates in; received epochs="
            f"{epochs} and initial_epoch={fit_options['initial_epoch']}."
        )
    if fit_options.get("validation_freq", 1) != 1:
        raise ValueError(
            "Pruning from Scratch judges its gates after each epoch, so that validation_freq must "
            f"be 1; received {fit_options['validation_freq']!r}."
        )


def _check_finite(name: str, value: Any) -> None:
    if not math.isfinite(value):
        raise ValueError(
            f"The {name} is {float(value)} in the gate search of Pruning from Scratch, so that its "
            "gates say nothing: look for NaN in the examples, or lower the learning rate."
        )


def _check(name: str, value: Any, right: Callable[[float], bool], wanted: str) -> None:
    number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if not number or not math.isfinite(value) or not right(value):
        raise ValueError(
            f"The {name} of Pruning from Scratch must be {wanted}; received {value!r}."
        )
