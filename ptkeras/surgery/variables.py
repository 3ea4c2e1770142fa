"""Variables that get smaller, or larger, and stay the objects that they are."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import keras
import numpy as np

from ptkeras.keras_compat.variables import (
    as_watched,
    dtype_of,
    initialize,
    set_shape,
    set_value,
    shape_of,
    tensor_for,
    value_of,
)
from ptkeras.surgery.changes import Changes


class Gate(NamedTuple):
    """Which channels a layer at a shortcut keeps for itself (channel gating).

    Attributes:
        inputs: a bool per position of the kernel's input axis.
        outputs: a bool per position of its output axis.
    """

    inputs: np.ndarray
    outputs: np.ndarray


def kept_positions(
    slices: Mapping[tuple[int, int], Any],
    keep: np.ndarray,
    gates: Mapping[int, Gate],
    variable: keras.Variable,
) -> list[np.ndarray]:
    """Returns for each axis of a variable the positions that are kept."""
    result = []
    for axis, size in enumerate(shape_of(variable)):
        kept = np.ones(size, bool)
        row = slices.get((id(variable), axis))
        if row is not None:
            kept = keep[row.channels]
            gate = gates.get(id(row.layer))
            if gate is not None:
                kept = kept & (gate.inputs if row.role == "input" else gate.outputs)
        result.append(np.flatnonzero(kept))
    return result


def take(values: np.ndarray, positions: list[np.ndarray]) -> np.ndarray:
    """Returns the numbers of an array at some positions of each axis."""
    for axis, kept in enumerate(positions):
        if len(kept) != values.shape[axis] or not np.array_equal(kept, np.arange(len(kept))):
            values = values.take(kept, axis)
    return values


def check_resizable(model: keras.Model) -> None:
    """Raises a ValueError if a constraint on a variable of a model needs the variable's size.

    Such a constraint has an attribute `holds_size`, a sentence that says why and what to do, with
    `{model}` for the model's name.
    """
    for variable in model.variables:
        sentence = getattr(variable.constraint, "holds_size", None)
        if sentence is not None:
            raise ValueError(sentence.format(model=model.name))


def fill(variable: keras.Variable, values: np.ndarray, changes: Changes) -> None:
    """Gives a variable other numbers, of any shape of its rank.

    The `keras.Variable` stays the object that layers, optimizers and the user hold. What the
    backend keeps in it becomes new on TensorFlow and JAX, whose tensors have one shape for life;
    on PyTorch the `Parameter` stays too.

    Args:
        variable: the variable.
        values: the numbers.
        changes: the log that undoes it.
    """
    changes.on_undo(_Former(variable))
    _set(variable, values)


class _Former:
    """What a variable was, to be put back.

    Args:
        variable: the variable.
    """

    def __init__(self, variable: keras.Variable) -> None:
        self.variable = variable
        self.shape = shape_of(variable)
        self.value = value_of(variable)
        if keras.config.backend() == "torch":
            self.value, self.grad = self.value.data, self.value.grad

    def forget(self) -> None:
        """Lets go of the numbers, which zeros are going to stand for."""
        self.value = self.grad = None

    def __call__(self) -> None:
        if self.value is None:
            _set(self.variable, np.zeros(self.shape, _numpy_type(self.variable)))
        elif keras.config.backend() == "torch":
            parameter = value_of(self.variable)
            _set_data(parameter, self.value)
            parameter.grad = self.grad
        else:
            set_value(self.variable, self.value)
        set_shape(self.variable, self.shape)


def _numpy_type(variable: keras.Variable) -> str:
    dtype = dtype_of(variable)
    return "float32" if "float" in dtype else dtype


def _set(variable: keras.Variable, values: np.ndarray) -> None:
    if keras.config.backend() == "torch":
        import torch

        parameter = value_of(variable)
        with torch.no_grad():
            new = tensor_for(variable, values).to(parameter.device)
        _set_data(parameter, new)
    else:
        with _without_name_scope(), as_watched(variable):
            initialize(variable, _native(variable, values))
    set_shape(variable, tuple(values.shape))


def _set_data(parameter: Any, value: Any) -> None:
    """Gives a parameter of PyTorch another tensor, maybe of another shape.

    While a graph that has read the parameter is alive, because somebody holds the last loss,
    PyTorch keeps the accumulator of its gradient, with the former shape, unless the type changes.
    """
    import torch

    parameter.grad = None
    other = torch.float32 if parameter.dtype == torch.float64 else torch.float64
    parameter.data = torch.empty(0, dtype=other, device=parameter.device)
    parameter.data = value


def _native(variable: keras.Variable, values: np.ndarray) -> Any:
    if keras.config.backend() == "tensorflow":
        return values  # tf.Variable converts it, once
    return tensor_for(variable, values)


def _without_name_scope() -> contextlib.AbstractContextManager:
    """Has TensorFlow name variables alike, since a new name costs five times the variable.

    TensorFlow keeps a kernel for each shape and full name that a variable is made with. The path
    by which Keras knows the variable is another thing, and has the layer in it.
    """
    if keras.config.backend() != "tensorflow":
        return contextlib.nullcontext()
    import tensorflow as tf

    return tf.name_scope("")
