"""The channels that a model has lost, so that a model as it was built first can lose them again.

A model whose `call` is Python code cannot be loaded from a config of its graph: in another process
it is built by the user's code, at its first size, and loses the same channels before it gets its
weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from ptkeras.channels import ChannelMap, trace
from ptkeras.surgery.changes import Changes
from ptkeras.surgery.variables import Gate

_REMOVALS = "_ptkeras_removals"


def note(
    channel_map: ChannelMap, keep: np.ndarray, gates: Mapping[int, Gate], changes: Changes
) -> None:
    """Notes on a model which channels it is losing.

    Args:
        channel_map: the channels of the model.
        keep: a bool per channel.
        gates: the `Gate` for the `id` of each layer that has one.
        changes: the log that undoes it.
    """
    model = channel_map.model
    places = {id(layer): i for i, layer in enumerate(model._flatten_layers())}
    removal = {
        "keep": _pack(keep),
        "exact": channel_map.exact,
        "gates": [
            [places[k], _pack(g.inputs), _pack(g.outputs)] for k, g in gates.items() if k in places
        ],
    }
    changes.set(model, _REMOVALS, [*vars(model).get(_REMOVALS, ()), removal])


def removals_of(model: keras.Model) -> dict[str, Any]:
    """Returns what JSON holds of the channels that a model and the models in it have lost."""
    layers = model._flatten_layers()
    lost = {str(i): vars(x)[_REMOVALS] for i, x in enumerate(layers) if _REMOVALS in vars(x)}
    constants = [[_listed(x.scale), _listed(x.offset)] for x in _rescalings(model)]
    return {"lost": lost, "constants": constants} if lost else {}


def remove_again(model: keras.Model, removals: Mapping[str, Any]) -> None:
    """Removes from a model, as it was built first, what another one has lost.

    Args:
        model: the model.
        removals: what `removals_of` returned of the other one.
    """
    from ptkeras.surgery.reconfigure import remove

    layers = model._flatten_layers()
    for place, lost in removals.get("lost", {}).items():
        part = layers[int(place)]
        for removal in lost[len(vars(part).get(_REMOVALS, ())) :]:
            own = part._flatten_layers()
            gates = {id(own[i]): Gate(_unpack(a), _unpack(b)) for i, a, b in removal["gates"]}
            channel_map = trace(part, exact=removal["exact"])
            keep = channel_map.check_keep(_unpack(removal["keep"]))
            remove(channel_map, keep, gates, Changes())
    # What a dead branch leaves behind was worked out from weights that are gone.
    for layer, (scale, offset) in zip(
        _rescalings(model), removals.get("constants", ()), strict=False
    ):
        layer.scale, layer.offset = scale, offset


def _rescalings(model: keras.Model) -> list[Any]:
    return [x for x in model._flatten_layers() if isinstance(x, keras.layers.Rescaling)]


def _listed(value: Any) -> Any:
    return np.asarray(value).tolist()


def _pack(mask: np.ndarray) -> list:
    return [len(mask), np.packbits(mask).tobytes().hex()]


def _unpack(packed: list) -> np.ndarray:
    size, digits = packed
    return np.unpackbits(np.frombuffer(bytes.fromhex(digits), np.uint8))[:size].astype(bool)
