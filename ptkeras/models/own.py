"""Networks of the user's own, named as `package.module:function`."""

from __future__ import annotations

import keras

from ptkeras.utils.functions import function_named


def own_network(name: str, input_shape: tuple[int, int, int], num_classes: int) -> keras.Model:
    """Builds the network that a function of the user's returns.

    Args:
        name: `package.module:function`; the function is called with the next two arguments.
        input_shape: `(height, width, channels)` of an image, in pixels.
        num_classes: Number of classes.

    Returns:
        A model that maps images of shape `(batch, height, width, channels)` to logits of shape
        `(batch, num_classes)`.

    Raises:
        ValueError: If there is no such function, or it returns something else.
    """
    model = function_named(name, "network")(input_shape, num_classes)
    if not isinstance(model, keras.Model):
        raise ValueError(
            f"'{name}' must return a keras.Model; it returned a {type(model).__name__}."
        )
    outputs = model.compute_output_shape((None, *input_shape))
    if outputs != (None, num_classes):
        raise ValueError(
            f"'{name}' must return a model of {num_classes} logits for each image, shape "
            f"(None, {num_classes}); its outputs have shape {outputs}."
        )
    return model
