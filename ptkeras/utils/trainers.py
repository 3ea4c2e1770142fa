"""Models in `fit`, the optimizers that they hold, and the parts that are pruned in them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import keras

from ptkeras.keras_compat.tracking import flatten_layers


def check_model(callback: Any, model: Any) -> keras.Model | None:
    """Returns the `model` argument of a callback.

    Args:
        callback: the callback.
        model: what it was given.

    Raises:
        ValueError: If it is neither None nor a Keras model.
    """
    if model is not None and not isinstance(model, keras.Model):
        raise ValueError(
            f"The model of {type(callback).__name__} must be a part of the model in fit, a "
            f"keras.Model; received {model!r}."
        )
    return model


def check_part(callback: Any, part: keras.Model, trainer: keras.Model) -> None:
    """Checks that a model is a part of the one in `fit`.

    Args:
        callback: the callback that prunes the part.
        part: the model.
        trainer: the model in `fit`.

    Raises:
        ValueError: If the part has weights that the model in `fit` has not.
    """
    known = {id(variable) for variable in trainer.weights}
    if not all(id(variable) in known for variable in part.weights):
        raise ValueError(
            f"The model of {type(callback).__name__}, '{part.name}', is no part of the one in "
            f"fit, '{trainer.name}': its weights are not among those. Make it an attribute of "
            "that model, or leave out model=."
        )


def optimizers_of(trainer: keras.Model) -> list[keras.optimizers.Optimizer]:
    """Returns the optimizers that a model and the models in it hold, as attributes or in them.

    Where an optimizer scales losses, it is the one inside.
    """
    models = [m for m in flatten_layers(trainer) if isinstance(m, keras.Model)]
    found = {}
    for model in models:
        for value in [getattr(model, "optimizer", None), *vars(model).values()]:
            for optimizer in _optimizers_in(value):
                inner = getattr(optimizer, "inner_optimizer", optimizer)
                found[id(inner)] = inner
    return list(found.values())


def _optimizers_in(value: Any) -> Iterator[keras.optimizers.Optimizer]:
    if isinstance(value, keras.optimizers.Optimizer):
        yield value
    elif isinstance(value, dict):
        yield from _among(value.values())
    elif isinstance(value, (list, tuple)):
        yield from _among(value)


def _among(values: Iterable[Any]) -> Iterator[keras.optimizers.Optimizer]:
    return (value for value in values if isinstance(value, keras.optimizers.Optimizer))
