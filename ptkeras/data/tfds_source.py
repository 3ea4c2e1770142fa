"""Finds a data set that TFDS has prepared, and says what is in it; never downloads anything."""

import contextlib
import dataclasses
from collections.abc import Iterator
from typing import TYPE_CHECKING

import tensorflow as tf
from absl import logging

from ptkeras.data.streaming import Parse
from ptkeras.utils.names import did_you_mean

if TYPE_CHECKING:
    import tensorflow_datasets as tfds


@dataclasses.dataclass(frozen=True)
class Source:
    """An image classification data set on disk.

    Attributes:
        train_files: TFRecord files of the training set.
        test_files: TFRecord files of the test set.
        num_train: Records of the training set.
        num_test: Records of the test set.
        image_shape: `(height, width, channels)` of an image in pixels; a side is None if it varies.
        labels: Name of each class.
        parse: Decodes a record into an image, uint8, and its label, int32.
        train_lengths: Records of each file of the training set.
    """

    train_files: list[str]
    test_files: list[str]
    num_train: int
    num_test: int
    image_shape: tuple[int | None, int | None, int]
    labels: tuple[str, ...]
    parse: Parse
    train_lengths: list[int]

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return len(self.labels)


def find(name: str, data_dir: str | None) -> Source:
    """Finds a prepared data set.

    Args:
        name: Its TFDS name, such as "cifar10", or with a configuration or a version, such as
            "imagenette/160px" or "cifar10:3.0.2".
        data_dir: TFDS's data directory, or None for TFDS's default.

    Returns:
        What is in the data set. The test set is the split "test", or "validation" if there is none
        or its labels are withheld, as ImageNet's are.

    Raises:
        ValueError: If the name is unknown, the data set is not in `data_dir`, or it is not one of
            uint8 images with class labels, split in two.
    """
    with _quiet():
        return _source(name, _builder(name, data_dir))


def held_out(name: str, source: Source, share: float) -> Source:
    """Tests on the last files of the training set, in place of the test set.

    Args:
        name: The data set's name.
        source: The data set.
        share: Share of the training set that is held out, at least; 0 leaves the source alone.

    Raises:
        ValueError: If the training set is in one file.
    """
    if not share:
        return source
    lengths = source.train_lengths
    if len(lengths) < 2:
        raise ValueError(f"The training set of {name!r} is one file, of which no part is held out.")
    first = len(lengths) - 1
    while first > 1 and sum(lengths[first:]) < share * source.num_train:
        first -= 1
    return dataclasses.replace(
        source,
        train_files=source.train_files[:first],
        test_files=source.train_files[first:],
        num_train=sum(lengths[:first]),
        num_test=sum(lengths[first:]),
        train_lengths=lengths[:first],
    )


def _source(name: str, builder: "tfds.core.DatasetBuilder") -> Source:
    image_key, label_key = _keys(name, builder.info.features)
    parse = _parser(builder.info.features, image_key, label_key)
    train = _split(name, builder, ("train",), parse)
    test = _split(name, builder, ("test", "validation"), parse)
    return Source(
        train_files=_files(train),
        test_files=_files(test),
        num_train=train.num_examples,
        num_test=test.num_examples,
        image_shape=tuple(builder.info.features[image_key].shape),
        labels=tuple(builder.info.features[label_key].names),
        parse=parse,
        train_lengths=list(train.shard_lengths),
    )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """TFDS tells about each step it takes; a user has asked for none of it."""
    before = logging.get_verbosity()
    logging.set_verbosity(logging.ERROR)
    try:
        yield
    finally:
        logging.set_verbosity(before)


