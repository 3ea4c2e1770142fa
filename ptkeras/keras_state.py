"""What has to survive of Keras's own callbacks, which have no `get_state`."""

from __future__ import annotations

import inspect
from typing import Any

import keras
import numpy as np
from keras.src.saving.serialization_lib import SafeModeScope

from ptkeras.restore import Generations
from ptkeras.surgery.adopt import graph_from_config

Arrays = dict[str, np.ndarray]

_BEST = "best_weights"


class KerasState:
    """The state of one of Keras's own callbacks: its numbers, such as how long it has waited.

    The best weights of `EarlyStopping` are part of it, with the network that they belong to, where
    that has shrunk since.

    Args:
        callback: the callback.
    """

    def __init__(self, callback: keras.callbacks.Callback) -> None:
        self.callback = callback

    def get_state(self) -> dict[str, Any]:
        """What JSON can hold."""
        settings = inspect.signature(type(self.callback)).parameters
        return {
            name: value.item() if isinstance(value, np.generic) else value
            for name, value in vars(self.callback).items()
            if isinstance(value, (bool, int, float, np.generic, type(None)))
            and name not in (*settings, _BEST)
        } | self._network()

    def set_state(self, state: dict[str, Any]) -> None:
        """Takes back what `get_state` returned."""
        vars(self.callback).update({k: v for k, v in state.items() if k != "network"})

    def get_arrays(self) -> list[np.ndarray]:
        """The best weights; none where the callback keeps none."""
        return list(getattr(self.callback, _BEST, None) or [])

    def set_arrays(self, arrays: list[np.ndarray], state: dict[str, Any]) -> None:
        """Takes back what `get_arrays` returned, once the callback has a model.

        Args:
            arrays: the weights.
            state: what `get_state` returned beside them.

        Raises:
            ValueError: Keras refuses their network in safe mode.
        """
        if not arrays:
            return
        model = self.callback.model
        config = state.get("network")
        generations = Generations.of(model)
        if config is not None:
            with SafeModeScope(True):  # it comes from a file
                graph_from_config(model, config)
        if generations is not None:
            arrays = generations.weights_of(config, arrays)
        self.callback.best_weights = arrays

    def _network(self) -> dict[str, Any]:
        weights = getattr(self.callback, _BEST, None)
        owner = getattr(weights, "owner", None)
        if owner is None or weights.generation == owner.generation:
            return {}
        return {"network": keras.saving.serialize_keras_object(owner.configs[weights.generation])}
