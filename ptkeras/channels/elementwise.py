"""Whether a function works on each element alone: found by trying, so that no list grows stale."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import keras
import numpy as np


class Nature(NamedTuple):
    """What trying a function of one tensor has shown.

    Attributes:
        elementwise: whether changing one element of the argument changes that element of the
            result alone.
        keeps_zero: whether it is 0 where its argument is.
    """

    elementwise: bool
    keeps_zero: bool


_KNOWN: dict[Any, Nature] = {None: Nature(True, True)}


def nature(function: Callable | None) -> Nature:
    """Tries a function of one tensor, such as an activation; None is the identity.

    Returns:
        Elementwise for relu or gelu; not for softmax, GLU, and whatever cannot be called so.
    """
    if isinstance(function, keras.layers.Layer):  # may hold variables: each is tried by itself
        return _try(function)
    key = function if getattr(function, "__hash__", None) else id(function)
    if key not in _KNOWN:
        _KNOWN[key] = _try(function)
    return _KNOWN[key]


def nature_of_node(node: Any) -> Nature:
    """The nature of a plain operation of a graph, of one input that is shaped like its output."""
    op = node.operation
    no = Nature(False, False)
    if isinstance(op, keras.layers.Layer) or len(node.input_tensors) != 1 or len(node.outputs) != 1:
        return no
    symbolic = node.input_tensors[0]
    if tuple(symbolic.shape) != tuple(node.outputs[0].shape):
        return no
    constants = [v for v in node.arguments._flat_arguments if v is not symbolic]
    if any(np.size(v) > 1 for v in constants if hasattr(v, "shape")):
        return no  # an array has to be sliced along with its tensor

    def function(x: Any) -> Any:
        args, kwargs = node.arguments.fill_in({id(symbolic): x})
        return op.call(*args, **kwargs)

    config = getattr(op, "_auto_config", None)
    if constants or config is None:
        return _try(function)
    key = (type(op), str(config.config))
    if key not in _KNOWN:
        _KNOWN[key] = _try(function)
    return _KNOWN[key]


def _try(function: Callable) -> Nature:
    x = np.random.default_rng(0).uniform(0.2, 0.8, (2, 3, 3, 6)).astype("float32")
    x[1] = 0
    changed = x.copy()
    changed[0, 1, 1, 2] += 0.3
    try:
        before, after = (
            np.asarray(keras.ops.convert_to_numpy(function(keras.ops.convert_to_tensor(v))))
            for v in (x, changed)
        )
    except Exception:
        return Nature(False, False)
    if before.shape != x.shape:
        return Nature(False, False)
    elsewhere = np.ones(x.shape, bool)
    elsewhere[0, 1, 1, 2] = False
    same = bool((before[elsewhere] == after[elsewhere]).all())
    return Nature(same, not before[1].any())
