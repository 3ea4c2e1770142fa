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

import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import keras

from ptkeras import cost
from ptkeras.channels import ChannelMap, trace
from ptkeras.channels.inputs import symbolic_inputs
from ptkeras.cost.prediction import has_open_sizes
from ptkeras.from_scratch.accuracy import accuracies
from ptkeras.from_scratch.gate_search import GateSearch, config_of
from ptkeras.from_scratch.gated_network import GatedNetwork
from ptkeras.from_scratch.structure import Search
from ptkeras.keras_compat.trainers import compiled_loss, user_loss
from ptkeras.surgery.fresh import scaled_norms, widen
from ptkeras.surgery.reconfigure import scope_of
from ptkeras.survival.callback import InterruptedTrainingError, Survival
from ptkeras.utils.arguments import check_count, check_number

__all__ = ["Search", "learn_gates"]


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

    Every channel that may be removed gets a scalar gate λ in [0, 1], after normalization and before
    the activation. On a path past all normalizations, such as that of a shortcut whose convolution
    has none, the gate is on the kernel and bias that make the channel. Channels that are tied, as
    by a shortcut, have one gate. The weights stay as they were drawn. The gates start at 1, are
    clipped to [0, 1] after each step, and minimize

        loss + γ · (mean |λ| - r)²

    with Adam, where r is the sparsity ratio and γ the balance factor. An epoch counts if its share
    of open gates, those that are not zero, is at most r. The gates of the epoch with the best
    validation accuracy among those are kept. If no epoch counts, the gates are those of the epoch
    with the smallest share, the last of several; the authors' code then takes the last epoch.

    The defaults are the paper's for CIFAR-10, with batches of 128, but for the sparsity ratio,
    which is 0.2 there in the authors' code, and 0.5 for ImageNet. For ImageNet the balance factor
    is 0.05, batches are of 100, and in one epoch the gates are judged every 500 steps; here they
    are judged after each epoch. Keras's Adam has an epsilon of 1e-7, PyTorch's 1e-8.

    Args:
        model: a built model of any kind. Neither it nor its weights are used: the network that is
            searched is one of its kind, wider and freshly drawn.
        x: what to train the gates with, as `fit` takes it.
        y: the targets that go with `x`, if `x` does not have them.
        validation_data: what to judge the gates by, as `fit` takes it; the paper holds 5,000
            training images of CIFAR-10 out for it. The accuracy that goes with a crossentropy
            counts. With another loss, the accuracies among the model's compiled metrics count. Of
            several, the mean counts.
        loss: a Keras loss. None takes the one that the model is compiled with, and its weights of
            several.
        sparsity_ratio: r, the target of the mean gate, and the largest share of open gates of an
            epoch that counts; over 0 and at most 1.
        balance_factor: γ, from 0.
        channel_expansion: the width of the network that is searched over that of the model, from 1.
        learning_rate: of Adam.
        epochs: the number of epochs to train the gates for.
        callbacks: a callback for `fit`, or several.
        checkpoint: a file, ending in `.keras`, that is written after each epoch by `Survival`. The
            same call goes on from it after a kill. It ends bit for bit as it would have without
            one if the order of the data depends on the epoch alone, as with `ptkeras.data`. None
            for no file.
        **fit_options: more arguments of `fit`, such as `batch_size` and `verbose`.

    Returns:
        The `Search`, from which networks of any budget are built.

    Raises:
        ValueError: If an argument is out of its range; the model has nothing to prune, no loss or
            no accuracy, or leaves sizes of its inputs open; a loss is not finite; or the checkpoint
            is damaged or of another search.
    """
    for name, value, right, wanted in (
        ("sparsity_ratio", sparsity_ratio, lambda r: 0 < r <= 1, "over 0 and at most 1"),
        ("balance_factor", balance_factor, lambda b: b >= 0, "a number from 0"),
        ("channel_expansion", channel_expansion, lambda c: 1 <= c < 16, "from 1"),
        ("learning_rate", learning_rate, lambda r: r > 0, "a number over 0"),
    ):
        check_number(f"{name} of Pruning from Scratch", value, right, wanted)
    epochs = check_count("epochs of Pruning from Scratch", epochs)
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
    settings = {
        "sparsity_ratio": float(sparsity_ratio),
        "balance_factor": float(balance_factor),
        "channel_expansion": float(channel_expansion),
        "learning_rate": float(learning_rate),
        "loss": config_of(loss),
        "loss_weights": weights,
    }
    best = GateSearch(settings)
    survival = [] if checkpoint is None else [Survival(checkpoint, [best])]
    try:
        network.fit(
            x,
            y,
            epochs=epochs,
            validation_data=validation_data,
            callbacks=[*callbacks, best, *survival],
            **fit_options,
        )
    except InterruptedTrainingError as stop:
        if not survival:
            raise
        where = survival[0].progress or "the beginning"
        ending = f" while gates were learned; the same call goes on from {where} of that."
        raise InterruptedTrainingError(stop.signal, ending) from None
    if best.gates is None:
        raise ValueError(
            "No epoch of the gate search of Pruning from Scratch has ended, so there are no gates: "
            "check x, and the callbacks that stop the training."
        )
    return Search(
        channel_map=channel_map,
        flops=flops,
        gates=best.gates,
        epoch=best.epoch,
        history=best.history,
        seconds=time.perf_counter() - started + best.seconds,
    )


def _gateable(channel_map: ChannelMap) -> ChannelMap:
    """Returns the map of a network whose batch norms all have a scale to put a gate on."""
    layers = (row.layer for row in channel_map.slices)
    norms = (x for x in layers if isinstance(x, keras.layers.BatchNormalization))
    if all(norm.scale for norm in norms):
        return channel_map
    return trace(scaled_norms(channel_map))


def _compiled_loss(model: keras.Model) -> tuple[Any, Any]:
    """Returns the loss that a model is compiled with, and the weights of several."""
    if compiled_loss(model) is None:
        raise ValueError(
            f"'{model.name}' is not compiled with a loss, so its gates have nothing to minimize: "
            "compile it, or pass loss= to learn_gates."
        )
    return user_loss(model)


def _flops(model: keras.Model) -> int:
    if has_open_sizes(model):
        inputs = keras.tree.flatten(symbolic_inputs(model))
        shapes = ", ".join(str(tuple(x.shape)) for x in inputs)
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
