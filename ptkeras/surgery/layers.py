"""How a layer's config says its new size: one small function per type."""

from __future__ import annotations

import tempfile
import types
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
    config = live_config(layer)
    for cls in type(layer).__mro__:
        if cls in _RESIZERS:
            _RESIZERS[cls](layer, config, sizes)
            break
    return config


def live_config(layer: Any) -> dict:
    """The config of a layer as it is, to make others from that find their shapes anew."""
    return _with_live_objects(layer, _without_builds(layer.get_config()))


def _without_builds(config: Any) -> Any:
    """A config whose inner layers find their shapes anew, not those they were built for."""
    if isinstance(config, dict):
        return {k: _without_builds(v) for k, v in config.items() if k != "build_config"}
    return [_without_builds(v) for v in config] if isinstance(config, list) else config


def _with_live_objects(layer: Any, config: dict) -> dict:
    """A config that has a user's own functions and objects as they are.

    An activation or a regularizer that nobody registered with Keras trains well, but its name in a
    config leads nowhere.
    """
    live = (
        keras.regularizers.Regularizer,
        keras.constraints.Constraint,
        keras.initializers.Initializer,
        types.FunctionType,
    )
    for name, value in config.items():
        own = getattr(layer, name, None)
        # Keras's initialisers are made anew: one object would draw the same numbers again.
        drawn = isinstance(own, keras.initializers.Initializer) and _is_of_keras(own)
        if isinstance(value, dict | str) and isinstance(own, live) and not drawn:
            config[name] = own
    return config


def _is_of_keras(value: Any) -> bool:
    return type(value).__module__.startswith("keras.")


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
    """Gives a new layer what is not in its variables, and corrects what means less at its size."""
    if hasattr(old, "save_assets") and not old.variables:
        _carry_assets(old, new)
    for cls in type(old).__mro__:
        if cls in _ADJUSTERS:
            _ADJUSTERS[cls](old, new)
            break


def _carry_assets(old: Any, new: Any) -> None:
    """Hands on what a layer saves beside its variables, such as the words it was adapted to."""
    store: dict[str, Any] = {}
    old.save_own_variables(store)
    new.load_own_variables(store)
    with tempfile.TemporaryDirectory() as folder:
        old.save_assets(folder)
        new.load_assets(folder)