def _builder(name: str, data_dir: str | None) -> "tfds.core.DatasetBuilder":
    """TFDS's handle on the files; built from the files alone, so that the network is not needed."""
    import tensorflow_datasets as tfds
    from tensorflow_datasets.core import read_only_builder

    directory = tfds.core.Path(data_dir or tfds.core.constants.DATA_DIR).expanduser()
    base_name = name.split("/")[0].split(":")[0]
    found = base_name.isidentifier() and (directory / base_name).is_dir()
    known = tfds.list_builders(with_community_datasets=False)
    if not found and base_name not in known:
        hint = did_you_mean(name, ["digits", *known], most=3)
        raise ValueError(
            f"Unknown dataset {name!r}{hint}; it must be 'digits' or an image dataset of TFDS."
        )
    remedy = (
        f"run `tfds build {name} --data_dir={data_dir or directory}`, "
        "or set data_dir to the folder that holds it"
    )
    if data_dir is not None and not directory.is_dir():
        raise ValueError(f"data_dir {data_dir!r} is not a folder; {remedy}.")
    try:
        return read_only_builder.builder_from_files(name, data_dir=directory)
    except (tfds.core.registered.DatasetNotFoundError, FileNotFoundError, ValueError) as error:
        where = f"data_dir {data_dir!r}" if data_dir else f"TFDS's default folder '{directory}'"
        raise ValueError(f"Dataset {name!r} is not prepared in {where}; {remedy}.") from error


def _keys(name: str, features: "tfds.features.FeaturesDict") -> tuple[str, str]:
    """The names of the image and of the label among the features."""
    import tensorflow_datasets as tfds

    def only(kind: type, preferred: str) -> str | None:
        keys = [key for key, feature in features.items() if isinstance(feature, kind)]
        return preferred if preferred in keys else keys[0] if len(keys) == 1 else None

    image = only(tfds.features.Image, "image") if hasattr(features, "items") else None
    label = only(tfds.features.ClassLabel, "label") if image else None
    if not image or not label or not features[label].num_classes:
        raise ValueError(
            f"Dataset {name!r} has no image and class label to learn from (its features are "
            f"{', '.join(features)}); choose an image classification dataset."
        )
    if features[image].np_dtype != "uint8" or not features[image].shape[-1]:
        raise ValueError(
            f"Dataset {name!r} has images of {features[image].np_dtype} and shape "
            f"{features[image].shape}; choose one of uint8 and a known number of channels."
        )
    return image, label


def _parser(features: "tfds.features.FeaturesDict", image_key: str, label_key: str) -> Parse:
    """Decodes the image and the label, and nothing else of a record."""
    import tensorflow_datasets as tfds

    wanted = tfds.decode.PartialDecoding({image_key: True, label_key: True})
    features = wanted.extract_features(features)

    def parse(record: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        example = features.deserialize_example(record)
        return example[image_key], tf.cast(example[label_key], tf.int32)

    return parse


def _split(
    name: str, builder: "tfds.core.DatasetBuilder", wanted: tuple[str, ...], parse: Parse
) -> "tfds.core.SplitInfo":
    """The first of the wanted splits that is there, whole, and has labels."""
    if builder.info.file_format.value != "tfrecord":
        raise ValueError(
            f"Dataset {name!r} is stored as {builder.info.file_format.value}; "
            "prepare it again with `tfds build --file_format=tfrecord`."
        )
    for split in (builder.info.splits[key] for key in wanted if key in builder.info.splits):
        missing = [file for file in _files(split) if not tf.io.gfile.exists(file)]
        if missing:
            raise ValueError(
                f"Dataset {name!r} lacks the file {missing[0]!r}; "
                "prepare it again with `tfds build --overwrite`."
            )
        if _is_labelled(split, parse):
            return split
    raise ValueError(
        f"Dataset {name!r} has no {' or '.join(wanted)} split with labels (its splits are "
        f"{', '.join(builder.info.splits) or 'none'}); choose another dataset."
    )


def _files(split: "tfds.core.SplitInfo") -> list[str]:
    return [str(path) for path in split.filepaths]


def _is_labelled(split: "tfds.core.SplitInfo", parse: Parse) -> bool:
    """Whether the first label is one: TFDS writes -1 where the publisher keeps it secret."""
    first = tf.data.TFRecordDataset(_files(split)).take(1).map(parse)
    return any(int(label) >= 0 for _, label in first)
