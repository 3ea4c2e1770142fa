"""How a layer's config says its new size: one small function per type."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import keras
import numpy as np

Shape = tuple[int | None, ...]


class Sizes(NamedTuple):
    """What becomes of a layer and its tensors.

    Attributes:
        shape: the new shape of one of the layer's variables.
        inputs: the new shapes of the input tensors.
        outputs: the new shapes of the output tensors.
        kept: one bool array per input tensor that broadcasts against its old shape: what stays.
    """

    shape: Callable[[keras.Variable], tuple[int, ...]]
    inputs: list[Shape]
    outputs: list[Shape]
    kept: list[np.ndarray]

    def within_time(self) -> Sizes:
        """The same for the layer that a `TimeDistributed` wraps: without the axis of time."""
        inputs, outputs = ([(s[0], *s[2:]) for s in each] for each in (self.inputs, self.outputs))
        return Sizes(self.shape, inputs, outputs, [np.squeeze(k, 1) for k in self.kept])


Resizer = Callable[[Any, dict, Sizes], None]
Adjuster = Callable[[Any, Any], None]
_RESIZERS: dict[type, Resizer] = {}
_ADJUSTERS: dict[type, Adjuster] = {}


def register(*types: type) -> Callable[[Resizer], Resizer]:
    """Decorator that registers how the config of a layer type says its size.

    ```python
    @ptkeras.surgery.register(MyDense)
    def _(layer, config, sizes):
        config["units"] = sizes.shape(layer.kernel)[-1]
    ```

    Layers whose config says no size (batch norm finds it in its input) need none.

    Args:
        *types: classes of layers.
    """

    def decorate(resizer: Resizer) -> Resizer:
        for cls in types:
            _RESIZERS[cls] = resizer
        return resizer

    return decorate


def resized_config(layer: Any, sizes: Sizes) -> dict:
    """The config of a layer, saying its new size."""
    config = layer.get_config()
    for cls in type(layer).__mro__:
        if cls in _RESIZERS:
            _RESIZERS[cls](layer, config, sizes)
            break
    return config


def register_adjuster(*types: type) -> Callable[[Adjuster], Adjuster]:
    """Decorator for what a layer type needs once its numbers are carried over.

    Args:
        *types: classes of layers.

    Returns:
        A decorator for a function of the old layer and the new one.
    """

    def decorate(adjuster: Adjuster) -> Adjuster:
        for cls in types:
            _ADJUSTERS[cls] = adjuster
        return adjuster

    return decorate


def adjust(old: Any, new: Any) -> None:
    """Corrects a new layer whose numbers would mean something else at its new size."""
    for cls in type(old).__mro__:
        if cls in _ADJUSTERS:
            _ADJUSTERS[cls](old, new)
            break
