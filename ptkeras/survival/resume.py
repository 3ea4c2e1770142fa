"""How a training takes up what a checkpoint holds; `contents` says what that is."""

from __future__ import annotations

import csv
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from ptkeras.channels.graph import has_graph
from ptkeras.keras_compat.random import global_seed_generator
from ptkeras.keras_compat.saving import SafeModeScope
from ptkeras.keras_compat.trainers import symbolic_build
from ptkeras.magnitude.held_mask import HeldMask, mask_of
from ptkeras.surgery.adopt import adopt, graph_config, graph_from_config
from ptkeras.surgery.functions import refresh_functions
from ptkeras.surgery.places import by_place
from ptkeras.surgery.reconfigure import scope_of
from ptkeras.surgery.replay import remove_again
from ptkeras.surgery.twins import carry_over, renew
from ptkeras.survival.contents import (
    RANDOM_CUDA,
    RANDOM_KERAS,
    RANDOM_TORCH,
    made_to_be_trained,
    seeds_of,
    slots_of,
)
from ptkeras.survival.keras_callbacks import KerasState
from ptkeras.utils.files import aside


def check_built(model: keras.Model) -> None:
    """Checks that a model has its weights, or a graph that says which it will have.

    Raises:
        ValueError: If it has neither.
    """
    if not has_graph(model) and not model.built:
        raise ValueError(
            f"'{model.name}' has no graph and no weights yet: call it on a batch of data, or build "
            "it, before fit, so that Survival can give it the saved ones."
        )


def check_loads(model: keras.Model) -> None:
    """Checks before the training that its checkpoints can be loaded again.

    Raises:
        ValueError: If they cannot.
    """
    slots_of(model)
    if not has_graph(model):
        return
    try:
        with SafeModeScope(True):
            graph_from_config(model, graph_config(model))
    except Exception as error:
        reason = str(error).strip().split("\n")[0].split(". ")[0].rstrip(".")
        raise ValueError(
            f"The checkpoints of '{model.name}' could not be loaded again, since Keras refuses its "
            f"config in safe mode ({reason}): register what it holds with "
            "keras.saving.register_keras_serializable, and write a Lambda as a layer."
        ) from error


def restore(model: keras.Model, path: Path, state: Mapping[str, Any]) -> None:
    """Moves the saved graph into the model, and then the saved numbers.

    A model without a graph loses the channels that the saved one had lost, in place.

    Args:
        model: a model, compiled and as it was built first.
        path: a checkpoint.
        state: the state in it, from `contents.state_of`.

    Raises:
        ValueError: If an optimizer that `compile` does not know is not built.
    """
    former = by_place(model)
    with scope_of(model):  # an optimizer notes its strategy when it is made
        if has_graph(model):
            adopt(model, keras.models.load_model(path, compile=False))
        else:
            remove_again(model, state.get("removals", {}))
        now = by_place(model)
        pairs = [(before, now[place]) for place, before in former.items() if place in now]
        for before, after in pairs:
            _copy_attachments(before, after)
        _switch(model, set(state["switched"]))
        if state["optimizer"] is not None:
            renew(model.optimizer, [now[place] for place in state["optimizer"]], pairs)
        _load_numbers(model, path)
        if state["optimizer"] is not None:
            # The slots are saved in the order of another process; Keras pairs them by position.
            same = {id(v): v for v in model.trainable_variables}
            carry_over(
                model.optimizer, model.trainable_variables, same, lambda v, values, axes: values
            )
        for variable, value in zip(seeds_of(model), state["seeds"], strict=True):
            variable.assign(value)
        refresh_functions(model)


def restore_metrics(model: keras.Model, values: Sequence[Any], data: Any) -> None:
    """Gives the metrics what they had counted in the part of an epoch that is not run again.

    Args:
        model: the model.
        values: a list of numbers for each variable of the metrics.
        data: what `fit` trains on, a `tf.data.Dataset`.
    """
    if len(model.metrics_variables) < len(values):  # those of `compile` come with the first step
        with scope_of(model):
            symbolic_build(model, data.element_spec)
    for variable, value in zip(model.metrics_variables, values, strict=True):
        variable.assign(value)


