"""Residual networks (He et al. 2016, arXiv 1512.03385).

Every shortcut that changes size is a 1x1 convolution with batch normalisation (option B of
sec. 3.3), as it is in the code of PruneTrain's authors; He et al.'s own CIFAR networks pad with
zeros there.
"""

from collections.abc import Callable

import keras

from ptkeras.models.layers import batch_norm, conv, is_small, logits, relu

# Blocks in each of the three stages of a CIFAR network: depth = 6n + 2 (sec. 4.2).
_CIFAR_BLOCKS = {"resnet20": 3, "resnet32": 5, "resnet56": 9, "resnet110": 18}

Block = Callable[..., keras.KerasTensor]


def resnet(name: str, input_shape: tuple[int, int, int], num_classes: int) -> keras.Model:
    """Builds a residual network.

    - resnet20, resnet32, resnet56, resnet110: the CIFAR networks of sec. 4.2, with basic blocks and
      16, 32 and 64 filters, for images of any size.
    - resnet50, for images under 64 pixels: the network that PruneTrain's authors train on CIFAR by
      this name. It has three stages of 8 bottleneck blocks of 16, 32 and 64 filters (64, 128 and
      256 at their ends), so it counts 74 layers and not 50.
    - resnet50, for larger images: the ImageNet network of table 1, whose 1x1 convolutions carry the
      stride: 3.86 GMACs of convolution and dense layers at 224x224 and 25.6 M parameters.
      (PruneTrain's authors have the stride in the 3x3 convolution, which takes 4.09 GMACs.)

    Args:
        name: One of the names above.
        input_shape: `(height, width, channels)`, in pixels.
        num_classes: Number of classes.

    Returns:
        A functional model that maps images to logits of shape `(batch, num_classes)`.
    """
    image = keras.Input(input_shape, name="image")
    if name in _CIFAR_BLOCKS:
        x = _cifar_stages(image, basic_block, _CIFAR_BLOCKS[name])
    elif is_small(input_shape):
        x = _cifar_stages(image, bottleneck_block, 8)
    else:
        x = _imagenet_stages(image)
    x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
    return keras.Model(image, logits(num_classes)(x), name=name)


def _cifar_stages(image: keras.KerasTensor, block: Block, num_blocks: int) -> keras.KerasTensor:
    """A 3x3 stem and three stages of `num_blocks` blocks each; the last two halve the image."""
    x = conv(16, 3, "stem_conv")(image)
    x = relu("stem_relu")(batch_norm("stem_bn")(x))
    for stage, filters in enumerate((16, 32, 64), start=1):
        for index in range(num_blocks):
            strides = 2 if stage > 1 and index == 0 else 1
            x = block(x, filters, strides, f"stage{stage}_block{index}")
    return x


def _imagenet_stages(image: keras.KerasTensor) -> keras.KerasTensor:
    """The 7x7 stem, max pooling and four stages of table 1."""
    x = conv(64, 7, "stem_conv", strides=2)(image)
    x = relu("stem_relu")(batch_norm("stem_bn")(x))
    x = keras.layers.MaxPooling2D(3, strides=2, padding="same", name="stem_pool")(x)
    for stage, num_blocks in enumerate((3, 4, 6, 3), start=1):
        filters = 32 * 2**stage
        for index in range(num_blocks):
            strides = 2 if stage > 1 and index == 0 else 1
            x = bottleneck_block(
                x, filters, strides, f"stage{stage}_block{index}", stride_first=True
            )
    return x


def basic_block(x: keras.KerasTensor, filters: int, strides: int, name: str) -> keras.KerasTensor:
    """Two 3x3 convolutions and a shortcut (fig. 5, left).

    Args:
        x: Images of shape `(batch, height, width, channels)`.
        filters: Channels of both convolutions.
        strides: Step of the first convolution and of the shortcut.
        name: Prefix of the layers' names.

    Returns:
        Images of shape `(batch, height / strides, width / strides, filters)`.
    """
    y = conv(filters, 3, f"{name}_conv1", strides)(x)
    y = relu(f"{name}_relu1")(batch_norm(f"{name}_bn1")(y))
    y = batch_norm(f"{name}_bn2")(conv(filters, 3, f"{name}_conv2")(y))
    return _join(x, y, strides, name)


def bottleneck_block(
    x: keras.KerasTensor, filters: int, strides: int, name: str, stride_first: bool = False
) -> keras.KerasTensor:
    """A 1x1, a 3x3 and a 1x1 convolution and a shortcut (fig. 5, right).

    Args:
        x: Images of shape `(batch, height, width, channels)`.
        filters: Channels of the first two convolutions; the last one has four times as many.
        strides: Step of one convolution and of the shortcut.
        name: Prefix of the layers' names.
        stride_first: Whether the first 1x1 convolution takes the step, as in He et al., or the 3x3
            convolution, as in the code of PruneTrain's authors.

    Returns:
        Images of shape `(batch, height / strides, width / strides, 4 * filters)`.
    """
    first, second = (strides, 1) if stride_first else (1, strides)
    y = conv(filters, 1, f"{name}_conv1", first)(x)
    y = relu(f"{name}_relu1")(batch_norm(f"{name}_bn1")(y))
    y = conv(filters, 3, f"{name}_conv2", second)(y)
    y = relu(f"{name}_relu2")(batch_norm(f"{name}_bn2")(y))
    y = batch_norm(f"{name}_bn3")(conv(4 * filters, 1, f"{name}_conv3")(y))
    return _join(x, y, strides, name)


def _join(x: keras.KerasTensor, y: keras.KerasTensor, strides: int, name: str) -> keras.KerasTensor:
    """Adds the shortcut from `x` to the branch `y`, projected if their shapes differ."""
    if strides != 1 or x.shape[-1] != y.shape[-1]:
        x = conv(y.shape[-1], 1, f"{name}_shortcut_conv", strides)(x)
        x = batch_norm(f"{name}_shortcut_bn")(x)
    return relu(f"{name}_relu")(keras.layers.Add(name=f"{name}_add")([x, y]))
