"""What of a model a checkpoint holds beside its `.keras` file, and how a model becomes it again."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np

from ptkeras.channels.graph import has_graph
from ptkeras.keras_compat.random import global_seed_generator, known_global_seed_generator
from ptkeras.keras_compat.saving import SafeModeScope
from ptkeras.magnitude.held_mask import HeldMask, mask_of
from ptkeras.surgery.adopt import adopt, as_graph, graph_config, graph_from_config
from ptkeras.surgery.functions import refresh_functions
from ptkeras.surgery.places import by_place
from ptkeras.surgery.reconfigure import scope_of
from ptkeras.surgery.removals import removals_of
from ptkeras.surgery.replay import remove_again
from ptkeras.surgery.twins import carry_over, renew

_KERAS, _TORCH, _CUDA = "random_keras", "random_torch", "random_cuda_"


def check_built(model: keras.Model) -> None:
    """Refuses a model whose weights are not made yet, unless its graph says which they will be.

    Raises:
        ValueError: so it is.
    """
    if not has_graph(model) and not model.built:
        raise ValueError(
            f"'{model.name}' has no graph and no weights yet: call it on a batch of data, or build "
            "it, before fit, so that Survival can give it the saved ones."
        )


def check_loads(model: keras.Model) -> None:
    """Finds out before the training whether its checkpoints could be loaded again.

    Raises:
        ValueError: they could not.
    """
    _places_of_slots(model)
    if not has_graph(model):
        return
    try:
        with SafeModeScope(True):
            graph_from_config(model, graph_config(model))
    except Exception as error:
        raise ValueError(
            f"The checkpoints of '{model.name}' could not be loaded again, since Keras refuses its "
            f"config in safe mode ({_first_sentence(error)}): register what it holds with "
            "keras.saving.register_keras_serializable, and write a Lambda as a layer."
        ) from error


def state_of(model: keras.Model) -> dict[str, Any]:
    """What `restore` needs beside the file of the model, as JSON holds it."""
    return {
        "optimizer": _places_of_slots(model),
        "switched": _switched(model),
        "seeds": [to_list(v) for v in _seeds(model)],
        "removals": {} if has_graph(model) else removals_of(model),
    }


@contextlib.contextmanager
def savable(model: keras.Model) -> Iterator[None]:
    """Has `model.save` write what `restore` reads, however the user's class describes itself.

    A model that has a graph is saved by it, so that its class need not be registered. Another one
    is restored by its weights alone, and its config may be what Keras cannot write.
    """
    if has_graph(model):
        with as_graph(model):
            yield
        return
    cls = type(model)
    try:
        keras.saving.serialize_keras_object(model)
    except Exception:
        bare = {"__module__": cls.__module__, "get_config": lambda self: {}}
        model.__class__ = type(cls.__name__, (cls,), bare)
    try:
        yield
    finally:
        model.__class__ = cls


def restore(model: keras.Model, path: Path, state: Mapping[str, Any]) -> None:
    """Moves the saved graph into the model, and the saved numbers into that.

    A model without a graph loses the channels that the saved one had lost, where it is.

    Args:
        model: a model, compiled and as it was built first.
        path: a checkpoint.
        state: what `state_of` returned beside it.

    Raises:
        ValueError: an optimiser of the model, which `compile` does not know, is not built.
    """
    former = by_place(model)
    with scope_of(model):
        if has_graph(model):
            adopt(model, keras.models.load_model(path, compile=False))
        else:
            remove_again(model, state.get("removals", {}))
        now = by_place(model)
        pairs = [(before, now[place]) for place, before in former.items() if place in now]
        for before, after in pairs:
            _hang_on(after, before)
        _switch(model, set(state["switched"]))
        if state["optimizer"] is not None:
            renew(model.optimizer, [now[place] for place in state["optimizer"]], pairs)
    _load_numbers(model, path)
    if state["optimizer"] is not None:
        # The slots are saved in the order of another process; Keras pairs them by position.
        same = {id(v): v for v in model.trainable_variables}
        carry_over(model.optimizer, model.trainable_variables, same, lambda v, values, axes: values)
    for variable, value in zip(_seeds(model), state["seeds"], strict=True):
        variable.assign(value)
    refresh_functions(model)


def generators() -> dict[str, np.ndarray]:
    """The states of the generators that `keras.random` draws from where it is given no seed.

    By names under which they may lie among other arrays of a checkpoint.
    """
    found = {}
    own = known_global_seed_generator()
    if own is not None:
        found[_KERAS] = keras.ops.convert_to_numpy(own.state)
    if keras.config.backend() == "torch":
        import torch

        found[_TORCH] = torch.get_rng_state().numpy()
        if torch.cuda.is_available():
            for number, state in enumerate(torch.cuda.get_rng_state_all()):
                found[f"{_CUDA}{number}"] = state.numpy()
    return found


def set_generators(model: keras.Model, arrays: Mapping[str, np.ndarray]) -> None:
    """Takes back what `generators` returned.

    Args:
        model: the model, in whose scope a generator is made.
        arrays: from the same backend, maybe among others; a GPU that is no longer there is left
            out.
    """
    if _KERAS in arrays:
        with scope_of(model):
            global_seed_generator().state.assign(arrays[_KERAS])
    if _TORCH in arrays:
        import torch

        torch.set_rng_state(torch.from_numpy(arrays[_TORCH]))
        for number in range(torch.cuda.device_count()):
            if f"{_CUDA}{number}" in arrays:
                torch.cuda.set_rng_state(torch.from_numpy(arrays[f"{_CUDA}{number}"]), number)


def to_list(variable: keras.Variable) -> Any:
    """The numbers of a variable, as JSON holds them."""
    return keras.ops.convert_to_numpy(variable).tolist()


def _places_of_slots(model: keras.Model) -> list[str] | None:
    """Where the weights are, in the order of the optimiser's slots; None without an optimiser."""
    optimizer = getattr(model, "optimizer", None)
    if optimizer is None:
        return None
    places = {id(variable): place for place, variable in by_place(model).items()}
    for variable in optimizer._trainable_variables:
        if id(variable) not in places:
            raise ValueError(
                f"The optimizer of '{model.name}' trains '{variable.path}', which is in no layer "
                "of the model, so that no checkpoint would hold it: make it a weight of a layer, "
                "or leave Survival out."
            )
    return [places[id(v)] for v in optimizer._trainable_variables]


