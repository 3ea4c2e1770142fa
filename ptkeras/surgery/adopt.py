"""Moves a new graph into an old model object, so that whoever holds the model holds the new one."""

from __future__ import annotations

import keras
from keras.src.models.functional import functional_like_constructor

from ptkeras.channels.graph import Functional

_GRAPH = (
    "_inputs_struct",
    "_outputs_struct",
    "_inputs",
    "_outputs",
    "_nodes",
    "_nodes_by_depth",
    "_operations",
    "_operations_by_depth",
    "output_names",
)


def adopt(model: keras.Model, new: keras.Model) -> None:
    """Makes `model` what `new` is; training state (compile, history, metrics) is left alone.

    Args:
        model: the model to change, Functional or Sequential.
        new: a model of the same kind.
    """
    if isinstance(model, keras.Sequential):
        for layer in (*model._layers, model._functional):
            model._tracker.untrack(layer)
        model._layers = list(new._layers)
        model._functional = new._functional
        return
    _swap_layers(model, list(model.layers), list(new.layers))
    for name in _GRAPH:
        # Past the tracking of Keras and TensorFlow, which would wrap the dicts and lists that the
        # user's inputs and outputs are in; Keras's own constructor goes past it too.
        vars(model)[name] = getattr(new, name)
    if not functional_like_constructor(type(model)):
        model.__class__ = _functional_class(type(model))


def _swap_layers(model: keras.Model, old: list, new: list) -> None:
    gone = {id(layer) for layer in old}
    kept = [layer for layer in model._layers if id(layer) not in gone]
    for layer in list(model._layers):
        model._tracker.untrack(layer)
    if model._layers is not model._tracker.config["layers"][1]:  # up to Keras 3.12
        model._layers = new + kept
        return
    model._layers[:] = []
    for layer in new + kept:
        if not model._tracker.is_in_store("layers", layer):
            model._tracker.add_to_store("layers", layer)


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


def graph_config(model: keras.Model) -> dict:
    """The config of the graph of a model, whatever the `get_config` of its class says."""
    if isinstance(model, keras.Sequential):
        return keras.Sequential.get_config(model)
    if not functional_like_constructor(type(model)):
        model.__class__ = _functional_class(type(model))
    return Functional.get_config(model)


def graph_from_config(model: keras.Model, config: dict) -> keras.Model:
    """A new model of the kind of `model` from what `graph_config` returned."""
    kind = keras.Sequential if isinstance(model, keras.Sequential) else Functional
    return kind.from_config(config)
