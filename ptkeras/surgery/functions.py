"""The compiled functions of models, which hold on to the tensors that they were traced with."""

from __future__ import annotations

import keras

from ptkeras.surgery.changes import Changes

_KINDS = ("train", "test", "predict")


def refresh_functions(model: keras.Model, changes: Changes | None = None) -> None:
    """Makes the compiled functions of a model again, those that it has.

    Args:
        model: the model.
        changes: the log that undoes it.
    """
    for kind in _KINDS:
        name = f"{kind}_function"
        former = getattr(model, name, None)
        if former is None:
            continue
        if changes is not None:
            changes.set(model, name, former)
        getattr(model, f"make_{kind}_function")(force=True)
