"""What `compile` and `fit` keep on a model and on callbacks.

All names are private in Keras 3.12 to 3.15.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import keras

# What a `fit` leaves on a model and makes again. Since Keras 3.0; a public way to end a training
# for good would make this needless.
FIT_STATE = ("_eval_epoch_iterator", "_jax_state")


def compiled_loss(model: keras.Model) -> Any:
    """Returns the loss of `compile` as one callable of all outputs; None if there is none.

    Since Keras 3.0. `Model.compute_loss` is public, and adds what regularizers cost; a flag of it
    would make this needless.
    """
    return getattr(model, "_compile_loss", None)


def user_loss(model: keras.Model) -> tuple[Any, Any]:
    """Returns the `loss` and `loss_weights` that `compile` was given; None for those it was not.

    Since Keras 3.0. `Model.loss` is public, `loss_weights` has no public name; with one this would
    be needless.
    """
    loss = compiled_loss(model)
    return getattr(loss, "_user_loss", None), getattr(loss, "_user_loss_weights", None)


def user_metrics(model: keras.Model) -> Any:
    """Returns the `metrics` that `compile` was given, or None.

    Since Keras 3.0. `Model.metrics` has what was made of them; a public name of what was given
    would make this needless.
    """
    return getattr(getattr(model, "_compile_metrics", None), "_user_metrics", None)


def loss_options(loss: Any) -> Mapping[str, Any]:
    """Returns the arguments that a loss hands to its function, such as `from_logits`.

    Since Keras 3.0. `Loss.get_config` is public, but serializes them, and functions have none; a
    public name would make this needless.
    """
    return getattr(loss, "_fn_kwargs", {})


def set_initial_epoch(model: keras.Model, epoch: int | None) -> None:
    """Sets the epoch that a `fit` which has just begun starts with; None for its own argument's.

    All of Keras 3.12 to 3.15, for `BackupAndRestore`. A public way for callbacks to set it would
    make this needless.
    """
    model._initial_epoch = epoch


def symbolic_build(model: keras.Model, batch: Any) -> None:
    """Builds a model, its metrics and its optimizer from the structure of a batch.

    Since Keras 3.0. `Model.build` is public and builds no metrics; a public build of a compiled
    model would make this needless.

    Args:
        model: a compiled model.
        batch: a structure of anything with shape and dtype.
    """
    model._symbolic_build(data_batch=batch)


def set_symbolic_build(model: keras.Model, build: Callable[..., None]) -> None:
    """Has `fit` call a function before its first step in place of its own `symbolic_build`.

    All of Keras 3.12 to 3.15. A `fit` that can be told the structure of a batch would make this
    needless.
    """
    model._maybe_symbolic_build = build


def model_of_callback(callback: keras.callbacks.Callback) -> Any:
    """Returns the model that a callback was given, as it is; None before `set_model`.

    Since Keras 3.0. `Callback.model` brings the numbers of a JAX training back first, and needs a
    model; a look without that would make this needless.
    """
    return callback._model
