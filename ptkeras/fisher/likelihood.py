"""The distribution of the targets that a loss takes a model's outputs for.

The Fisher information is an expectation over targets that the model itself predicts, not over those
of the data: they are drawn here. Each draw is a function of the outputs and of noise that is given
in advance, so that one forward pass computes outputs, targets and their likelihood.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import losses, ops

from ptkeras.channels.leaf_graph import outputs_of
from ptkeras.keras_compat.graph import output_structure
from ptkeras.keras_compat.trainers import loss_options

_TINY = 1e-7  # what Keras's losses clip probabilities to


class Likelihood(NamedTuple):
    """What a loss says of the targets.

    Attributes:
        noise: draws, with a generator, the noise for outputs of a shape.
        surprise: `-log p(target)`, summed over a batch, for outputs and the target that the noise
            makes of them; no gradient runs through the target.
    """

    noise: Callable[[np.random.Generator, tuple[int, ...]], np.ndarray]
    surprise: Callable[[Any, Any], Any]


def likelihoods(model: keras.Model, loss: Any = None) -> list[Likelihood | None]:
    """The likelihood of each output of a model.

    Args:
        model: the model.
        loss: a Keras loss or its name, or a list or dict of them for the outputs, as `compile`
            takes it. None takes that which the model is compiled with.

    Returns:
        One for each output, None for those without a loss.

    Raises:
        ValueError: there is no loss, or one of them is no likelihood that is known.
    """
    loss = getattr(model, "loss", None) if loss is None else loss
    if loss is None:
        raise ValueError(
            f"'{model.name}' is not compiled with a loss, so nobody knows what its outputs "
            "predict: compile it, or pass loss=."
        )
    graph = outputs_of(model)
    count = len(graph.outputs)
    if isinstance(loss, dict) and not {"class_name", "config"} <= set(loss):
        structure = output_structure(graph)
        names = sorted(structure) if isinstance(structure, dict) else graph.output_names
        each = [loss.get(name) for name in names]
    else:
        each = list(loss) if isinstance(loss, (list, tuple)) else [loss] * count
    if len(each) != count or all(one is None for one in each):
        raise ValueError(
            f"The loss {loss!r} does not fit the {count} outputs of '{model.name}': give one for "
            "each of them."
        )
    return [None if one is None else _likelihood(one) for one in each]


def _likelihood(loss: Any) -> Likelihood:
    loss = losses.get(loss)
    function, options = getattr(loss, "fn", loss), loss_options(loss)
    logits = bool(options.get("from_logits", False))
    if function in (losses.sparse_categorical_crossentropy, losses.categorical_crossentropy):
        return _categorical(logits, int(options.get("axis", -1)))
    if function is losses.binary_crossentropy:
        return _bernoulli(logits)
    if function is losses.mean_squared_error:
        return _gaussian()
    name = getattr(function, "__name__", type(loss).__name__)
    raise ValueError(
        f"The loss '{name}' is not known as the likelihood of a distribution that targets could be "
        "drawn from: pass loss= as the categorical or binary crossentropy or the mean squared "
        "error that comes nearest to it."
    )


def _categorical(logits: bool, axis: int) -> Likelihood:
    """A class, by the Gumbel trick: argmax(log p + g) is drawn from p."""

    def noise(generator: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        return generator.gumbel(size=shape).astype("float32")

    def surprise(outputs: Any, noise: Any) -> Any:
        if logits:
            logs = ops.log_softmax(outputs, axis)
        else:
            shares = outputs / ops.sum(outputs, axis, keepdims=True)
            logs = ops.log(ops.clip(shares, _TINY, 1.0))
        drawn = ops.argmax(logs + noise, axis)
        hot = ops.one_hot(drawn, outputs.shape[axis], axis=axis, dtype=logs.dtype)
        return -ops.sum(ops.stop_gradient(hot) * logs)

    return Likelihood(noise, surprise)


def _bernoulli(logits: bool) -> Likelihood:
    """A truth value for each output."""

    def noise(generator: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        return generator.random(shape).astype("float32")

    def surprise(outputs: Any, noise: Any) -> Any:
        if logits:
            drawn = ops.cast(noise < ops.sigmoid(outputs), outputs.dtype)
            return ops.sum(ops.softplus(outputs) - ops.stop_gradient(drawn) * outputs)
        share = ops.clip(outputs, _TINY, 1 - _TINY)
        drawn = ops.stop_gradient(ops.cast(noise < share, share.dtype))
        return -ops.sum(drawn * ops.log(share) + (1 - drawn) * ops.log(1 - share))

    return Likelihood(noise, surprise)


def _gaussian() -> Likelihood:
    """A number around each output, of unit variance."""

    def noise(generator: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        return generator.normal(size=shape).astype("float32")

    def surprise(outputs: Any, noise: Any) -> Any:
        return 0.5 * ops.sum(ops.square(outputs - ops.stop_gradient(outputs + noise)))

    return Likelihood(noise, surprise)
