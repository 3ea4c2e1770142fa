"""Weights of layers as the variables that they are.

The public properties `kernel` and `embeddings` compute: they add LoRA's product, or undo a
quantization, and subclasses may make another tensor of them.
"""

from __future__ import annotations

from typing import Any

import keras

from ptkeras.keras_compat.tracking import unlocked


def kernel_of(layer: Any) -> keras.Variable:
    """Returns the kernel of a dense layer, an `EinsumDense` or a convolution.

    Since Keras 3.3 for all of them. A public name of the variable would make this needless.
    """
    return layer._kernel


def replace_kernel(layer: keras.layers.EinsumDense, variable: keras.Variable) -> None:
    """Has a layer hold a variable in place of its own kernel.

    All of Keras 3.12 to 3.15. A kernel that is given to a layer would make this needless.
    """
    with unlocked(layer):
        layer._untrack_variable(layer._kernel)
        layer._kernel = variable


def embeddings_of(layer: Any) -> keras.Variable:
    """Returns the table of an `Embedding`.

    Since Keras 3.0. A public name of the variable would make this needless.
    """
    return layer._embeddings
