"""Augmentation: functions of images and random numbers, with no state of their own."""

import tensorflow as tf

# The streams of random numbers of an epoch.
_ORDER, _SHIFT, _FLIP, _CROP, _WINDOW = range(5)
_STREAMS = 8


def _seed(seed: int, epoch: tf.Tensor, stream: int) -> tf.Tensor:
    """The seed of one stream of one epoch: int64 of shape (2,)."""
    return tf.stack([tf.constant(seed, tf.int64), epoch * _STREAMS + stream])


def epoch_order(seed: int, epoch: tf.Tensor, num_examples: int) -> tf.Tensor:
    """The order of the examples in an epoch.

    Args:
        seed: Seed of the run.
        epoch: Number of the epoch, an int64 scalar.
        num_examples: Examples in the epoch.

    Returns:
        A permutation of `range(num_examples)`, int32.
    """
    order_seed = _seed(seed, epoch, _ORDER)
    return tf.random.experimental.stateless_shuffle(tf.range(num_examples), order_seed)


def window_order(
    seed: int, epoch: tf.Tensor, index: tf.Tensor, num_examples: tf.Tensor
) -> tf.Tensor:
    """The order of the examples in one window of an epoch.

    Args:
        seed: Seed of the run.
        epoch: Number of the epoch, an int64 scalar.
        index: Number of the window in the epoch, an int64 scalar.
        num_examples: Examples in the window, an int32 scalar.

    Returns:
        A permutation of `range(num_examples)`, int32.
    """
    window_seed = tf.random.experimental.stateless_fold_in(_seed(seed, epoch, _WINDOW), index)
    return tf.random.experimental.stateless_shuffle(tf.range(num_examples), window_seed)


def epoch_shifts(seed: int, epoch: tf.Tensor, num_examples: int, padding: int) -> tf.Tensor:
    """Where to crop each example of an epoch out of its padded image.

    Args:
        seed: Seed of the run.
        epoch: Number of the epoch, an int64 scalar.
        num_examples: Examples in the epoch.
        padding: Pixels of padding on each side.

    Returns:
        Row and column of each crop's corner, from 0 to `2 * padding`: int32 of shape
        `(num_examples, 2)`.
    """
    return tf.random.stateless_uniform(
        (num_examples, 2), _seed(seed, epoch, _SHIFT), 0, 2 * padding + 1, tf.int32
    )


def epoch_flips(seed: int, epoch: tf.Tensor, num_examples: int) -> tf.Tensor:
    """Which examples of an epoch to mirror.

    Args:
        seed: Seed of the run.
        epoch: Number of the epoch, an int64 scalar.
        num_examples: Examples in the epoch.

    Returns:
        True for one in two: bool of shape `(num_examples,)`.
    """
    coins = tf.random.stateless_uniform((num_examples,), _seed(seed, epoch, _FLIP), 0, 2, tf.int32)
    return coins == 1


def pad_and_crop(images: tf.Tensor, padding: int, shifts: tf.Tensor, flips: tf.Tensor) -> tf.Tensor:
    """Pads a batch with zeros, crops each image to its old size, and mirrors some of them.

    He et al. 2016 (arXiv 1512.03385), sec. 4.2, with a padding of 4 pixels. Padding goes on before
    normalisation, so that it is black, as in the code of PruneTrain's authors.

    Args:
        images: Raw pixels of shape `(batch, height, width, channels)`.
        padding: Pixels of padding on each side.
        shifts: Row and column of each crop's corner, int32 of shape `(batch, 2)`.
        flips: Whether to mirror each image, bool of shape `(batch,)`.

    Returns:
        Images of the same shape and dtype.
    """
    height, width = images.shape[1:3]
    padded = tf.pad(images, [[0, 0], [padding, padding], [padding, padding], [0, 0]])
    rows = shifts[:, :1] + tf.range(height)
    columns = tf.where(flips[:, tf.newaxis], tf.range(width)[::-1], tf.range(width))
    cropped = tf.gather(padded, rows, axis=1, batch_dims=1)
    return tf.gather(cropped, shifts[:, 1:] + columns, axis=2, batch_dims=1)


def random_resized_crop(
    image: tf.Tensor, size: int, seed: int, epoch: tf.Tensor, index: tf.Tensor
) -> tf.Tensor:
    """Crops a random part of an image, stretches it to a square and mirrors it half of the time.

    Szegedy et al. 2015 (arXiv 1409.4842), sec. 6: 8 to 100 % of the area, at an aspect ratio
    between 3/4 and 4/3.

    Args:
        image: Raw pixels of shape `(height, width, channels)`.
        size: Side of the result, in pixels.
        seed: Seed of the run.
        epoch: Number of the epoch, an int64 scalar.
        index: Place of the image in the epoch, an int64 scalar.

    Returns:
        float32 image of shape `(size, size, channels)`.
    """
    crop_seed = tf.random.experimental.stateless_fold_in(_seed(seed, epoch, _CROP), index)
    flip_seed = tf.random.experimental.stateless_fold_in(_seed(seed, epoch, _FLIP), index)
    begin, extent, _ = tf.image.stateless_sample_distorted_bounding_box(
        tf.shape(image),
        bounding_boxes=tf.zeros((1, 0, 4)),
        seed=crop_seed,
        min_object_covered=0.0,
        aspect_ratio_range=(3 / 4, 4 / 3),
        area_range=(0.08, 1.0),
        max_attempts=10,
        use_image_if_no_bounding_boxes=True,
    )
    resized = tf.image.resize(tf.slice(image, begin, extent), (size, size))
    return tf.image.stateless_random_flip_left_right(resized, flip_seed)


def centre_crop(image: tf.Tensor, size: int) -> tf.Tensor:
    """Scales an image so that its shorter side is 256/224 of `size`, and crops its middle.

    Args:
        image: Raw pixels of shape `(height, width, channels)`.
        size: Side of the result, in pixels.

    Returns:
        float32 image of shape `(size, size, channels)`.
    """
    sides = tf.cast(tf.shape(image)[:2], tf.float32)
    scale = round(size * 256 / 224) / tf.reduce_min(sides)
    scaled = tf.image.resize(image, tf.cast(tf.round(sides * scale), tf.int32))
    return tf.image.resize_with_crop_or_pad(scaled, size, size)


def normalise(images: tf.Tensor, mean: tuple[float, ...], std: tuple[float, ...]) -> tf.Tensor:
    """Brings each channel to mean 0 and standard deviation 1 over the data set.

    Args:
        images: Raw pixels of shape `(..., channels)`, of any dtype.
        mean: Mean of each channel, in pixel values.
        std: Standard deviation of each channel, in pixel values.

    Returns:
        `(images - mean) / std`, float32.
    """
    return (tf.cast(images, tf.float32) - tf.constant(mean)) / tf.constant(std)
