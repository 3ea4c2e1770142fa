"""Data sets that do not fit in memory, or whose images differ in size: read from their files."""

from collections.abc import Callable

import tensorflow as tf

from ptkeras.data import augment
from ptkeras.data.dataset import EpochBatches
from ptkeras.data.shard import WHOLE, Shard, padded

# Records that are put in a random order together, after the files themselves have been.
_SHUFFLE_WINDOW = 8192
_FILES_AT_ONCE = 16

# A serialised record to a raw image of any size and its label.
Parse = Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor]]
Statistics = tuple[tuple[float, ...], tuple[float, ...]]


def train_batches(
    files: list[str],
    parse: Parse,
    size: int,
    statistics: Statistics,
    seed: int,
    augmented: bool,
    num_examples: int,
    shard: Shard = WHOLE,
) -> EpochBatches:
    """Shuffled batches, every random number a function of seed, epoch and place in the epoch.

    Args:
        files: TFRecord files of the training set.
        parse: Decodes a record.
        size: Side of the images, in pixels.
        statistics: Mean and standard deviation of each channel, in pixel values.
        seed: Seed of the run.
        augmented: Whether to crop and mirror images at random; they are shuffled in any case.
        num_examples: Number of images in the files; needed for a part of them.
        shard: Which images of each batch this process has. It reads the records of all, and decodes
            its own.

    Returns:
        A function for `one_epoch`.
    """

    def batches(epoch: tf.Tensor, batch_size: tf.Tensor) -> tf.data.Dataset:
        order = augment.epoch_order(seed, epoch, len(files))
        records = _read(tf.gather(tf.constant(files), order))
        records = _shuffle(records, seed, epoch)

        def example(index: tf.Tensor, record: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            image, label = parse(record)
            if augmented:
                image = augment.random_resized_crop(image, size, seed, epoch, index)
            else:
                image = augment.centre_crop(image, size)
            return augment.normalise(image, *statistics), label

        places = records.enumerate()
        if shard != WHOLE:
            places = places.take(shard.used(num_examples)).shard(shard.count, shard.index)
        examples = places.map(example, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
        return examples.batch(batch_size // shard.count)

    return batches


def test_batches(
    files: list[str],
    parse: Parse,
    size: int,
    statistics: Statistics,
    batch_size: int,
    num_examples: int,
    shard: Shard = WHOLE,
) -> tf.data.Dataset:
    """Batches in an order that is always the same, the middle of each image.

    Args:
        files: TFRecord files of the test set.
        parse: Decodes a record.
        size: Side of the images, in pixels.
        statistics: Mean and standard deviation of each channel, in pixel values.
        batch_size: Examples in a batch, over all processes.
        num_examples: Number of images in the files; needed for a part of them.
        shard: Which images of each batch this process has.

    Returns:
        The dataset; its last batch may be smaller.
    """

    def example(record: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        image, label = parse(record)
        return augment.normalise(augment.centre_crop(image, size), *statistics), label

    records = _read(tf.constant(files)).shard(shard.count, shard.index)
    examples = records.map(example, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    batches = examples.batch(batch_size // shard.count)
    if shard != WHOLE:
        batches = padded(batches, -(-num_examples // batch_size))
    return batches.prefetch(tf.data.AUTOTUNE)


def _read(files: tf.Tensor) -> tf.data.Dataset:
    """The records of several files at once, in an order that the order of the files decides."""
    return tf.data.Dataset.from_tensor_slices(files).interleave(
        tf.data.TFRecordDataset,
        cycle_length=_FILES_AT_ONCE,
        num_parallel_calls=tf.data.AUTOTUNE,
        deterministic=True,
    )


def _shuffle(records: tf.data.Dataset, seed: int, epoch: tf.Tensor) -> tf.data.Dataset:
    """Shuffles each window of records.

    `Dataset.shuffle` would also depend on the global seed, and so on what else a program does.
    """

    def window(index: tf.Tensor, records: tf.Tensor) -> tf.Tensor:
        return tf.gather(records, augment.window_order(seed, epoch, index, tf.size(records)))

    windows = records.batch(_SHUFFLE_WINDOW).enumerate().map(window)
    return windows.prefetch(1).unbatch()
