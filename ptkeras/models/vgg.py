"""VGG networks (Simonyan & Zisserman 2015, arXiv 1409.1556) with batch normalisation."""

import keras

from ptkeras.models.layers import batch_norm, conv, is_small, logits, relu

_FILTERS = (64, 128, 256, 512, 512)

# Convolutions in each of the five stages (table 1 of the paper; VGG-8 is PruneTrain's).
_DEPTHS = {
    "vgg8": (1, 1, 1, 1, 1),
    "vgg11": (1, 1, 2, 2, 2),
    "vgg13": (2, 2, 2, 2, 2),
    "vgg16": (2, 2, 3, 3, 3),
    "vgg19": (2, 2, 4, 4, 4),
}


def vgg(name: str, input_shape: tuple[int, int, int], num_classes: int) -> keras.Model:
    """Builds a VGG network, each convolution followed by batch normalisation and ReLU.

    Max pooling halves the image after each of the five stages, and stops where a side is one pixel:
    images of 8x8 are pooled three times. For images under 64 pixels the head is a single dense
    layer, as PruneTrain's authors have it for CIFAR; for larger ones it is the paper's: two dense
    layers of 4096 with half of their outputs dropped out, then the classifier.

    In the authors' VGG-8 no ReLU follows the convolutions, seemingly by oversight; here it does.

    Args:
        name: One of vgg8, vgg11, vgg13, vgg16 and vgg19.
        input_shape: `(height, width, channels)`, in pixels.
        num_classes: Number of classes.

    Returns:
        A functional model that maps images to logits of shape `(batch, num_classes)`.
    """
    image = keras.Input(input_shape, name="image")
    x = image
    for stage, (filters, depth) in enumerate(zip(_FILTERS, _DEPTHS[name], strict=True), start=1):
        for index in range(1, depth + 1):
            x = conv(filters, 3, f"stage{stage}_conv{index}")(x)
            x = batch_norm(f"stage{stage}_bn{index}")(x)
            x = relu(f"stage{stage}_relu{index}")(x)
        if min(x.shape[1:3]) > 1:
            x = keras.layers.MaxPooling2D(2, name=f"stage{stage}_pool")(x)
    x = keras.layers.Flatten(name="flatten")(x)
    if not is_small(input_shape):
        x = _hidden_layers(x)
    return keras.Model(image, logits(num_classes)(x), name=name)


def _hidden_layers(x: keras.KerasTensor) -> keras.KerasTensor:
    """The two hidden dense layers of the ImageNet head (sec. 2.1 and 3.1)."""
    for index in (1, 2):
        dense = keras.layers.Dense(4096, kernel_initializer="he_normal", name=f"head_dense{index}")
        x = relu(f"head_relu{index}")(dense(x))
        x = keras.layers.Dropout(0.5, name=f"head_dropout{index}")(x)
    return x
