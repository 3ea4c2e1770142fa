"""Checks of what a caller gives for a model."""

from __future__ import annotations

from typing import Any

import keras


def check_model(model: Any) -> None:
    """Refuses what is no model of Keras 3.

    Args:
        model: what the caller gave.

    Raises:
        ValueError: If it is something else, such as a model of tf_keras.
    """
    if isinstance(model, keras.Model):
        return
    if any(cls.__module__.split(".")[0] == "tf_keras" for cls in type(model).__mro__):
        raise ValueError(
            f"'{getattr(model, 'name', model)}' is a model of tf_keras (Keras 2): save it to a .h5 "
            "file and load that with keras.models.load_model of Keras 3, or build it with Keras 3."
        )
    raise ValueError(
        f"Expected a Keras model, received {model!r} (of type {type(model).__name__})."
    )
