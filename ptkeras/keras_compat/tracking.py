"""The layers and variables that a layer holds, and Keras's record of them.

Keras collects them from attributes as they are set. `Model.layers` and `Layer.variables` are
public, but cannot tell a layer's own from those of layers inside of it, and cannot be edited. All
names are private in Keras 3.12 to 3.15.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import keras

# The attribute with the list of `sublayers`, for a log of changes.
SUBLAYERS = "_layers"

# Attributes of a layer that record what it holds, and compute nothing. Since Keras 3.0; a public
# way to copy a layer's attributes would make this needless.
RECORDS = frozenset(
    ("_tracker", "_metrics", "_trainable_variables", "_non_trainable_variables", "_seed_generators")
)


def flatten_layers(
    layer: keras.layers.Layer, include_self: bool = True, recursive: bool = True
) -> list[Any]:
    """Returns a layer and the layers in it, at any depth and in order.

    Since Keras 3.0. Public is `Model.layers`, which lists one level of a model; a public walk over
    any layer would make this needless.

    Args:
        layer: a layer or model.
        include_self: whether the layer itself comes first.
        recursive: whether to list the layers inside of those that it holds.
    """
    return layer._flatten_layers(include_self=include_self, recursive=recursive)


def sublayers(layer: Any) -> list[Any]:
    """Returns the very list of the layers that a layer holds; none for an operation.

    Since Keras 3.0. A public `Layer.layers` would make this needless.
    """
    return getattr(layer, SUBLAYERS, [])


def own_variables(layer: keras.layers.Layer) -> list[keras.Variable]:
    """Returns the variables of a layer itself, without those of layers in it.

    Since Keras 3.0. `Layer.variables` has both; a public flag of it would make this needless.
    """
    return [*layer._trainable_variables, *layer._non_trainable_variables]


def own_weights_to_train(layer: keras.layers.Layer) -> list[keras.Variable]:
    """Returns the very list of the variables that a layer has added as trainable, frozen or not.

    Since Keras 3.0. `Layer.trainable_variables` is empty if the layer is frozen; a public list of
    what was added would make this needless.
    """
    return layer._trainable_variables


@contextlib.contextmanager
def unlocked(layer: keras.layers.Layer) -> Iterator[None]:
    """Context in which a built layer may get variables.

    Since Keras 3.0, which locks a layer after `build`. A public way to add a weight to a built
    layer would make this needless.
    """
    layer._tracker.unlock()
    try:
        yield
    finally:
        layer._tracker.lock()


def set_sublayers(model: keras.Model, layers: list[Any]) -> None:
    """Has a model hold these layers in place of those that it holds.

    Since Keras 3.0. A public way to replace the graph of a model would make this needless.
    """
    for layer in list(model._layers):
        model._tracker.untrack(layer)
    if model._layers is not model._tracker.config["layers"][1]:  # up to Keras 3.12
        model._layers = layers
        return
    model._layers[:] = []
    for layer in layers:
        if not model._tracker.is_in_store("layers", layer):
            model._tracker.add_to_store("layers", layer)


def swap_rows(model: keras.Sequential, other: keras.Sequential) -> None:
    """Swaps the layers of two Sequential models, and the graphs that are made of them.

    Since Keras 3.0. `Sequential.pop` and `add` are public, but build the graph of each step again;
    a public way to replace all layers would make this needless.
    """
    for one in (model, other):
        for layer in (*one._layers, one._functional):
            one._tracker.untrack(layer)
    model._layers, other._layers = list(other._layers), list(model._layers)
    model._functional, other._functional = other._functional, model._functional


def ids_of_sublayers(model: keras.Model) -> set[int]:
    """Returns the very set of the `id`s by which a model knows the layers that it holds.

    All of Keras 3.12 to 3.15. It goes with the list of `sublayers`; what would make that needless
    would do here, too.
    """
    return model._tracker.stored_ids["layers"]


def renew_ids(tracker: Any) -> None:
    """Has a copied `Tracker` know what it holds, which it knows by `id`.

    All of Keras 3.12 to 3.15. A public copy of models with their state would make this needless.
    """
    tracker.stored_ids = {
        name: {id(x) for x in store} for name, (_, store) in tracker.config.items()
    }
