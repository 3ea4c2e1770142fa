"""Trainings that are stopped: what stops them, and what is trained."""

import os

import keras
import numpy as np
from keras import layers


class StoppedError(Exception):
    """Stands for whatever ends a process."""


class StopAt(keras.callbacks.Callback):
    def __init__(self, epoch):
        super().__init__()
        self.epoch = epoch

    def on_epoch_begin(self, epoch, logs=None):
        if epoch == self.epoch:
            raise StoppedError


class FailIn(StopAt):
    """Ends a process behind the second step of an epoch."""

    def on_epoch_begin(self, epoch, logs=None):
        self.now = epoch

    def on_train_batch_end(self, batch, logs=None):
        if (self.now, batch) == (self.epoch, 1):
            raise StoppedError


class StopAfter(StopAt):
    """Ends a process behind the checkpoint of an epoch."""

    def on_epoch_begin(self, epoch, logs=None):
        pass

    def on_epoch_end(self, epoch, logs=None):
        if epoch == self.epoch:
            raise StoppedError


class BatchSize:
    """A batch size that a pipeline would read."""

    def __init__(self, value):
        self.value = value

    def assign(self, value):
        self.value = value

    def __int__(self):
        return self.value


class Signal(keras.callbacks.Callback):
    """Sends this process a signal behind a step, or in a validation."""

    def __init__(self, number, epoch, step=None):
        super().__init__()
        self.number, self.at, self.step = number, epoch, step

    def on_epoch_begin(self, epoch, logs=None):
        self.now = epoch

    def on_train_batch_end(self, batch, logs=None):
        if (self.now, batch) == (self.at, self.step):
            os.kill(os.getpid(), self.number)

    def on_test_begin(self, logs=None):
        if self.now == self.at and self.step is None:
            os.kill(os.getpid(), self.number)


def network(width=8):
    inputs = keras.Input((8, 8, 1))
    x = layers.Conv2D(width, 3, padding="same", name="stem")(inputs)
    x = layers.BatchNormalization(name="stem_bn")(x)
    y = layers.Conv2D(width, 3, padding="same", activation="relu", name="inner")(x)
    # Without a seed PyTorch draws from a generator of its own, whose state no file holds.
    y = layers.Dropout(0.2, seed=5, name="dropout")(y)
    y = layers.Conv2D(width, 3, padding="same", name="outer")(y)
    x = layers.ReLU(name="relu")(layers.Add(name="add")([x, y]))
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    return keras.Model(inputs, layers.Dense(10, name="head")(x))


def compiled(optimizer="adam", model=None):
    model = model or network()
    optimizer = {
        "adam": lambda: keras.optimizers.Adam(0.01),
        "momentum": lambda: keras.optimizers.SGD(0.05, momentum=0.9),
        "ema": lambda: keras.optimizers.SGD(0.05, use_ema=True, ema_momentum=0.9),
    }[optimizer]()
    model.compile(optimizer, keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return model


def new_process(seed):
    keras.utils.clear_session(free_memory=False)  # names count from zero
    keras.utils.set_random_seed(seed)


def array(variable):
    return keras.ops.convert_to_numpy(variable)


def assert_same(one, other):
    assert [v.path for v in one.weights] == [v.path for v in other.weights]
    for a, b in zip(one.variables, other.variables, strict=True):  # generators' states among them
        np.testing.assert_array_equal(array(a), array(b), err_msg=a.path)
    ours = {v.path: v for v in one.optimizer.variables}
    for b in other.optimizer.variables:
        np.testing.assert_array_equal(array(ours[b.path]), array(b), err_msg=b.path)
