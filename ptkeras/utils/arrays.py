"""The numbers of a variable."""

from __future__ import annotations

import keras
import numpy as np


def numbers(variable: keras.Variable) -> np.ndarray:
    """A variable's numbers, to be read: where TensorFlow holds them on the CPU they are not copied.

    Args:
        variable: a Keras variable. What becomes of it later does not show in the array.
    """
    if keras.config.backend() == "tensorflow":
        import tensorflow as tf

        return np.asarray(tf.convert_to_tensor(variable.value))
    return keras.ops.convert_to_numpy(variable.value)
