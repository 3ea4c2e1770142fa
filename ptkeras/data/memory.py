"""Data sets that fit in memory: gathered, augmented and normalised a batch at a time."""

import dataclasses

import numpy as np
import tensorflow as tf

from ptkeras.data import augment
from ptkeras.data.dataset import EpochBatches
from ptkeras.data.shard import WHOLE, Shard
from ptkeras.data.streaming import Parse


@dataclasses.dataclass(frozen=True)
class Arrays:
    """Images and their labels.

    Attributes:
        images: uint8 of shape `(examples, height, width, channels)`.
        labels: Integers of shape `(examples,)`.
    """

    images: np.ndarray
    labels: np.ndarray


@dataclasses.dataclass(frozen=True)
class Preparation:
    """What happens to the images of a data set before a network sees them.

    Attributes:
        mean: Mean of each channel, in pixel values.
        std: Standard deviation of each channel, in pixel values.
        padding: Pixels by which a training image may shift, either way.
        flip: Whether a training image may be mirrored.
        image_size: Side that images are scaled to, after augmentation, or None to leave them.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    padding: int
    flip: bool
    image_size: int | None = None


def read(files: list[str], parse: Parse) -> Arrays:
    """Reads a data set into memory.

    Args:
        files: Its TFRecord files.
        parse: Decodes a record into an image, all of one size, and a label.

    Returns:
        The images and labels, in the order of the files.
    """
    records = tf.data.TFRecordDataset(files)
    examples = records.map(parse, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    chunks = list(examples.batch(4096).as_numpy_iterator())
    return Arrays(
        np.concatenate([images for images, _ in chunks]),
        np.concatenate([labels for _, labels in chunks]),
    )


def held_out(train: Arrays, test: Arrays, share: float) -> tuple[Arrays, Arrays]:
    """Splits a training set in two, always alike.

    Args:
        train: The training set.
        test: The test set, which is handed back where nothing is held out.
        share: Share of the training set, rounded, that takes the place of the test set.

    Returns:
        What is left to train with, and what to test with.
    """
    count = round(share * len(train.labels))
    if not count:
        return train, test
    # RandomState, because NumPy promises that its streams never change, as default_rng's may.
    is_held = np.zeros(len(train.labels), bool)
    is_held[np.random.RandomState(0).permutation(len(is_held))[:count]] = True
    rest, held = (Arrays(train.images[mask], train.labels[mask]) for mask in (~is_held, is_held))
    return rest, held


def channel_statistics(images: np.ndarray) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel.

    Args:
        images: uint8 of shape `(examples, height, width, channels)`.

    Returns:
        The means and the standard deviations, in pixel values; a constant channel counts as
        having a deviation of 1.
    """
    means, deviations = [], []
    for channel in range(images.shape[-1]):
        # From the histogram: exact, and no float copy of the data set is made.
        counts = np.bincount(images[..., channel].ravel(), minlength=256) / images[..., 0].size
        mean = float(counts @ np.arange(256))
        means.append(mean)
        deviations.append(float(np.sqrt(counts @ (np.arange(256) - mean) ** 2)) or 1.0)
    return tuple(means), tuple(deviations)


def train_batches(
    arrays: Arrays, how: Preparation, seed: int, augmented: bool, shard: Shard = WHOLE
) -> EpochBatches:
    """Shuffled batches, every random number a function of seed, epoch and place in the epoch.

    Args:
        arrays: The training set.
        how: What to do to the images.
        seed: Seed of the run.
        augmented: Whether to shift and mirror images; they are shuffled in any case.
        shard: Which images of each batch this process has.

    Returns:
        A function for `one_epoch`.
    """
    images, labels = _on_cpu(arrays)
    num_examples = len(arrays.labels)
    used = shard.used(num_examples)

    def batches(epoch: tf.Tensor, batch_size: tf.Tensor) -> tf.data.Dataset:
        # Drawn for the whole epoch at once, so that they do not depend on the batch size.
        order = augment.epoch_order(seed, epoch, num_examples)
        shifts = augment.epoch_shifts(seed, epoch, num_examples, how.padding)
        flips = augment.epoch_flips(seed, epoch, num_examples) & how.flip

        def batch(start: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            here = slice(start + shard.index, tf.minimum(start + batch_size, used), shard.count)
            chosen = tf.gather(images, order[here])
            if augmented:
                chosen = augment.pad_and_crop(chosen, how.padding, shifts[here], flips[here])
            return _finish(chosen, how), tf.gather(labels, order[here])

        starts = tf.data.Dataset.range(0, used, batch_size)
        return starts.map(batch, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)

    return batches


def test_batches(
    arrays: Arrays, how: Preparation, batch_size: int, shard: Shard = WHOLE
) -> tf.data.Dataset:
    """Batches in the order of the arrays, not augmented.

    Args:
        arrays: The test set.
        how: What to do to the images.
        batch_size: Examples in a batch, over all processes.
        shard: Which of them this process has.

    Returns:
        The dataset; its last batch may be smaller.
    """
    images, labels = _on_cpu(arrays)

    def batch(start: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        here = slice(start + shard.index, start + batch_size, shard.count)
        return _finish(images[here], how), labels[here]

    starts = tf.data.Dataset.range(0, len(arrays.labels), batch_size)
    batches = starts.map(batch, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    return batches.prefetch(tf.data.AUTOTUNE)


def _on_cpu(arrays: Arrays) -> tuple[tf.Tensor, tf.Tensor]:
    with tf.device("CPU:0"):
        return tf.constant(arrays.images), tf.constant(arrays.labels, tf.int32)


def _finish(images: tf.Tensor, how: Preparation) -> tf.Tensor:
    if how.image_size is not None:
        images = tf.image.resize(images, (how.image_size, how.image_size))
    return augment.normalise(images, how.mean, how.std)
