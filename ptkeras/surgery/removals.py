"""The channels that a model has lost, as JSON holds them; see `ptkeras.surgery.replay`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from ptkeras.channels import ChannelMap
from ptkeras.keras_compat.tracking import flatten_layers
from ptkeras.surgery.changes import Changes
from ptkeras.surgery.variables import Gate

REMOVALS = "_ptkeras_removals"


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
    places = {id(layer): i for i, layer in enumerate(flatten_layers(model))}
    removal = {
        "keep": _pack(keep),
        "exact": channel_map.exact,
        "gates": [
            [places[k], _pack(g.inputs), _pack(g.outputs)] for k, g in gates.items() if k in places
        ],
    }
    changes.set(model, REMOVALS, [*vars(model).get(REMOVALS, ()), removal])


def removals_of(model: keras.Model) -> dict[str, Any]:
    """Returns what JSON holds of the channels that a model and the models in it have lost."""
    layers = flatten_layers(model)
    lost = {str(i): vars(x)[REMOVALS] for i, x in enumerate(layers) if REMOVALS in vars(x)}
    constants = [[_listed(x.scale), _listed(x.offset)] for x in rescalings(model)]
    return {"lost": lost, "constants": constants} if lost else {}


def rescalings(model: keras.Model) -> list[Any]:
    """Returns the `Rescaling` layers of a model, which stand for what dead branches leave."""
    return [x for x in flatten_layers(model) if isinstance(x, keras.layers.Rescaling)]


def _listed(value: Any) -> Any:
    return np.asarray(value).tolist()


def _pack(mask: np.ndarray) -> list:
    return [len(mask), np.packbits(mask).tobytes().hex()]


def unpack(packed: list) -> np.ndarray:
    """Returns the mask of which `removals_of` has noted the bits."""
    size, digits = packed
    return np.unpackbits(np.frombuffer(bytes.fromhex(digits), np.uint8))[:size].astype(bool)
