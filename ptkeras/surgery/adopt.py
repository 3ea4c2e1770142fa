"""Moves a new graph into an old model object, so that whoever holds the model holds the new one."""

from __future__ import annotations

import contextlib
import copy
import inspect
from collections.abc import Iterator, Mapping
from typing import Any

import keras

from ptkeras.channels.graph import Functional
from ptkeras.keras_compat.graph import GRAPH_ATTRIBUTES, functional_like_constructor
from ptkeras.keras_compat.torch_modules import track_parameters
from ptkeras.keras_compat.tracking import set_sublayers, sublayers, swap_rows
from ptkeras.surgery.changes import Changes


def adopt(model: keras.Model, new: keras.Model) -> None:
    """Makes `model` what `new` is; training state (compile, history, metrics) is left alone.

    Attributes of a user's subclass that hold a layer, or a list, tuple or dict of layers, hold the
    new ones of the same names.

    Args:
        model: the model to change, Functional or Sequential.
        new: a model of the same kind, which gets the former graph of `model`: two models over one
            graph would be taken for holders of the same layers until Python collects this one.
    """
    _renew_attributes(model, new)  # first: Keras tracks anew the layers in what is set
    if isinstance(model, keras.Sequential):
        swap_rows(model, new)
        keep_class(model)
    else:
        _adopt_graph(model, new)
    if keras.config.backend() == "torch":
        track_parameters(model)


def _adopt_graph(model: keras.Model, new: keras.Model) -> None:
    old_layers, new_layers = list(model.layers), list(new.layers)
    _swap_layers(model, old_layers, new_layers)
    _swap_layers(new, new_layers, old_layers)
    for name in GRAPH_ATTRIBUTES:
        # Past the tracking of Keras and TensorFlow, which would wrap the dicts and lists that the
        # user's inputs and outputs are in; Keras's own constructor goes past it too.
        vars(model)[name], vars(new)[name] = getattr(new, name), getattr(model, name)
    keep_class(model)


def _twins(old: keras.Model, new: keras.Model) -> dict[int, Any]:
    """The new layer for the `id` of each old one of its name, in nested models too."""
    by_name = {layer.name: layer for layer in new.layers}
    twins: dict[int, Any] = {}
    for layer in old.layers:
        twin = by_name.get(layer.name)
        if twin is not None:
            twins[id(layer)] = twin
        if isinstance(layer, keras.Model) and isinstance(twin, keras.Model):
            twins |= _twins(layer, twin)
    return twins


def _renew_attributes(model: keras.Model, new: keras.Model) -> None:
    """Points the attributes of a user's model at its new layers, for a `train_step` of its own."""
    twins = _twins(model, new)
    for name in _attributes(model) - _attributes(new):  # what every model has is Keras's own
        value = getattr(model, name)
        renewed = _renewed(value, twins)
        if renewed is not value:
            setattr(model, name, renewed)


def _attributes(model: keras.Model) -> set[str]:
    """The names of a model's attributes; PyTorch keeps modules in a place of their own."""
    return {*vars(model), *getattr(model, "_modules", {})}


def _renewed(value: Any, twins: Mapping[int, Any]) -> Any:
    """A layer's new self, or a list, tuple or dict with those in it; else the value itself."""
    if isinstance(value, keras.layers.Layer):
        return twins.get(id(value), value)
    if isinstance(value, dict):
        parts = {key: _renewed(each, twins) for key, each in value.items()}
        return parts if any(parts[key] is not value[key] for key in parts) else value
    if isinstance(value, (list, tuple)) and not hasattr(value, "_fields"):
        items = [_renewed(each, twins) for each in value]
        if any(new is not old for new, old in zip(items, value, strict=True)):
            return tuple(items) if isinstance(value, tuple) else items
    return value


def keep_class(model: keras.Model, changes: Changes | None = None) -> None:
    """Leaves a model its class if that saves the graph which the model now has.

    Args:
        model: a Functional or Sequential model.
        changes: the log that undoes it.
    """
    if _saves_its_graph(model):
        return
    if changes is not None:
        changes.on_undo(setattr, model, "__class__", type(model))
    in_a_row = isinstance(model, keras.Sequential)
    model.__class__ = (_sequential_class if in_a_row else _functional_class)(type(model))


def _saves_its_graph(model: keras.Model) -> bool:
    """Whether Keras would load a model's own graph, rather than have its class build the first."""
    cls = type(model)
    if isinstance(model, keras.Sequential):
        parameters = list(inspect.signature(cls.__init__).parameters.values())[1:]
        takes_layers = bool(parameters) and (
            parameters[0].name == "layers" or parameters[0].kind is inspect.Parameter.VAR_POSITIONAL
        )
    else:
        takes_layers = functional_like_constructor(cls)
    if not takes_layers or cls.get_config in (Functional.get_config, keras.Sequential.get_config):
        return takes_layers
    try:
        return "layers" in model.get_config()
    except Exception:  # a user's own, which may build on what is gone
        return False


def _swap_layers(model: keras.Model, old: list, new: list) -> None:
    listed = {id(layer) for layer in (*old, *new)}
    kept = [layer for layer in sublayers(model) if id(layer) not in listed]
    set_sublayers(model, new + kept)


def _functional_class(cls: type) -> type:
    """A class that trains as `cls` does, and saves, loads and clones as the graph that it now is.

    The constructor and `get_config` of a user's subclass describe the network that it built, not
    what became of it; under this name Keras serialises the graph itself.
    """
    namespace = {
        "__init__": Functional.__init__,
        "__new__": Functional.__new__,
        "__module__": Functional.__module__,
        "__doc__": cls.__doc__,
        "get_config": Functional.get_config,
        "from_config": Functional.from_config,
    }
    return type("Functional", (cls,), namespace)


def _sequential_class(cls: type) -> type:
    """The same for a subclass of `keras.Sequential`."""
    namespace = {
        "__init__": keras.Sequential.__init__,
        "__new__": keras.Sequential.__new__,
        "__module__": keras.Sequential.__module__,
        "__doc__": cls.__doc__,
        "get_config": keras.Sequential.get_config,
        "from_config": keras.Sequential.from_config,
    }
    return type("Sequential", (cls,), namespace)


@contextlib.contextmanager
def as_graph(model: keras.Model) -> Iterator[None]:
    """Has Keras take a model, Functional or Sequential, for its graph, whatever its class says."""
    cls = type(model)
    renamed = _sequential_class if isinstance(model, keras.Sequential) else _functional_class
    model.__class__ = renamed(cls)
    try:
        yield
    finally:
        model.__class__ = cls


def graph_config(model: keras.Model) -> dict:
    """The config of the graph of a model, whatever the `get_config` of its class says."""
    with as_graph(model):
        return model.get_config()


def graph_from_config(model: keras.Model, config: dict) -> keras.Model:
    """A new model of the kind of `model` from what `graph_config` returned."""
    kind = keras.Sequential if isinstance(model, keras.Sequential) else Functional
    return kind.from_config(copy.deepcopy(config))  # which Keras takes to pieces
