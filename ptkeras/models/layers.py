"""The layers that the networks of this folder share."""

import keras

# PyTorch's defaults, which PruneTrain's experiments ran with; Keras's own are 0.99 and 1e-3.
BATCH_NORM_MOMENTUM = 0.9
BATCH_NORM_EPSILON = 1e-5

# Images of a smaller side than this, in pixels, get a network's CIFAR form and others its
# ImageNet form.
LARGE_INPUT = 64


def is_small(input_shape: tuple[int, int, int]) -> bool:
    """Whether a network should take its CIFAR form for images of this shape.

    Args:
        input_shape: `(height, width, channels)`, in pixels.

    Returns:
        True if the shorter side is under 64 pixels.
    """
    return min(input_shape[:2]) < LARGE_INPUT


def conv(filters: int, kernel_size: int, name: str, strides: int = 1) -> keras.layers.Conv2D:
    """A convolution that batch normalisation follows: "same" padding and no bias.

    Args:
        filters: Output channels.
        kernel_size: Side of the square kernel, in pixels.
        name: The layer's name.
        strides: Step in both directions, in pixels.

    Returns:
        The layer, with He's initialisation (He et al. 2015, arXiv 1502.01852, sec. 2.2).
    """
    return keras.layers.Conv2D(
        filters,
        kernel_size,
        strides=strides,
        padding="same",
        use_bias=False,
        kernel_initializer="he_normal",
        name=name,
    )


def batch_norm(name: str) -> keras.layers.BatchNormalization:
    """Batch normalisation with PyTorch's momentum and epsilon.

    Args:
        name: The layer's name.

    Returns:
        The layer.
    """
    return keras.layers.BatchNormalization(
        momentum=BATCH_NORM_MOMENTUM, epsilon=BATCH_NORM_EPSILON, name=name
    )


def relu(name: str) -> keras.layers.ReLU:
    """A rectified linear unit of its own, so that it shows in the graph under a name.

    Args:
        name: The layer's name.

    Returns:
        The layer.
    """
    return keras.layers.ReLU(name=name)


def logits(num_classes: int) -> keras.layers.Dense:
    """The last layer of every network: one unbounded score a class.

    Args:
        num_classes: Number of scores.

    Returns:
        A dense layer named "predictions" that computes in float32 whatever the dtype policy is,
        because a softmax cross-entropy over float16 scores overflows.
    """
    return keras.layers.Dense(num_classes, dtype="float32", name="predictions")
