"""The gates of SkipNet: small networks that look at what enters a block and give one logit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
from keras import layers, ops

# Of the recurrent gate: what the authors have.
UNITS = 10
# sigmoid(2) = 0.88: all branches run at first, and a few are skipped where actions are drawn.
_OPENNESS = 2.0

# A function of what enters a block, and of a prefix for names, to a logit.
Gate = Callable[[Any, str], Any]
# Makes a name that no layer has of one that is wished for.
Free = Callable[[str], str]


def feed_forward_1(data_format: str, free: Free) -> Gate:
    """FFGate-I: pooling by 2, two 3×3 convolutions, the second of stride 2, and a mean."""

    def gate(x: Any, name: str) -> Any:
        if len(x.shape) > 2:
            pool = _kind("MaxPooling", x)
            x = pool(2, padding="same", data_format=data_format, name=free(f"{name}_pool"))(x)
        x = _convolution(x, f"{name}_1", 1, data_format, free)
        x = _convolution(x, f"{name}_2", 2, data_format, free)
        return _last(free(f"{name}_logit"))(_mean(x, name, data_format, free))

    return gate


def feed_forward_2(data_format: str, free: Free) -> Gate:
    """FFGate-II: one 3×3 convolution of stride 2, and a mean."""

    def gate(x: Any, name: str) -> Any:
        x = _convolution(x, f"{name}_1", 2, data_format, free)
        return _last(free(f"{name}_logit"))(_mean(x, name, data_format, free))

    return gate


def recurrent(data_format: str, free: Free) -> Gate:
    """RNNGate: a mean, a projection to 10 numbers, and an LSTM that goes from block to block.

    The LSTM and the layer that makes a logit of its output are the same for all blocks.
    """
    cell = layers.LSTMCell(UNITS, name=free("gates_lstm"))
    last = _last(free("gates_logit"))
    states: list[Any] = []

    def gate(x: Any, name: str) -> Any:
        x = _mean(x, name, data_format, free)
        x = layers.Dense(UNITS, name=free(f"{name}_projection"))(x)
        if not states:
            states[:] = [ops.zeros_like(x)] * 2
        output, states[:] = cell(x, list(states))
        return last(output)

    return gate


GATES = {"ffgate1": feed_forward_1, "ffgate2": feed_forward_2, "rnn": recurrent}


def _last(name: str) -> layers.Layer:
    """A dense layer to a logit, in float32.

    The authors have a softmax over two scores, whose difference is that logit.
    """
    return layers.Dense(
        1,
        kernel_initializer="zeros",
        bias_initializer=keras.initializers.Constant(_OPENNESS),
        dtype="float32",
        name=name,
    )


def _convolution(x: Any, name: str, strides: int, data_format: str, free: Free) -> Any:
    if len(x.shape) == 2:
        x = layers.Dense(x.shape[-1], use_bias=False, name=free(f"{name}_dense"))(x)
    else:
        x = _kind("Conv", x)(
            x.shape[_axis(data_format)],
            3,
            strides=strides,
            padding="same",
            use_bias=False,
            kernel_initializer="he_normal",
            data_format=data_format,
            name=free(f"{name}_conv"),
        )(x)
    # PyTorch's momentum, as in the networks of ptkeras.models.
    x = layers.BatchNormalization(axis=_axis(data_format), momentum=0.9, name=free(f"{name}_bn"))(x)
    return layers.ReLU(name=free(f"{name}_relu"))(x)


def _mean(x: Any, name: str, data_format: str, free: Free) -> Any:
    if len(x.shape) == 2:
        return x
    return _kind("GlobalAveragePooling", x)(data_format=data_format, name=free(f"{name}_mean"))(x)


def _kind(name: str, x: Any) -> type:
    """The layer of this name for the number of axes of `x`."""
    return getattr(layers, f"{name}{len(x.shape) - 2}D")


def _axis(data_format: str) -> int:
    return 1 if data_format == "channels_first" else -1
