"""Data sets in memory, on the real digits."""

import numpy as np
import pytest
import tensorflow as tf

from ptkeras.data import digits, memory
from ptkeras.data.memory import Arrays, Preparation

RAW = Preparation(mean=(0.0,), std=(1.0,), padding=1, flip=False)


@pytest.fixture
def arrays() -> Arrays:
    data = digits.load()
    return Arrays(data.train_images[:100], data.train_labels[:100])


def _batches(arrays: Arrays, batch_size: int, epoch: int = 0, augmented: bool = False, how=RAW):
    make = memory.train_batches(arrays, how, seed=5, augmented=augmented)
    batches = make(tf.constant(epoch, tf.int64), tf.constant(batch_size, tf.int64))
    return list(batches.as_numpy_iterator())


def test_an_epoch_has_every_image_once_with_its_label(arrays):
    batches = _batches(arrays, 32)
    assert [len(labels) for _, labels in batches] == [32, 32, 32, 4]
    seen = {
        (image.astype(np.uint8).tobytes(), int(label))
        for images, labels in batches
        for image, label in zip(images, labels, strict=True)
    }
    assert seen == {
        (image.tobytes(), int(label))
        for image, label in zip(arrays.images, arrays.labels, strict=True)
    }


def test_what_is_seen_does_not_depend_on_the_batch_size(arrays):
    small, large = (_batches(arrays, size, epoch=2, augmented=True) for size in (7, 64))
    for part in (0, 1):
        np.testing.assert_array_equal(
            np.concatenate([batch[part] for batch in small]),
            np.concatenate([batch[part] for batch in large]),
        )


def test_augmentation_changes_images_and_not_their_order(arrays):
    plain, augmented = (_batches(arrays, 100, augmented=value) for value in (False, True))
    np.testing.assert_array_equal(plain[0][1], augmented[0][1])
    changed = (plain[0][0] != augmented[0][0]).any(axis=(1, 2, 3))
    assert 70 <= changed.sum() <= 99  # eight shifts in nine


def test_flips_mirror_half_of_the_images(arrays):
    how = Preparation(mean=(0.0,), std=(1.0,), padding=0, flip=True)
    plain, flipped = (_batches(arrays, 100, augmented=a, how=how)[0][0] for a in (False, True))
    is_flipped = (flipped != plain).any(axis=(1, 2, 3))
    assert 35 <= is_flipped.sum() <= 65
    np.testing.assert_array_equal(flipped[is_flipped], plain[is_flipped][:, :, ::-1])


def test_test_batches_keep_the_order(arrays):
    dataset = memory.test_batches(arrays, RAW, 30)
    assert int(dataset.cardinality()) == 4
    images, labels = (np.concatenate(part) for part in zip(*dataset, strict=True))
    np.testing.assert_array_equal(images, arrays.images)
    np.testing.assert_array_equal(labels, arrays.labels)


def test_image_size_scales(arrays):
    how = Preparation(mean=(0.0,), std=(1.0,), padding=1, flip=False, image_size=20)
    assert _batches(arrays, 10, augmented=True, how=how)[0][0].shape == (10, 20, 20, 1)
    assert memory.test_batches(arrays, how, 10).element_spec[0].shape[1:] == (20, 20, 1)


def test_channel_statistics():
    images = np.random.default_rng(0).integers(0, 256, (20, 5, 6, 3), dtype=np.uint8)
    images[..., 2] = 7
    mean, std = memory.channel_statistics(images)
    assert mean == pytest.approx(images.mean(axis=(0, 1, 2)))
    assert std == pytest.approx([*images.std(axis=(0, 1, 2))[:2], 1.0])
