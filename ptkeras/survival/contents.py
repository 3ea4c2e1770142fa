"""What a checkpoint holds besides the weights and slots that Keras saves."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import keras
import numpy as np

from ptkeras.channels.graph import has_graph
from ptkeras.keras_compat.optimizers import weights_of
from ptkeras.keras_compat.random import known_global_seed_generator
from ptkeras.keras_compat.tracking import flatten_layers, own_weights_to_train
from ptkeras.surgery.adopt import as_graph
from ptkeras.surgery.places import by_place
from ptkeras.surgery.removals import removals_of
from ptkeras.survival.keras_callbacks import KerasState

RANDOM_KERAS, RANDOM_TORCH, RANDOM_CUDA = "random_keras", "random_torch", "random_cuda_"


def state_of(
    model: keras.Model, stateful: Sequence[Any], callbacks: Sequence[keras.callbacks.Callback]
) -> dict[str, Any]:
    """Returns the part of a training's state that JSON can hold.

    Args:
        model: the model in `fit`.
        stateful: the objects whose state is saved with it.
        callbacks: all callbacks of the `fit`.
    """
    stopped = bool(model.stop_training)
    return {
        "optimizer": slots_of(model),
        "switched": _switched(model),
        "seeds": [to_list(variable) for variable in seeds_of(model)],
        "removals": {} if has_graph(model) else removals_of(model),
        "states": [one.get_state() for one in stateful],
        "stopped": stopped,
        "stopped_by": _stopped_by(callbacks) if stopped else None,
    }


def arrays_of(stateful: Sequence[Any]) -> dict[str, np.ndarray]:
    """Returns the arrays of a training's state: best weights, and the states of generators.

    Args:
        stateful: the objects whose state is saved.
    """
    arrays = {
        f"{i}_{j}": array
        for i, one in enumerate(stateful)
        if isinstance(one, KerasState)
        for j, array in enumerate(one.get_arrays())
    }
    generator = known_global_seed_generator()
    if generator is not None:
        arrays[RANDOM_KERAS] = keras.ops.convert_to_numpy(generator.state)
    if keras.config.backend() == "torch":
        import torch

        arrays[RANDOM_TORCH] = torch.get_rng_state().numpy()
        if torch.cuda.is_available():
            for number, state in enumerate(torch.cuda.get_rng_state_all()):
                arrays[f"{RANDOM_CUDA}{number}"] = state.numpy()
    return arrays


def history_of(
    model: keras.Model, epoch: int | None = None, logs: dict | None = None
) -> dict[str, Any]:
    """Returns the History of a `fit` so far, for JSON.

    Args:
        model: the model.
        epoch: an epoch at its end, counted from 0. Keras puts its History after all other
            callbacks, so that it may not have this epoch yet. None between two steps.
        logs: the figures of that epoch.
    """
    history = model.history
    if not isinstance(history, keras.callbacks.History):  # the caller's own CallbackList has none
        return {"epochs": [], "figures": {}}
    epochs = list(history.epoch)
    figures = {name: [_plain(one) for one in values] for name, values in history.history.items()}
    if epoch is not None and epoch not in epochs:
        epochs.append(epoch)
        for name, value in (logs or {}).items():
            figures.setdefault(name, []).append(_plain(value))
    return {"epochs": epochs, "figures": figures}


@contextlib.contextmanager
def savable(model: keras.Model) -> Iterator[None]:
    """Makes `model.save` write what `restore` reads, however the user's class describes itself.

    A model with a graph is saved by that, so that its class need not be registered. Any other model
    is restored by its weights alone, and Keras may be unable to write its config.
    """
    if has_graph(model):
        with as_graph(model):
            yield
        return
    cls = type(model)
    try:
        keras.saving.serialize_keras_object(model)
    except Exception:
        bare = {
            "__module__": cls.__module__,
            "get_config": lambda self: {},
            "get_compile_config": lambda self: None,
        }
        model.__class__ = type(cls.__name__, (cls,), bare)
    try:
        yield
    finally:
        model.__class__ = cls


def slots_of(model: keras.Model) -> list[str] | None:
    """Returns the places of the weights that have the optimizer's slots, in the order of those.

    Returns:
        The places; None without an optimizer.

    Raises:
        ValueError: If the optimizer trains a variable that is in no layer.
    """
    optimizer = getattr(model, "optimizer", None)
    if optimizer is None:
        return None
    places = {id(variable): place for place, variable in by_place(model).items()}
    for variable in weights_of(optimizer):
        if id(variable) not in places:
            raise ValueError(
                f"The optimizer of '{model.name}' trains '{variable.path}', which is in no layer "
                "of the model, so that no checkpoint would hold it: make it a weight of a layer, "
                "or leave Survival out."
            )
    return [places[id(variable)] for variable in weights_of(optimizer)]


def seeds_of(model: keras.Model) -> list[Any]:
    """Returns the states of a model's random generators, which `.keras` files leave out."""
    return [v for v in model.variables if v.path.endswith("seed_generator_state")]


def made_to_be_trained(model: keras.Model) -> set[int]:
    """Returns the `id`s of the variables that layers have added as trainable ones."""
    return {id(v) for layer in flatten_layers(model) for v in own_weights_to_train(layer)}


def to_list(variable: keras.Variable) -> Any:
    """Returns the numbers of a variable as JSON holds them."""
    return keras.ops.convert_to_numpy(variable).tolist()


def _switched(model: keras.Model) -> list[str]:
    """Returns the places of variables that were frozen or thawed alone, which no config says."""
    made = made_to_be_trained(model)
    return [place for place, v in by_place(model).items() if v.trainable != (id(v) in made)]


def _stopped_by(callbacks: Sequence[keras.callbacks.Callback]) -> str | None:
    """Returns the class of a callback that has ended the training, as `EarlyStopping` does.

    Such a callback sets `stopped_epoch`. Others that set `stop_training`, after an hour perhaps,
    mean this call of `fit` alone.
    """
    stopped = (one for one in callbacks if getattr(one, "stopped_epoch", 0))
    return next((type(one).__name__ for one in stopped), None)


def _plain(value: Any) -> Any:
    if isinstance(value, (str, bool, int, float, type(None))):
        return value
    values = np.asarray(keras.ops.convert_to_numpy(value))
    return None if values.dtype == object else values.tolist()
