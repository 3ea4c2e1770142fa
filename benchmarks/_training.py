"""A network and a batch to train it on, for benchmarks of training steps."""

import contextlib

import keras
import numpy as np

import ptkeras
from ptkeras.models import build

PACKAGES = ("keras", keras.config.backend())


def batch(size, batch_size, classes=10):
    """Random images and labels."""
    random = np.random.default_rng(0)
    images = random.normal(size=(batch_size, size, size, 3)).astype("float32")
    return images, random.integers(0, classes, batch_size)


def network(name, size, classes=10):
    """A network, not compiled."""
    return build(name, (size, size, 3), classes)


def compiled(model, jit_compile=False, **options):
    """A model that can be trained; without XLA, as `ptkeras.train` has it on CPUs."""
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    sgd = keras.optimizers.SGD(0.01, momentum=0.9)
    model.compile(sgd, loss, jit_compile=jit_compile, **options)
    return model


def steps(model, data, count, fused=True):
    """A job: so many training steps, with fused batch norm, as `ptkeras.train` has it, or not."""
    kernels = ptkeras.fused_batch_norm if fused else contextlib.nullcontext

    def run():
        with kernels():
            for _ in range(count):
                model.train_on_batch(*data)

    return run


def evaluation(model, data):
    """A job: the loss of a batch, as the validation of `fit` has it."""

    def run():
        with ptkeras.fused_batch_norm():
            model.test_on_batch(*data)

    return run
