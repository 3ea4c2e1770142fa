"""The published systems: one file each, thin over the rest of the library.

A method is a function `callbacks(settings, dataset)` in a module of its own, which returns the
callbacks that make a `fit` what the system's paper describes. They fill `lasso`, `channels`,
`params`, `inference_flops` and `training_flops` into the logs of each epoch. A callback that has to
survive a kill has `get_state()` and `set_state(state)`; one that has more to say of the finished
run has `result()`, figures for `result.json`.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import keras

    from ptkeras.data import Dataset

# Modules by the names of the methods; imported when asked for, so that a name can be checked first.
_MODULES = {
    "dense": "ptkeras.methods.dense",
    "magnitude": "ptkeras.methods.magnitude",
    "prunetrain": "ptkeras.methods.prunetrain",
}


def names() -> list[str]:
    """The names of all methods."""
    return list(_MODULES)


def callbacks(settings: Any, dataset: Dataset) -> list[keras.callbacks.Callback]:
    """The callbacks of a method.

    Args:
        settings: the flags of `ptkeras.train`; `settings.method` names the method.
        dataset: what is trained with.
    """
    return importlib.import_module(_MODULES[settings.method]).callbacks(settings, dataset)
