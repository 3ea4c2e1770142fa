"""The papers' networks, by name."""

import keras

from ptkeras.models.applications import application, applications
from ptkeras.models.mobilenet import mobilenet
from ptkeras.models.own import own_network
from ptkeras.models.resnet import resnet
from ptkeras.models.vgg import vgg
from ptkeras.utils.names import did_you_mean

__all__ = ["build", "names"]

_FAMILIES = {
    "resnet20": resnet,
    "resnet32": resnet,
    "resnet56": resnet,
    "resnet110": resnet,
    "resnet50": resnet,
    "vgg8": vgg,
    "vgg11": vgg,
    "vgg13": vgg,
    "vgg16": vgg,
    "vgg19": vgg,
    "mobilenet": mobilenet,
}


def names() -> list[str]:
    """The names that `build` knows: the papers' networks, then those of `keras.applications`.

    Returns:
        The names; case tells `resnet50`, which is ours, from Keras's `ResNet50`.
    """
    return [*_FAMILIES, *sorted(applications())]


def build(name: str, input_shape: tuple[int, int, int], num_classes: int) -> keras.Model:
    """Builds a network with random weights, to be trained from scratch.

    ```python
    model = ptkeras.models.build("resnet32", (32, 32, 3), 10)
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    ```

    Args:
        name: A name out of `names()`, such as "resnet32", "vgg13" or "MobileNetV2". `resnet50`, the
            VGGs and `mobilenet` take their CIFAR form for images under 64 pixels and their ImageNet
            form otherwise. Or `package.module:function`, a function of the user's that is called
            with `input_shape` and `num_classes` and returns a model.
        input_shape: `(height, width, channels)` of an image, in pixels.
        num_classes: Number of classes.

    Returns:
        A functional model of plain Keras layers that maps images of shape
        `(batch, height, width, channels)` to float32 logits of shape `(batch, num_classes)`.

    Raises:
        ValueError: If the name is unknown, or the shape or number of classes is not one that the
            network takes.
    """
    shape = tuple(input_shape)
    if len(shape) != 3 or not all(isinstance(n, int) and n > 0 for n in shape):
        raise ValueError(
            f"input_shape must be three positive integers (height, width, channels); got {shape}."
        )
    if num_classes < 1:
        raise ValueError(f"num_classes must be at least 1; got {num_classes}.")
    if ":" in name:
        return own_network(name, input_shape, num_classes)
    if name in _FAMILIES:
        return _FAMILIES[name](name, shape, num_classes)
    if name in applications():
        return application(name, shape, num_classes)
    hint = did_you_mean(name, names(), most=3)
    raise ValueError(f"Unknown network {name!r}{hint}; the networks are {', '.join(names())}.")
