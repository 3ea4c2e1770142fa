"""Removing again, from a model as it was built first, the channels that it has lost.

A model whose `call` is Python code cannot be loaded from a config of its graph: in another process
it is built by the user's code, at its first size, and loses the same channels before it gets its
weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras

from ptkeras.channels import trace
from ptkeras.keras_compat.tracking import flatten_layers
from ptkeras.surgery.changes import Changes
from ptkeras.surgery.reconfigure import remove
from ptkeras.surgery.removals import REMOVALS, rescalings, unpack
from ptkeras.surgery.variables import Gate


def remove_again(model: keras.Model, removals: Mapping[str, Any]) -> None:
    """Removes from a model, as it was built first, what another one has lost.

    Args:
        model: the model.
        removals: what `removals_of` returned of the other one.
    """
    layers = flatten_layers(model)
    for place, lost in removals.get("lost", {}).items():
        part = layers[int(place)]
        for removal in lost[len(vars(part).get(REMOVALS, ())) :]:
            own = flatten_layers(part)
            gates = {id(own[i]): Gate(unpack(a), unpack(b)) for i, a, b in removal["gates"]}
            channel_map = trace(part, exact=removal["exact"])
            keep = channel_map.check_keep(unpack(removal["keep"]))
            remove(channel_map, keep, gates, Changes())
    # What a dead branch leaves was worked out from weights that are gone.
    for layer, (scale, offset) in zip(
        rescalings(model), removals.get("constants", ()), strict=False
    ):
        layer.scale, layer.offset = scale, offset
