"""Weight decay as PyTorch's SGD has it."""

from __future__ import annotations

import keras


def decay_weights(model: keras.Model, weight_decay: float) -> None:
    """L2 regularisation of every trainable variable, as PyTorch's SGD has it.

    The gradient of w gets `weight_decay * w` before the momentum is applied. Keras's own
    `SGD(weight_decay=…)` is another thing: it shrinks the weights apart from the gradient
    (Loshchilov & Hutter, 2019). The regularizer hangs on the variables, which reconfigurations
    carry over, and so is not in the configs of the layers that are saved.

    Args:
        model: a built model.
        weight_decay: times each weight, what its gradient gets; 0 for none.
    """
    if weight_decay:
        for variable in model.trainable_variables:
            if variable.regularizer is None:
                variable.regularizer = keras.regularizers.L2(weight_decay / 2)
