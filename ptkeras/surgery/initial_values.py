"""What new variables start from while a model is built anew: the numbers they will hold."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

Find = Callable[[Any, str], "np.ndarray | None"]
_POSITIONAL = ("shape", "initializer", "dtype", "trainable", "autocast")


class InitialValues:
    """Context in which new variables start from given numbers, or else from zero.

    Drawing random weights to throw them away, and then writing over them, takes half the time of
    building a network. (No initializer of a config could say the same without being saved.)

    ```python
    with InitialValues():
        network = keras.applications.VGG16(weights=None)  # all zeros
    ```

    Args:
        find: a function of a layer and the name of its new variable that returns the numbers to
            start from, or None where they are not known.

    Attributes:
        given: the variables that got their numbers so, by `id`.
    """

    def __init__(self, find: Find = lambda layer, name: None) -> None:
        self.find = find
        self.given: dict[int, keras.Variable] = {}

    def __enter__(self) -> InitialValues:
        self._add_weight = keras.layers.Layer.add_weight

        def add_weight(layer: Any, *args: Any, **kwargs: Any) -> Any:
            return self._add(layer, **dict(zip(_POSITIONAL, args, strict=False)), **kwargs)

        keras.layers.Layer.add_weight = add_weight
        return self

    def __exit__(self, *_: object) -> None:
        keras.layers.Layer.add_weight = self._add_weight

    def _add(self, layer: Any, **kwargs: Any) -> Any:
        values = self.find(layer, kwargs.get("name"))
        if values is None or values.shape != tuple(kwargs.get("shape") or ()):
            return self._add_weight(layer, **kwargs | {"initializer": "zeros"})

        def initializer(shape: tuple[int, ...], dtype: Any = None) -> Any:
            return keras.ops.convert_to_tensor(values, dtype)

        with _without_name_scope():
            variable = self._add_weight(layer, **kwargs | {"initializer": initializer})
        self.given[id(variable)] = variable
        return variable


def _without_name_scope() -> contextlib.AbstractContextManager:
    """Variables named alike, on TensorFlow, for which a new name costs five times the variable.

    TensorFlow keeps a kernel for each shape and full name that a variable is made with. The path
    by which Keras knows the variable is another thing, and has the layer in it.
    """
    if keras.config.backend() != "tensorflow":
        return contextlib.nullcontext()
    import tensorflow as tf

    return tf.name_scope("")
