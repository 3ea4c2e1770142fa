"""Who of several processes, and of the devices of one, trains with which images of a batch."""

import dataclasses

import tensorflow as tf


@dataclasses.dataclass(frozen=True)
class Shard:
    """The images of each batch that one process has: of the places in the epoch, every `count`-th.

    Attributes:
        index: Which one of the processes it is, from 0.
        count: Number of processes.
        replicas: Number of devices over all processes. The images of an epoch are cut to a multiple
            of it, so that no device ever has none: up to `replicas - 1` are left out, others in
            each epoch.
    """

    index: int = 0
    count: int = 1
    replicas: int = 1

    def used(self, num_examples: int) -> int:
        """The number of images in an epoch that some device trains with."""
        return num_examples - num_examples % self.replicas


WHOLE = Shard()


def padded(part: tf.data.Dataset, num_batches: int) -> tf.data.Dataset:
    """Gives every process the same number of batches, the last of them empty where there is none.

    Args:
        part: Batches of one process, of which the last may be missing.
        num_batches: Number of batches that the process with the most has.
    """
    empty = tf.nest.map_structure(
        lambda spec: tf.zeros((1, 0, *spec.shape[1:]), spec.dtype), part.element_spec
    )
    padding = tf.data.Dataset.from_tensor_slices(empty)
    return part.concatenate(padding).take(num_batches)


def split(batches: tf.data.Dataset, devices: int) -> tf.data.Dataset:
    """Shares each batch out over the devices of one process.

    Args:
        batches: Its batches.
        devices: Number of its devices.

    Returns:
        For each batch one part a device, one after the other, as
        `tf.distribute.Strategy.distribute_datasets_from_function` wants them.
    """

    def parts(*batch: tf.Tensor) -> tf.data.Dataset:
        return tf.data.Dataset.range(devices).map(
            lambda device: tf.nest.map_structure(lambda values: values[device::devices], batch)
        )

    return batches.flat_map(parts) if devices > 1 else batches
