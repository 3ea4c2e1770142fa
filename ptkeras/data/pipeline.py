"""`load`: a data set by name, as batches."""

import dataclasses
import math
from typing import Any

from ptkeras.data import digits, memory, streaming, tfds_source
from ptkeras.data.dataset import Dataset, EpochBatches, cpu_variable, one_epoch
from ptkeras.data.memory import Arrays, Preparation
from ptkeras.data.own import own_arrays
from ptkeras.data.shard import WHOLE, Shard
from ptkeras.data.tfds_source import Source
from ptkeras.utils.functions import names_function

# Decoded images of this many bytes in all are kept in memory.
_MEMORY_LIMIT = 2**30
_DEFAULT_IMAGE_SIZE = 224

# As the code of PruneTrain's authors has them, in pixel values: the mean of CIFAR-10, and the mean
# over its images of their standard deviation (over all pixels it is a quarter larger).
_CIFAR = (
    tuple(255 * value for value in (0.4914, 0.4822, 0.4465)),
    tuple(255 * value for value in (0.2023, 0.1994, 0.2010)),
)
_IMAGENET = (
    tuple(255 * value for value in (0.485, 0.456, 0.406)),
    tuple(255 * value for value in (0.229, 0.224, 0.225)),
)
_STATISTICS = {"cifar10": _CIFAR, "cifar100": _CIFAR}

# What these show is another thing, or nothing, in a mirror.
_CHARACTERS = ("digits", "mnist", "kmnist", "emnist", "svhn_cropped", "omniglot", "mnist_corrupted")


