"""The gates of SkipNet: small networks that look at what enters a block and give one logit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import keras
from keras import layers, ops

# Of the recurrent gate: what the authors have.
UNITS = 10
# sigmoid(2) = 0.88: all branches run at first, and a few are skipped where actions are drawn.
_OPENNESS = 2.0

# A function of what enters a block, and of a prefix for names, to a logit.
Gate = Callable[[Any, str], Any]


class Maker(NamedTuple):
    """What the layers of all gates of a network are made with.

    Attributes:
        data_format: where the channels are, `"channels_first"` or `"channels_last"`.
        dtype: the policy of all but the logits, which are float32.
        free: makes a name that no layer has of one that is wished for.
    """

    data_format: str
    dtype: str
    free: Callable[[str], str]

    @property
    def axis(self) -> int:
        """The axis of the channels."""
        return 1 if self.data_format == "channels_first" else -1

    def layer(self, kind: type, name: str, **options: Any) -> layers.Layer:
        """A layer of a gate."""
        return kind(name=self.free(name), **{"dtype": self.dtype} | options)


def feed_forward_1(maker: Maker) -> Gate:
    """FFGate-I: pooling by 2, two 3×3 convolutions, the second of stride 2, and a mean."""

    def gate(x: Any, name: str) -> Any:
        if len(x.shape) > 2:
            pool = {"pool_size": 2, "padding": "same", "data_format": maker.data_format}
            x = maker.layer(_kind("MaxPooling", x), f"{name}_pool", **pool)(x)
        x = _convolution(maker, x, f"{name}_1", 1)
        x = _convolution(maker, x, f"{name}_2", 2)
        return _last(maker, f"{name}_logit")(_mean(maker, x, name))

    return gate


def feed_forward_2(maker: Maker) -> Gate:
    """FFGate-II: one 3×3 convolution of stride 2, and a mean."""

    def gate(x: Any, name: str) -> Any:
        x = _convolution(maker, x, f"{name}_1", 2)
        return _last(maker, f"{name}_logit")(_mean(maker, x, name))

    return gate


def recurrent(maker: Maker) -> Gate:
    """RNNGate: a mean, a projection to 10 numbers, and an LSTM that goes from block to block.

    The LSTM and the layer that makes a logit of its output are the same for all blocks.
    """
    cell = maker.layer(layers.LSTMCell, "gates_lstm", units=UNITS)
    last = _last(maker, "gates_logit")
    states: list[Any] = []

    def gate(x: Any, name: str) -> Any:
        x = _mean(maker, x, name)
        x = maker.layer(layers.Dense, f"{name}_projection", units=UNITS)(x)
        if not states:
            states[:] = [ops.zeros_like(x)] * 2
        output, states[:] = cell(x, list(states))
        return last(output)

    return gate


GATES = {"ffgate1": feed_forward_1, "ffgate2": feed_forward_2, "rnn": recurrent}


def _last(maker: Maker, name: str) -> layers.Layer:
    """A dense layer to a logit, in float32, whose sigmoid is the authors' one score in RNNGate.

    Their feed-forward gates have a softmax over two scores, whose difference is that logit.
    """
    return maker.layer(
        layers.Dense,
        name,
        units=1,
        kernel_initializer="zeros",
        bias_initializer=keras.initializers.Constant(_OPENNESS),
        dtype="float32",
    )


def _convolution(maker: Maker, x: Any, name: str, strides: int) -> Any:
    if len(x.shape) == 2:
        x = maker.layer(layers.Dense, f"{name}_dense", units=x.shape[-1], use_bias=False)(x)
    else:
        x = maker.layer(
            _kind("Conv", x),
            f"{name}_conv",
            filters=x.shape[maker.axis],
            kernel_size=3,
            strides=strides,
            padding="same",
            use_bias=False,
            kernel_initializer="he_normal",
            data_format=maker.data_format,
        )(x)
    # PyTorch's momentum, as in the networks of ptkeras.models.
    norm = {"axis": maker.axis, "momentum": 0.9}
    x = maker.layer(layers.BatchNormalization, f"{name}_bn", **norm)(x)
    return maker.layer(layers.ReLU, f"{name}_relu")(x)


def _mean(maker: Maker, x: Any, name: str) -> Any:
    if len(x.shape) == 2:
        return x
    kind = _kind("GlobalAveragePooling", x)
    return maker.layer(kind, f"{name}_mean", data_format=maker.data_format)(x)


def _kind(name: str, x: Any) -> type:
    """The layer of this name for the number of axes of `x`."""
    return getattr(layers, f"{name}{len(x.shape) - 2}D")
