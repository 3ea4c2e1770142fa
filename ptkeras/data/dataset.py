"""What `load` returns, and the part of its pipeline that decides anew at each epoch."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import tensorflow as tf

# (epoch, batch size), both int64 scalars, to the batches of that epoch.
EpochBatches = Callable[[tf.Tensor, tf.Tensor], tf.data.Dataset]


@dataclasses.dataclass(frozen=True)
class Dataset:
    """Batches to train and test with.

    Attributes:
        name: The name that `load` was called with.
        train: Batches of one epoch: images, float32 of shape `(batch, height, width, channels)`,
            normalised, and labels, int32 of shape `(batch,)`. The last batch may be smaller.
            Whenever an iterator over it starts, it reads `epoch` and `batch_size`, and what it
            yields depends on those and on the seed alone.
        test: The same, not augmented and always in the same order and batch size.
        labels: Name of each class.
        input_shape: `(height, width, channels)` of an image, in pixels.
        num_train: Number of images to train with.
        num_test: Number of images to test with.
        mean: What is subtracted from each channel, in pixel values (0 to 255; 0 to 16 for digits).
        std: What each channel is then divided by, in pixel values.
        epoch: int64 variable: the epoch that the next iterator over `train` will yield. In a `fit`,
            the callback `EpochSeed` keeps it.
        batch_size: int64 variable: the batch size, global over replicas, of the next iterator over
            `train`. It may grow in the middle of a `fit`, between two epochs.
        first_step: int64 variable: how many batches the next iterator over `train` leaves out, for
            a training that goes on in the middle of an epoch.
        files: Paths of the files that images are read from; none for "digits".
    """

    name: str
    train: tf.data.Dataset
    test: tf.data.Dataset
    labels: tuple[str, ...]
    input_shape: tuple[int, int, int]
    num_train: int
    num_test: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    epoch: tf.Variable
    batch_size: tf.Variable
    first_step: tf.Variable
    files: tuple[str, ...] = ()

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return len(self.labels)

    def facts(self) -> str:
        """What tells copies of the data on two machines apart: counts, labels, names and sizes."""
        files = [[Path(path).name, tf.io.gfile.stat(path).length] for path in self.files]
        counts = [self.name, self.num_train, self.num_test, self.input_shape]
        return json.dumps([counts, self.labels, self.mean, self.std, files])


def cpu_variable(value: int, name: str) -> tf.Variable:
    """A variable that `tf.data` can read.

    Args:
        value: Its first value.
        name: Its name.

    Returns:
        An int64 scalar that is not trained.
    """
    # tf.data runs on the CPU, and cannot read what an accelerator holds.
    with tf.device("CPU:0"):
        return tf.Variable(value, trainable=False, dtype=tf.int64, name=name)


def one_epoch(
    batches: EpochBatches,
    epoch: tf.Variable,
    batch_size: tf.Variable,
    first_step: tf.Variable,
    num_examples: int,
) -> tf.data.Dataset:
    """A dataset that reads the epoch and the batch size when an iterator over it starts.

    Args:
        batches: Makes the batches of an epoch; runs inside the graph of the dataset.
        epoch: Number of the epoch, counted from 0.
        batch_size: Examples in a batch.
        first_step: Batches to leave out.
        num_examples: Examples in an epoch.

    Returns:
        The dataset. Its `cardinality()` is that of an epoch at the batch size of the moment.
    """
    dataset = tf.data.Dataset.range(1).flat_map(
        lambda _: batches(epoch.read_value(), batch_size.read_value()).skip(first_step.read_value())
    )
    options = tf.data.Options()
    # Were it left to TensorFlow, workers would look for files to share out, and find none.
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.DATA
    dataset = dataset.prefetch(tf.data.AUTOTUNE).with_options(options)
    # tf.data cannot know what flat_map will yield. Keras asks here when a fit starts, and with the
    # answer shows its progress and does not warn that the data ran out when the first epoch ends.
    dataset.cardinality = lambda: (
        -(-num_examples // batch_size.read_value()) - first_step.read_value()
    )
    return dataset
