"""MobileNet (Howard et al. 2017, arXiv 1704.04861)."""

import keras

from ptkeras.models.layers import batch_norm, conv, is_small, logits, relu

# (filters, stride) of the 13 depthwise separable convolutions of table 1.
_BLOCKS = (
    (64, 1),
    (128, 2),
    (128, 1),
    (256, 2),
    (256, 1),
    (512, 2),
    *((512, 1),) * 5,
    (1024, 2),
    (1024, 1),
)


def mobilenet(name: str, input_shape: tuple[int, int, int], num_classes: int) -> keras.Model:
    """Builds MobileNet v1 of width 1.

    For images under 64 pixels the first convolution keeps the image's size, where it halves larger
    ones: 32x32 images still have 2x2 pixels at the end instead of one.

    Args:
        name: The model's name.
        input_shape: `(height, width, channels)`, in pixels.
        num_classes: Number of classes.

    Returns:
        A functional model that maps images to logits of shape `(batch, num_classes)`.
    """
    image = keras.Input(input_shape, name="image")
    x = conv(32, 3, "stem_conv", strides=1 if is_small(input_shape) else 2)(image)
    x = relu("stem_relu")(batch_norm("stem_bn")(x))
    for index, (filters, strides) in enumerate(_BLOCKS):
        x = _separable_block(x, filters, strides, f"block{index}")
    x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
    return keras.Model(image, logits(num_classes)(x), name=name)


def _separable_block(
    x: keras.KerasTensor, filters: int, strides: int, name: str
) -> keras.KerasTensor:
    """A 3x3 depthwise and a 1x1 convolution, each with batch normalisation and ReLU (fig. 3)."""
    x = keras.layers.DepthwiseConv2D(
        3,
        strides=strides,
        padding="same",
        use_bias=False,
        depthwise_initializer="he_normal",
        name=f"{name}_depthwise_conv",
    )(x)
    x = relu(f"{name}_depthwise_relu")(batch_norm(f"{name}_depthwise_bn")(x))
    x = conv(filters, 1, f"{name}_pointwise_conv")(x)
    return relu(f"{name}_pointwise_relu")(batch_norm(f"{name}_pointwise_bn")(x))
