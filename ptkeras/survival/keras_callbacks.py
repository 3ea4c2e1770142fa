"""The state of Keras's own callbacks, which have no `get_state`."""

from __future__ import annotations

import inspect
from typing import Any

import keras
import numpy as np

from ptkeras.keras_compat.saving import SafeModeScope
from ptkeras.surgery.adopt import graph_from_config
from ptkeras.surgery.generations import Generations

Arrays = dict[str, np.ndarray]

_BEST = "best_weights"
_NETWORK = "network"


class KerasState:
    """The state of one of Keras's own callbacks: its numbers, such as how long it has waited.

    The best weights of `EarlyStopping` are part of it, with the network that they belong to if that
    has shrunk since.

    Args:
        callback: the callback.
    """

    def __init__(self, callback: keras.callbacks.Callback) -> None:
        self.callback = callback

    def get_state(self) -> dict[str, Any]:
        """Returns what JSON can hold."""
        return self._numbers() | self._network()

    def set_state(self, state: dict[str, Any]) -> None:
        """Takes back what `get_state` returned.

        A checkpoint may be somebody else's, so that only the numbers that count are set, and no
        other attribute. Those that the callback gets in `on_train_begin` are left out before that.

        Args:
            state: from a callback of the same class and arguments, maybe of another process.

        Raises:
            ValueError: If it holds anything else.
        """
        own, name = self._numbers(), type(self.callback).__name__
        if not isinstance(state, dict):
            raise ValueError(
                f"The checkpoint holds {state!r} as the state of {name}, which has never written "
                "that: delete the file to begin again."
            )
        numbers = {key: value for key, value in state.items() if key != _NETWORK}
        for key, value in numbers.items():
            if not _is_number(value) or (key not in own and hasattr(self.callback, key)):
                raise ValueError(
                    f"The checkpoint would set '{key}' of {name} to {value!r}, which is no part of "
                    "its state: delete the file to begin again."
                )
        vars(self.callback).update({key: numbers[key] for key in own.keys() & numbers})

    def get_arrays(self) -> list[np.ndarray]:
        """Returns the best weights, if the callback keeps any."""
        return list(getattr(self.callback, _BEST, None) or [])

    def set_arrays(self, arrays: list[np.ndarray], state: dict[str, Any]) -> None:
        """Takes back what `get_arrays` returned, once the callback has a model.

        Args:
            arrays: the weights.
            state: what `get_state` returned beside them.

        Raises:
            ValueError: If Keras refuses their network in safe mode.
        """
        if not arrays:
            return
        model = self.callback.model
        config = state.get(_NETWORK)
        generations = Generations.of(model)
        if config is not None:
            with SafeModeScope(True):  # it comes from a file
                graph_from_config(model, config)
        if generations is not None:
            arrays = generations.weights_of(config, arrays)
        self.callback.best_weights = arrays

    def _numbers(self) -> dict[str, bool | int | float | None]:
        """Returns the attributes that count or measure: numbers, and None for one not yet known."""
        arguments = _arguments(type(self.callback))
        return {
            name: value.item() if isinstance(value, np.generic) else value
            for name, value in vars(self.callback).items()
            if (isinstance(value, np.generic) or _is_number(value))
            and name not in arguments
            and name != _BEST
        }

    def _network(self) -> dict[str, Any]:
        weights: Any = getattr(self.callback, _BEST, None)
        owner = getattr(weights, "owner", None)
        if owner is None or weights.generation == owner.generation:
            return {}
        return {_NETWORK: keras.saving.serialize_keras_object(owner.configs[weights.generation])}


def _is_number(value: Any) -> bool:
    return isinstance(value, (bool, int, float, type(None)))


def _arguments(cls: type) -> set[str]:
    """Returns the arguments of a class and of the classes it comes from."""
    bases: tuple[Any, ...] = cls.__mro__[:-1]
    return {name for one in bases for name in inspect.signature(one.__init__).parameters}
