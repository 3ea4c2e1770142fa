"""Gradients with respect to any variables of a model, on whatever backend Keras runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np


def gradients(function: Callable[[], Any], variables: list[keras.Variable]) -> list[np.ndarray]:
    """The gradient of a scalar with respect to variables, be they trainable or not.

    Args:
        function: computes the scalar from the variables; what it assigns to variables meanwhile is
            forgotten.
        variables: the variables.

    Returns:
        An array of the shape of each variable; zeros where the scalar does not depend on it.
    """

    def scalar(values: list[Any]) -> Any:
        with keras.StatelessScope(state_mapping=list(zip(variables, values, strict=True))):
            return keras.ops.cast(function(), "float32")

    slopes = _BACKENDS[keras.config.backend()](scalar, [v.value for v in variables])
    return [
        np.zeros(v.shape) if g is None else keras.ops.convert_to_numpy(g)
        for v, g in zip(variables, slopes, strict=True)
    ]


# A backend is imported where it is the one that runs: none of them need be installed.


def _tensorflow(scalar: Callable, values: list[Any]) -> list[Any]:
    import tensorflow as tf

    values = [tf.convert_to_tensor(v) for v in values]
    with tf.GradientTape() as tape:
        tape.watch(values)
        result = scalar(values)
    return [
        tf.convert_to_tensor(g) if g is not None else None for g in tape.gradient(result, values)
    ]


def _jax(scalar: Callable, values: list[Any]) -> list[Any]:
    import jax

    return jax.grad(scalar)(values)


def _torch(scalar: Callable, values: list[Any]) -> list[Any]:
    import torch

    values = [v.detach().clone().requires_grad_() for v in values]
    return list(torch.autograd.grad(scalar(values), values, allow_unused=True))


_BACKENDS = {"tensorflow": _tensorflow, "jax": _jax, "torch": _torch}