def _hang_on(variable: keras.Variable, former: keras.Variable) -> None:
    """Gives a variable what hung on its former self, which is not in a saved config."""
    if variable is former:
        return
    variable.regularizer = variable.regularizer or former.regularizer
    held = mask_of(former)
    if held is None:
        variable.constraint = variable.constraint or former.constraint
    elif held.mask.shape == variable.shape:
        variable.constraint = HeldMask(held.mask, held.lifted, variable.constraint or held.base)


def _switched(model: keras.Model) -> list[str]:
    """Where the variables are that a user froze or thawed one by one, which no config says."""
    made = _made_to_be_trained(model)
    return [place for place, v in by_place(model).items() if v.trainable != (id(v) in made)]


def _switch(model: keras.Model, switched: Collection[str]) -> None:
    made = _made_to_be_trained(model)
    for place, variable in by_place(model).items():
        trainable = (id(variable) in made) != (place in switched)
        if variable.trainable != trainable:
            variable.trainable = trainable


def _made_to_be_trained(model: keras.Model) -> set[int]:
    return {id(v) for layer in model._flatten_layers() for v in layer._trainable_variables}


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


def _first_sentence(error: Exception) -> str:
    return str(error).strip().split("\n")[0].split(". ")[0].rstrip(".")


def _seeds(model: keras.Model) -> list[Any]:
    """The states of random generators, dropout's among them; `.keras` files leave them out."""
    return [v for v in model.variables if v.path.endswith("seed_generator_state")]