def restore_arrays(
    stateful: Sequence[Any], states: Sequence[Any], arrays: Mapping[str, np.ndarray]
) -> None:
    """Gives the callbacks of Keras their best weights.

    Args:
        stateful: the objects whose state was saved.
        states: their states in the checkpoint.
        arrays: its arrays, from `contents.arrays_of`.
    """
    for i, (one, state) in enumerate(zip(stateful, states, strict=True)):
        if isinstance(one, KerasState):
            count = sum(name.startswith(f"{i}_") for name in arrays)
            one.set_arrays([arrays[f"{i}_{j}"] for j in range(count)], state)


def restore_generators(model: keras.Model, arrays: Mapping[str, np.ndarray]) -> None:
    """Restores the generators that `keras.random` and PyTorch draw from without a seed.

    Args:
        model: the model, in whose scope a generator is made.
        arrays: from `contents.arrays_of` under the same backend. The state of a GPU that is no
            longer there is left out.
    """
    if RANDOM_KERAS in arrays:
        with scope_of(model):
            global_seed_generator().state.assign(arrays[RANDOM_KERAS])
    if RANDOM_TORCH in arrays:
        import torch

        torch.set_rng_state(torch.from_numpy(arrays[RANDOM_TORCH]))
        for number in range(torch.cuda.device_count()):
            if f"{RANDOM_CUDA}{number}" in arrays:
                torch.cuda.set_rng_state(torch.from_numpy(arrays[f"{RANDOM_CUDA}{number}"]), number)


def restore_history(model: keras.Model, past: Mapping[str, Any]) -> None:
    """Gives the History of a `fit` the epochs that are not run again.

    Args:
        model: the model.
        past: from `contents.history_of`.
    """
    if isinstance(model.history, keras.callbacks.History):
        model.history.epoch[:] = past["epochs"]
        model.history.history = {name: list(values) for name, values in past["figures"].items()}


def keep_rows(callbacks: Sequence[keras.callbacks.Callback], epochs: int) -> None:
    """Makes Keras's CSVLogger keep the rows of the epochs that are not run again, and no others.

    Args:
        callbacks: those of a `fit`, before `on_train_begin`.
        epochs: the number of epochs that are not run again.
    """
    for one in callbacks:
        if isinstance(one, keras.callbacks.CSVLogger) and epochs:
            one.append = True
            _cut(Path(one.filename), one.sep, epochs)


def _cut(path: Path, separator: str, epochs: int) -> None:
    """Removes the rows of a file after that of the last epoch."""
    if not path.is_file():
        return
    with path.open(newline="") as file:
        rows = list(csv.reader(file, delimiter=separator))
    last = [i for i, row in enumerate(rows) if row[:1] == [str(epochs - 1)]]
    if not last or last[-1] == len(rows) - 1:
        return  # no row of this training, or nothing to remove
    with aside(path) as new, new.open("w", newline="") as file:
        csv.writer(file, delimiter=separator).writerows(rows[: last[-1] + 1])


def _copy_attachments(former: keras.Variable, variable: keras.Variable) -> None:
    """Gives a variable the regularizer and constraint of its former self, which no config holds."""
    if variable is former:
        return
    variable.regularizer = variable.regularizer or former.regularizer
    held = mask_of(former)
    if held is None:
        variable.constraint = variable.constraint or former.constraint
    elif held.mask.shape == variable.shape:
        variable.constraint = HeldMask(held.mask, held.lifted, variable.constraint or held.base)


def _switch(model: keras.Model, switched: set[str]) -> None:
    made = made_to_be_trained(model)
    for place, variable in by_place(model).items():
        trainable = (id(variable) in made) != (place in switched)
        if variable.trainable != trainable:
            variable.trainable = trainable


def _load_numbers(model: keras.Model, path: Path) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model.load_weights(path)
    for one in caught:
        if str(one.message).startswith("Skipping variable loading for optimizer"):
            # Without its slots a training would go on, and not end where it would have ended.
            raise ValueError(
                f"An optimizer of '{model.name}' does not fit the one in '{path}': build those "
                "that compile does not know before fit, each on the same weights as ever."
            )
        warnings.warn_explicit(one.message, one.category, one.filename, one.lineno)
