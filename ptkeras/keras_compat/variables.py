"""What a `keras.Variable` is made of.

All names are private in Keras 3.12 to 3.15, and most since Keras 3.0. A public way to give a
variable another shape would make all but `shape_of` needless.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import keras

# Attributes behind properties that do more than set them; all of Keras 3.12 to 3.15.
HOOKS = ("_regularizer", "_constraint")


def shape_of(variable: keras.Variable) -> tuple[int, ...]:
    """Returns the shape of a variable.

    `Variable.shape` makes a new `TensorShape` at each look on TensorFlow (Keras 3.0 to 3.15), which
    takes a tenth of the time of a reconfiguration. The tuple that it is made of is private.
    """
    return tuple(variable._shape)


def set_shape(variable: keras.Variable, shape: tuple[int, ...]) -> None:
    """Sets the shape that a variable says; what is in it stays."""
    variable._shape = shape


def dtype_of(variable: keras.Variable) -> str:
    """Returns the type that a variable has.

    `Variable.dtype` is that which it is cast to, within a call in half precision.
    """
    return variable._dtype


def value_of(variable: keras.Variable) -> Any:
    """Returns what the backend keeps in a variable; None if it has no numbers yet.

    `Variable.value` casts it, or returns what a stateless scope has in its place.
    """
    return variable._value


def set_value(variable: keras.Variable, value: Any) -> None:
    """Sets what the backend keeps in a variable, which `assign` would copy into what it has."""
    variable._value = value


def initialize(variable: keras.Variable, value: Any) -> None:
    """Makes what the backend keeps in a variable, as a new one does."""
    variable._initialize(value)


def tensor_for(variable: keras.Variable, values: Any) -> Any:
    """Returns numbers as the tensor that a variable makes of them."""
    return variable._convert_to_tensor(values, dtype=variable._dtype)


@contextlib.contextmanager
def as_watched(variable: keras.Variable) -> Iterator[None]:
    """Has TensorFlow watch a new tensor if it watched the former one.

    It never watches what is made while a layer is frozen, and that may train again later.
    """
    trainable = variable._trainable
    vars(variable)["_trainable"] = getattr(variable._value, "trainable", trainable)
    try:
        yield
    finally:
        vars(variable)["_trainable"] = trainable
