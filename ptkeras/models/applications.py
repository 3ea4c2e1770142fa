"""The networks of `keras.applications`, untrained and with logits for outputs."""

import inspect
from collections.abc import Callable

import keras


def applications() -> dict[str, Callable[..., keras.Model]]:
    """The model functions of `keras.applications`.

    Returns:
        The functions by their names, such as "MobileNetV2".
    """
    return {
        name: value
        for name, value in vars(keras.applications).items()
        if name[0].isupper() and inspect.isfunction(value)
    }


def application(name: str, input_shape: tuple[int, int, int], num_classes: int) -> keras.Model:
    """Builds a network of `keras.applications` with random weights.

    Preprocessing layers are left out where Keras lets one choose, because `ptkeras.data` hands out
    normalised images.

    Args:
        name: A name out of `applications()`.
        input_shape: `(height, width, channels)`, in pixels.
        num_classes: Number of classes.

    Returns:
        A functional model that maps images to float32 logits of shape `(batch, num_classes)`.

    Raises:
        ValueError: If the network does not take images of this shape.
    """
    factory = applications()[name]
    options = {
        "weights": None,
        "input_shape": input_shape,
        "classes": num_classes,
        "classifier_activation": None,
    }
    if "include_preprocessing" in inspect.signature(factory).parameters:
        options["include_preprocessing"] = False
    try:
        model = factory(**options)
    except ValueError as error:
        raise ValueError(
            f"keras.applications.{name} does not take images of shape {input_shape}; "
            f"choose a larger image size or another network. Keras says: {error}"
        ) from error
    if model.output.dtype == "float32":
        return model
    # Under a mixed precision policy the scores come in half precision, in which the loss overflows.
    scores = keras.layers.Activation("linear", dtype="float32", name="logits")(model.output)
    return keras.Model(model.input, scores, name=model.name)
