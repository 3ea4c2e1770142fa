"""Layers made again from their configs, for networks that are copied or drawn afresh."""

from __future__ import annotations

import tempfile
import types
from collections.abc import Callable
from typing import Any

import keras

Adjuster = Callable[[Any, Any], None]
_ADJUSTERS: dict[type, Adjuster] = {}


def live_config(layer: Any) -> dict:
    """Returns the config of a layer as it is, to make others from that find their shapes anew."""
    return _with_live_objects(layer, _without_builds(layer.get_config()))


def _without_builds(config: Any) -> Any:
    """Returns a config whose inner layers find their shapes by themselves."""
    if isinstance(config, dict):
        return {k: _without_builds(v) for k, v in config.items() if k != "build_config"}
    return [_without_builds(v) for v in config] if isinstance(config, list) else config


def _with_live_objects(layer: Any, config: dict) -> dict:
    """Returns a config that has a user's own functions and objects as they are.

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
        # Keras's initializers are made again: one object would draw the same numbers again.
        drawn = isinstance(own, keras.initializers.Initializer) and _is_of_keras(own)
        if isinstance(value, dict | str) and isinstance(own, live) and not drawn:
            config[name] = own
    return config


def _is_of_keras(value: Any) -> bool:
    return type(value).__module__.startswith("keras.")


def register_adjuster(*types: type) -> Callable[[Adjuster], Adjuster]:
    """Decorator for what a layer type needs after its numbers are carried over to another layer.

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
    """Gives a new layer what is not in its variables."""
    if hasattr(old, "save_assets") and not old.variables:
        _carry_assets(old, new)
    for cls in type(old).__mro__:
        if cls in _ADJUSTERS:
            _ADJUSTERS[cls](old, new)
            break


@register_adjuster(keras.layers.Normalization)
def _normalize_as_before(old: Any, new: Any) -> None:
    """What it divides by is worked out from its variables."""
    new.finalize_state()


def _carry_assets(old: Any, new: Any) -> None:
    """Hands on what a layer saves beside its variables, such as the words it was adapted to."""
    store: dict[str, Any] = {}
    old.save_own_variables(store)
    new.load_own_variables(store)
    with tempfile.TemporaryDirectory() as folder:
        old.save_assets(folder)
        new.load_assets(folder)
