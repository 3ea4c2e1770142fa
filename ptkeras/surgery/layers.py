"""How a layer's config says its new size: one small function per type."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import layers
from keras.src.layers.convolutional.base_conv import BaseConv
from keras.src.layers.convolutional.base_conv_transpose import BaseConvTranspose
from keras.src.layers.convolutional.base_separable_conv import BaseSeparableConv

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


Resizer = Callable[[Any, dict, Sizes], None]
_RESIZERS: dict[type, Resizer] = {}


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


@register(BaseConv)
def _conv(layer: Any, config: dict, sizes: Sizes) -> None:
    config["filters"] = sizes.shape(layer.kernel)[-1]
    if layer.groups > 1 and layer.kernel.shape[-2] == 1:  # depthwise: a group for each channel
        config["groups"] = config["filters"] * layer.groups // layer.filters


@register(BaseConvTranspose)
def _conv_transpose(layer: Any, config: dict, sizes: Sizes) -> None:
    config["filters"] = sizes.shape(layer.kernel)[-2]


@register(BaseSeparableConv)
def _separable_conv(layer: Any, config: dict, sizes: Sizes) -> None:
    config["filters"] = sizes.shape(layer.pointwise_kernel)[-1]


@register(layers.Dense)
def _dense(layer: Any, config: dict, sizes: Sizes) -> None:
    config["units"] = sizes.shape(layer.kernel)[-1]


@register(layers.Embedding)
def _embedding(layer: Any, config: dict, sizes: Sizes) -> None:
    config["output_dim"] = sizes.shape(layer._embeddings)[-1]


@register(layers.Reshape)
def _reshape(layer: Any, config: dict, sizes: Sizes) -> None:
    target = sizes.outputs[0][1:]
    if sum(n is None for n in target) <= 1:
        config["target_shape"] = tuple(-1 if n is None else n for n in target)


@register(layers.Rescaling)
def _rescaling(layer: Any, config: dict, sizes: Sizes) -> None:
    for name in ("scale", "offset"):
        values = np.asarray(getattr(layer, name))
        for axis in range(-values.ndim, 0):
            if values.shape[axis] > 1:
                kept = np.flatnonzero(sizes.kept[0].reshape(-1))
                values = values.take(kept, axis)
        config[name] = values.tolist()
