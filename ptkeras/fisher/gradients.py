"""Gradients with respect to any variables of a model, on whatever backend Keras runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np

# From the values that it is differentiated by to a scalar, and more that is wanted beside it.
Function = Callable[[list[Any]], tuple[Any, Any]]


def gradients(function: Callable[[], Any], variables: list[keras.Variable]) -> list[np.ndarray]:
    """The gradient of a scalar with respect to variables, be they trainable or not.

    Args:
        function: computes the scalar from the variables; what it assigns to variables meanwhile is
            forgotten.
        variables: the variables.

    Returns:
        An array of the shape of each variable; zeros where the scalar does not depend on it.
    """

    def scalar(values: list[Any]) -> tuple[Any, Any]:
        with keras.StatelessScope(state_mapping=list(zip(variables, values, strict=True))):
            return keras.ops.cast(function(), "float32"), None

    return gradients_at(scalar, [v.value for v in variables])[0]


def gradients_at(function: Function, values: list[Any]) -> tuple[list[np.ndarray], Any]:
    """The gradient of a scalar at some values, and what was computed on the way to it.

    Args:
        function: computes, from tensors, the scalar and a structure of more tensors.
        values: the tensors.

    Returns:
        An array of the shape of each value, zeros where the scalar does not depend on it; and the
        structure, of arrays.
    """
    slopes, more = _BACKENDS[keras.config.backend()](function, values)
    slopes = [
        np.zeros(v.shape) if g is None else keras.ops.convert_to_numpy(g)
        for v, g in zip(values, slopes, strict=True)
    ]
    return slopes, keras.tree.map_structure(keras.ops.convert_to_numpy, more)


# A backend is imported where it is the one that runs: none of them need be installed.


def _tensorflow(function: Function, values: list[Any]) -> tuple[list[Any], Any]:
    import tensorflow as tf

    values = [tf.convert_to_tensor(v) for v in values]
    with tf.GradientTape() as tape:
        tape.watch(values)
        result, more = function(values)
    slopes = tape.gradient(result, values)
    return [tf.convert_to_tensor(g) if g is not None else None for g in slopes], more


def _jax(function: Function, values: list[Any]) -> tuple[list[Any], Any]:
    import jax

    return jax.grad(function, has_aux=True)(values)


def _torch(function: Function, values: list[Any]) -> tuple[list[Any], Any]:
    import torch

    values = [v.detach().clone().requires_grad_() for v in values]
    result, more = function(values)
    return list(torch.autograd.grad(result, values, allow_unused=True)), more


_BACKENDS = {"tensorflow": _tensorflow, "jax": _jax, "torch": _torch}