def load(
    name: str,
    *,
    batch_size: int,
    data_dir: str | None = None,
    seed: int = 0,
    augment: bool = True,
    image_size: int | None = None,
    hold_out: float = 0.0,
    shard: Shard = WHOLE,
) -> Dataset:
    """Loads a data set, to train and test with.

    ```python
    dataset = ptkeras.data.load("cifar10", batch_size=128, data_dir="~/tensorflow_datasets")
    model.fit(
        dataset.train,
        shuffle=False,  # it is shuffled already, and Keras would warn that it cannot
        validation_data=dataset.test,
        callbacks=[ptkeras.data.EpochSeed(dataset)],
    )
    ```

    Data sets of images of one size, of less than 1 GiB in all, are held in memory. Training images
    are shifted at random by up to an eighth of their side (4 pixels for CIFAR, as in He et al.
    2016, arXiv 1512.03385, sec. 4.2; 1 for the digits), with zeros moving in, and mirrored unless
    they show characters. Larger data sets are read from their files: training images are cropped
    and stretched at random (Szegedy et al. 2015, arXiv 1409.4842, sec. 6), test images scaled, and
    cropped in the middle. All images are then normalised: with the means and deviations of
    PruneTrain's authors for CIFAR, of ImageNet for what is read from files, and of the training set
    otherwise.

    Shuffling and augmentation are functions of the seed, the epoch and the place in the epoch, and
    of nothing else.

    Args:
        name: "digits", which comes with the package; the name of an image classification data set
            of TFDS, prepared beforehand: nothing is ever downloaded; or `package.module:function`,
            a function of your own that returns what the `load_data` functions of `keras.datasets`
            do, and maybe the names of the classes as a third item.
        batch_size: Images in a batch, global over replicas.
        data_dir: TFDS's data directory; None for TFDS's default. Not used for "digits".
        seed: Seed of shuffling and augmentation. The split into training and test set does not
            depend on it.
        augment: Whether to shift, crop and mirror training images.
        image_size: Side in pixels to scale images to; None for their own size, or for 224 when they
            are read from files.
        hold_out: Share of the training images to test with, in place of the test set, which is then
            not touched: for choices that are made before the real test. They are always the same
            images; of a data set that is read from files, whole files.
        shard: Which images of each batch this process has, if several train together. Together they
            see what one alone would see, no image twice.

    Returns:
        The data set.

    Raises:
        ValueError: If the data set is unknown, not prepared in `data_dir` or of another kind, or
            `batch_size`, `image_size` or `hold_out` is out of range, or `batch_size` is no multiple
            of `shard.replicas`.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1; got {batch_size}.")
    if batch_size % shard.replicas:
        raise ValueError(
            f"batch_size must be a multiple of {shard.replicas}, the devices that share a batch; "
            f"got {batch_size}."
        )
    if image_size is not None and image_size < 1:
        raise ValueError(f"image_size must be at least 1 pixel; got {image_size}.")
    if not 0 <= hold_out < 1:
        raise ValueError(f"hold_out must be from 0 and under 1; got {hold_out}.")
    files: tuple[str, ...] = ()
    if name == "digits":
        train, test, labels = _digits()
    elif names_function(name):
        train, test, labels = own_arrays(name)
    else:
        source = tfds_source.find(name, data_dir)
        if not _fits_in_memory(source):
            source = tfds_source.held_out(name, source, hold_out)
            _check_batch_size(batch_size, name, source.num_train)
            return _from_files(name, source, batch_size, seed, augment, image_size, shard)
        train = memory.read(source.train_files, source.parse)
        test = memory.read(source.test_files, source.parse)
        labels, files = source.labels, (*source.train_files, *source.test_files)
    train, test = memory.held_out(train, test, hold_out)
    _check_batch_size(batch_size, name, len(train.labels))
    dataset = _from_memory(name, train, test, labels, batch_size, seed, augment, image_size, shard)
    return dataclasses.replace(dataset, files=files)


def _digits() -> tuple[Arrays, Arrays, tuple[str, ...]]:
    data = digits.load()
    train = Arrays(data.train_images, data.train_labels)
    test = Arrays(data.test_images, data.test_labels)
    return train, test, tuple(map(str, range(digits.NUM_CLASSES)))


def _check_batch_size(batch_size: int, name: str, num_train: int) -> None:
    if batch_size > num_train:
        raise ValueError(
            f"batch_size must be at most {num_train}, the images that {name!r} has to train with; "
            f"got {batch_size}."
        )


def _fits_in_memory(source: Source) -> bool:
    sides = [n for n in source.image_shape if n is not None]
    if len(sides) < len(source.image_shape):
        return False
    return (source.num_train + source.num_test) * math.prod(sides) < _MEMORY_LIMIT


def _from_memory(
    name: str,
    train: Arrays,
    test: Arrays,
    labels: tuple[str, ...],
    batch_size: int,
    seed: int,
    augment: bool,
    image_size: int | None,
    shard: Shard,
) -> Dataset:
    height, width, channels = train.images.shape[1:]
    base_name = name.split("/")[0].split(":")[0]
    mean, std = _STATISTICS.get(base_name) or memory.channel_statistics(train.images)
    how = Preparation(
        mean,
        std,
        padding=max(1, min(height, width) // 8),
        flip=base_name not in _CHARACTERS,
        image_size=image_size,
    )
    return _dataset(
        memory.train_batches(train, how, seed, augment, shard),
        batch_size,
        shard,
        name=name,
        test=memory.test_batches(test, how, batch_size, shard),
        labels=labels,
        input_shape=(image_size or height, image_size or width, channels),
        num_train=len(train.labels),
        num_test=len(test.labels),
        mean=mean,
        std=std,
    )


def _from_files(
    name: str,
    source: Source,
    batch_size: int,
    seed: int,
    augment: bool,
    image_size: int | None,
    shard: Shard,
) -> Dataset:
    size = image_size or _DEFAULT_IMAGE_SIZE
    channels = source.image_shape[-1]
    mean, std = _IMAGENET
    if channels != 3:  # Other channels than red, green and blue are taken for grey.
        mean, std = ((sum(values) / 3,) * channels for values in _IMAGENET)
    statistics = mean, std
    return _dataset(
        streaming.train_batches(
            source.train_files,
            source.parse,
            size,
            statistics,
            seed,
            augment,
            source.num_train,
            shard,
        ),
        batch_size,
        shard,
        name=name,
        test=streaming.test_batches(
            source.test_files, source.parse, size, statistics, batch_size, source.num_test, shard
        ),
        labels=source.labels,
        input_shape=(size, size, channels),
        num_train=source.num_train,
        num_test=source.num_test,
        mean=mean,
        std=std,
        files=(*source.train_files, *source.test_files),
    )


def _dataset(train: EpochBatches, batch_size: int, shard: Shard, **fields: Any) -> Dataset:
    epoch = cpu_variable(0, "epoch")
    size = cpu_variable(batch_size, "batch_size")
    first_step = cpu_variable(0, "first_step")
    return Dataset(
        train=one_epoch(train, epoch, size, first_step, shard.used(fields["num_train"])),
        epoch=epoch,
        batch_size=size,
        first_step=first_step,
        **fields,
    )
