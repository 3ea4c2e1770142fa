"""The zeros that magnitude pruning has made."""

import keras
import numpy as np

from ptkeras.magnitude.kernels import kernels


def zeros(model):
    """The share of zeros in each kernel."""
    return [np.mean(kernel.values == 0) for kernel in kernels(model)]


class Zeros(keras.callbacks.Callback):
    """The zeros behind each step."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def on_train_batch_end(self, batch, logs=None):
        if hasattr(self.model, "jax_state_sync"):
            self.model.jax_state_sync()
        self.seen.append(zeros(self.model))
