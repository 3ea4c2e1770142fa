"""Which accuracy goes with a loss."""

from __future__ import annotations

from typing import Any

import keras

from ptkeras.channels.leaf_graph import outputs_of
from ptkeras.keras_compat.graph import output_structure
from ptkeras.keras_compat.trainers import loss_options, user_metrics


def accuracies(model: keras.Model, loss: Any) -> Any:
    """The accuracy that goes with the loss of each output, or those that the model has of its own.

    Args:
        model: a built model, compiled or not.
        loss: the losses, as `compile` takes them.

    Returns:
        Metrics for another model of the same outputs, as `compile` takes them.

    Raises:
        ValueError: there is none, so that no epoch is better than another.
    """
    outputs = output_structure(outputs_of(model))
    found: Any
    if not isinstance(outputs, (list, tuple, dict)):
        found = [_accuracy(one) for one in keras.tree.flatten(loss)]
    elif isinstance(loss, dict):
        found = {name: _accuracy(one) for name, one in loss.items()}
    elif isinstance(loss, (list, tuple)):
        found = keras.tree.pack_sequence_as(outputs, [_accuracy(one) for one in loss])
    else:
        found = keras.tree.map_structure(lambda _: _accuracy(loss), outputs)
    if all(one is not None for one in keras.tree.flatten(found)):
        return found
    own = user_metrics(model)
    if any(is_accuracy(getattr(m, "name", str(m))) for m in keras.tree.flatten(own)):
        return keras.tree.map_structure(_copied, own)
    raise ValueError(
        "Pruning from Scratch keeps the gates of the epoch with the best validation accuracy, and "
        f"the loss {loss!r} does not say which accuracy that is: compile '{model.name}' with one "
        "among its metrics. What has none, such as a regression, cannot be searched."
    )


def _accuracy(loss: Any) -> Any:
    """The accuracy that goes with a crossentropy; None for other losses."""
    if loss in ("crossentropy", "ce"):
        return "accuracy"
    loss = keras.losses.get(loss)
    name = getattr(getattr(loss, "fn", loss), "__name__", "")
    if name.startswith("binary_") and name.endswith("crossentropy"):
        logits = loss_options(loss).get("from_logits")
        return keras.metrics.BinaryAccuracy("accuracy", threshold=0.0 if logits else 0.5)
    return "accuracy" if name.endswith("crossentropy") else None


def is_accuracy(name: str) -> bool:
    """Whether a metric of this name is an accuracy."""
    return name.endswith(("accuracy", "acc"))


def _copied(metric: Any) -> Any:
    """A metric for another model; what is no object has no state to share."""
    state = isinstance(metric, keras.metrics.Metric)
    return type(metric).from_config(metric.get_config()) if state else metric
