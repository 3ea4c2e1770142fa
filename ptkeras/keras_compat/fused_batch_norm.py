"""Batch normalisation in training by TensorFlow's fused kernels.

All of Keras 3.12 to 3.15 compute it from single operations. A Keras that calls the fused kernel
would make this module needless.
"""

from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import Iterator
from typing import Any

import keras
from keras.layers import BatchNormalization

_KERNEL_MULTIPLE = 4  # a CPU's kernel takes a slow way, slower than Keras's, for other counts
_LOCK = threading.Lock()
_entered = 0  # how many `with` hold, in all threads
_plain = BatchNormalization.call


@contextlib.contextmanager
def fused_batch_norm() -> Iterator[None]:
    """Trains `keras.layers.BatchNormalization` by TensorFlow's fused kernel within `with`.

    Keras 3 computes mean, variance and output in operations of their own on TensorFlow; Keras 2 and
    TensorFlow have one kernel for all three, and one for their gradient, which pass over the
    activations fewer times. The layer computes what it does anyway, up to rounding: also its moving
    variance, for which the kernel has the unbiased estimate, N / (N − 1) times the variance.

    Training functions that are traced within `with`, in any thread, keep the kernel. Keras computes
    as ever what it does not fit: batches that are not of images with their channels last, float64,
    masks, `renorm`, `synchronized`; on CPUs also numbers of channels that are no multiples of 4.
    Other backends than TensorFlow have nothing to change.

        with ptkeras.fused_batch_norm():
            model.fit(dataset, callbacks=[ptkeras.PruneTrain(channel_multiple=4)])
    """
    if keras.config.backend() != "tensorflow":
        yield
        return
    _enter(1)
    try:
        yield
    finally:
        _enter(-1)


def _enter(change: int) -> None:
    global _entered, _plain
    with _LOCK:
        if not _entered:
            _plain = BatchNormalization.call
        _entered += change
        BatchNormalization.call = _call if _entered else _plain


@functools.wraps(BatchNormalization.call)
def _call(self: BatchNormalization, inputs: Any, training: Any = None, mask: Any = None) -> Any:
    if training and self.trainable and mask is None and _fits(self, inputs):
        return _normalize(self, inputs)
    return _plain(self, inputs, training=training, mask=mask)


def _fits(layer: BatchNormalization, inputs: Any) -> bool:
    import tensorflow as tf

    rank = len(inputs.shape)
    if rank != 4 or layer.axis not in (-1, rank - 1):
        return False
    renorm = getattr(layer, "renorm", False)  # which Keras 3.12, the last for Python 3.10, has not
    # A subclass may take other statistics by its own `_moments`, private since Keras 3.0.
    own_moments = type(layer)._moments is not BatchNormalization._moments
    if layer.synchronized or renorm or own_moments:
        return False
    if keras.backend.result_type(inputs.dtype, "float32") != "float32":
        return False
    multiple = layer.moving_mean.shape[0] % _KERNEL_MULTIPLE == 0
    return multiple or bool(tf.config.list_logical_devices("GPU"))


def _normalize(layer: BatchNormalization, inputs: Any) -> Any:
    """What the layer's own `call` returns in training; it updates the moving statistics, too."""
    import tensorflow as tf

    inputs = keras.ops.cast(inputs, "float32")
    channels = layer.moving_mean.shape[0]  # the inputs' own may be unknown where the step is traced
    outputs, mean, variance = tf.compat.v1.nn.fused_batch_norm(
        inputs,
        keras.ops.cast(layer.gamma, "float32") if layer.scale else tf.ones(channels),
        keras.ops.cast(layer.beta, "float32") if layer.center else tf.zeros(channels),
        epsilon=layer.epsilon,
    )
    count = tf.cast(tf.size(inputs) // channels, "float32")
    _move(layer.moving_mean, mean, layer.momentum)
    _move(layer.moving_variance, variance * (count - 1) / count, layer.momentum)
    return keras.ops.cast(outputs, layer.compute_dtype)


def _move(average: keras.Variable, value: Any, momentum: float) -> None:
    """Moves the average as Keras does, whose variables may be of a narrower type."""
    average.assign(keras.ops.cast(average, value.dtype) * momentum + value * (1.0 - momentum))
