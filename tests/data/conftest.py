"""Small data sets on disk, as TFDS writes them, made of the digits."""

from pathlib import Path

import numpy as np
import pytest

from ptkeras.data import digits


def _photo(image: np.ndarray, index: int) -> np.ndarray:
    """A colour image whose size depends on its number."""
    scaled = np.kron(image[..., 0] * 15, np.ones((4 + index % 3, 6), np.uint8))
    return np.stack([scaled, scaled // 2, 255 - scaled], axis=-1)


def _store(path: Path, features, splits: dict[str, list[dict]]) -> None:
    """Writes records as TFDS does, two files a split, and the descriptions beside them."""
    import tensorflow as tf
    import tensorflow_datasets as tfds

    path.mkdir(parents=True)
    infos = []
    for split, rows in splits.items():
        records = [features.serialize_example(features.encode_example(row)) for row in rows]
        shards = [records[: len(rows) // 3], records[len(rows) // 3 :]]
        for number, shard in enumerate(shards):
            file = f"{path.parent.name}-{split}.tfrecord-0000{number}-of-00002"
            with tf.io.TFRecordWriter(str(path / file)) as writer:
                for record in shard:
                    writer.write(record)
        lengths = [len(shard) for shard in shards]
        template = tfds.core.ShardedFileTemplate(
            data_dir=path, dataset_name=path.parent.name, split=split, filetype_suffix="tfrecord"
        )
        infos.append(
            tfds.core.SplitInfo(
                name=split, shard_lengths=lengths, num_bytes=0, filename_template=template
            )
        )
    tfds.folder_dataset.write_metadata(
        data_dir=path, features=features, split_infos=infos, check_data=False
    )


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory) -> str:
    """A TFDS data directory; nothing in it comes out of TFDS's own code."""
    import tensorflow_datasets as tfds

    folder = str(tmp_path_factory.mktemp("tfds"))
    data = digits.load()
    images, labels = data.train_images, data.train_labels.astype(int)
    of_one_size = tfds.features.Image(shape=(8, 8, 1), encoding_format="png")
    of_any_size = tfds.features.Image(shape=(None, None, 3), encoding_format="jpeg")
    ten = tfds.features.ClassLabel(num_classes=10)

    def store(name: str, features: dict, **splits: list[dict]) -> None:
        _store(Path(folder) / name / "1.0.0", tfds.features.FeaturesDict(features), splits)

    def rows(start: int, stop: int) -> list[dict]:
        return [{"image": images[i], "label": labels[i]} for i in range(start, stop)]

    def photos(start: int, stop: int, label: int | None = None) -> list[dict]:
        return [
            {
                "image": _photo(images[i], i),
                "label": labels[i] if label is None else label,
                "file_name": str(i),
            }
            for i in range(start, stop)
        ]

    # Names that TFDS knows, and one that it does not.
    store("mnist", {"image": of_one_size, "label": ten}, train=rows(0, 60), test=rows(60, 80))
    store(
        "photos",
        {"image": of_any_size, "label": ten, "file_name": tfds.features.Text()},
        train=photos(0, 40),
        validation=photos(40, 55),
        test=photos(55, 60, label=-1),
    )
    store("only_train", {"image": of_one_size, "label": ten}, train=rows(0, 10))
    store("ag_news_subset", {"title": tfds.features.Text()}, train=[{"title": "?"}])
    return folder
