"""The published systems: one file each, thin over the rest of the library.

A method is a function `callbacks(settings, dataset)` in a module of its own, which returns the
callbacks that make a `fit` what the system's paper describes. They fill `lasso`, `channels`,
`params`, `inference_flops` and `training_flops` into the logs of each epoch. A callback that has to
survive a kill has `get_state()` and `set_state(state)`; one that leaves another network than it
trains has `finish(model)`, which returns it, compiled to be evaluated; one that has more to say of
the finished run has `result()`, figures for `result.json`. A method that trains another network
than the one that was built, or for longer, has `start(settings, dataset, model, folder)` too, which
returns a `Start`. What it cannot follow it refuses there, as long as the folder is not open: then
the flags can be mended, and the folder taken after all.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import keras

    from ptkeras.data import Dataset
    from ptkeras.runs.run_folder import RunFolder

# Modules by the names of the methods; imported when asked for, so that a name can be checked first.
_MODULES = {
    "dense": "ptkeras.methods.dense",
    "eigendamage": "ptkeras.methods.eigendamage",
    "magnitude": "ptkeras.methods.magnitude",
    "prunetrain": "ptkeras.methods.prunetrain",
    "pruning_from_scratch": "ptkeras.methods.pruning_from_scratch",
    "skipnet": "ptkeras.methods.skipnet",
    "static_dynamic": "ptkeras.methods.static_dynamic",
}


class Start(NamedTuple):
    """What a run trains, and how.

    Attributes:
        model: the network.
        callbacks: the method's callbacks.
        epochs: how many.
        learning_rate_drops: after which of them the learning rate falls.
    """

    model: keras.Model
    callbacks: list[keras.callbacks.Callback]
    epochs: int
    learning_rate_drops: list[int]


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


def start(settings: Any, dataset: Dataset, model: keras.Model, folder: RunFolder) -> Start:
    """What a run of a method trains.

    Args:
        settings: the flags of `ptkeras.train`.
        dataset: what is trained with.
        model: the network that the flags name, untrained.
        folder: the run folder, not yet open. A method that finds something out before the training
            opens it, and puts that there.
    """
    module = importlib.import_module(_MODULES[settings.method])
    if hasattr(module, "start"):
        return module.start(settings, dataset, model, folder)
    found = module.callbacks(settings, dataset)
    return Start(model, found, settings.epochs, settings.learning_rate_drops)
