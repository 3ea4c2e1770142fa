"""Layers of the user's whose config says a size: kept true where it can be, refused where not.

Keras saves a layer by its config, and builds it from that before it loads the weights. A layer that
has become smaller has to say so, or the file could never be loaded.
"""

from __future__ import annotations

import copy
import inspect
import types
import warnings
from typing import Any

import keras

from ptkeras.keras_compat.saving import SafeModeScope
from ptkeras.surgery.changes import Changes

_INPUTS = "_ptkeras_called_on"


def described_sizes(layer: Any, former: dict[int, tuple[int, ...]]) -> dict[str, int]:
    """Returns attributes of a layer that seem to say its size, with their new values.

    They are arguments of its constructor and attributes by the same names, integers, equal to a
    former size of its variables that has one new size.

    Args:
        layer: a layer of the user's, whose variables have their new sizes.
        former: the former shapes of variables that have changed, by `id`.
    """
    new: dict[int, set[int]] = {}
    for variable in layer.variables:
        shape = tuple(variable.shape)
        for before, after in zip(former.get(id(variable), shape), shape, strict=True):
            new.setdefault(before, set()).add(after)
    found = {}
    for name in inspect.signature(type(layer).__init__).parameters:
        value = vars(layer).get(name)
        after = new.get(value) if type(value) is int else None
        if after is not None and len(after) == 1 and value not in after:
            found[name] = next(iter(after))
    return found


def is_of_user(layer: Any) -> bool:
    """Whether a class is neither Keras's own nor ours."""
    home = type(layer).__module__.split(".")[0]
    return isinstance(layer, keras.layers.Layer) and home not in ("keras", "ptkeras")


def guard(layer: Any, node: Any, changes: Changes) -> None:
    """Has a layer refuse to be saved by a config that does not say its size.

    Args:
        layer: a layer of the user's that has become smaller.
        node: its call in the graph of a model; None for a model whose `call` is Python code.
        changes: the log that undoes it.
    """
    changes.set(layer, _INPUTS, None if node is None else node.arguments)
    changes.set(layer, "get_config", types.MethodType(_checked_config, layer))


def _checked_config(layer: Any) -> dict:
    """The config of a layer, if a layer that is made from it has the sizes of this one.

    Raises:
        ValueError: If it has not.
    """
    own = vars(layer)
    checked = own.pop("get_config")  # Keras asks whether a class has a config of its own
    try:
        config = layer.get_config()
    finally:
        own["get_config"] = checked
    if not _describes(layer, config):
        kind = "model" if isinstance(layer, keras.Model) else "layer"
        raise ValueError(
            f"The config of the {kind} '{layer.name}' (a {type(layer).__name__}) does not say the "
            "sizes that it has after pruning, so that a file of it could not be loaded: save "
            "ptkeras.as_functional(model) instead, or save the weights alone with save_weights."
        )
    return config


def _describes(layer: Any, config: dict) -> bool:
    try:
        # The config comes from a layer of this process.
        with SafeModeScope(False), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            new = type(layer).from_config(copy.deepcopy(config))
            arguments = own_arguments(layer)
            if arguments is None:
                new.build_from_config(layer.get_build_config() or {})
            else:
                args, kwargs = arguments
                new(*args, **kwargs)
    except Exception:  # a config that cannot be used describes nothing
        return False
    return _shapes(new) == _shapes(layer)


def own_arguments(layer: Any) -> tuple[tuple, dict] | None:
    """Symbolic tensors like those that a layer is called on in its graph."""
    arguments = vars(layer).get(_INPUTS)
    if arguments is None:
        return None
    return arguments.convert(
        lambda x: keras.KerasTensor(x.shape, x.dtype) if isinstance(x, keras.KerasTensor) else x
    )


def _shapes(layer: Any) -> list[tuple[int, ...]]:
    return [tuple(v.shape) for v in layer.variables]
