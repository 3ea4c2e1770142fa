"""Whether a function works on each element alone: found by trying, so that no list grows stale."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np

_ELEMENTWISE: dict[Any, bool] = {}


def is_elementwise(function: Callable | None) -> bool:
    """Whether changing one element of the argument changes that element of the result alone.

    Args:
        function: a function of one tensor, such as an activation; None is the identity.

    Returns:
        True for relu or gelu, False for softmax, GLU, and whatever cannot be called so.
    """
    if function is None:
        return True
    key = function if function.__hash__ else id(function)
    if key not in _ELEMENTWISE:
        _ELEMENTWISE[key] = _try(function)
    return _ELEMENTWISE[key]


def is_elementwise_op(node: Any) -> bool:
    """Whether a graph node is a plain operation on each element of its one input."""
    op = node.operation
    if isinstance(op, keras.layers.Layer) or len(node.input_tensors) != 1 or len(node.outputs) != 1:
        return False
    if tuple(node.input_tensors[0].shape) != tuple(node.outputs[0].shape):
        return False
    symbolic = node.input_tensors[0]

    def function(x: Any) -> Any:
        args, kwargs = node.arguments.fill_in({id(symbolic): x})
        return op.call(*args, **kwargs)

    return _try(function)


def _try(function: Callable) -> bool:
    x = np.random.default_rng(0).uniform(0.2, 0.8, (2, 3, 3, 6)).astype("float32")
    changed = x.copy()
    changed[0, 1, 1, 2] += 0.3
    try:
        before, after = (
            np.asarray(keras.ops.convert_to_numpy(function(keras.ops.convert_to_tensor(v))))
            for v in (x, changed)
        )
    except Exception:
        return False
    if before.shape != x.shape:
        return False
    elsewhere = np.ones(x.shape, bool)
    elsewhere[0, 1, 1, 2] = False
    return bool((before[elsewhere] == after[elsewhere]).all())
