"""Data sets read from files, on images of many sizes."""

import numpy as np
import pytest
import tensorflow as tf

from ptkeras.data import digits, streaming, tfds_source

RAW = ((0.0,) * 3, (1.0,) * 3)


@pytest.fixture
def source(data_dir):
    return tfds_source.find("photos", data_dir)


def _epoch(source, batch_size: int, epoch: int = 0, augmented: bool = True):
    make = streaming.train_batches(source.train_files, source.parse, 32, RAW, 7, augmented, 40)
    batches = make(tf.constant(epoch, tf.int64), tf.constant(batch_size, tf.int64))
    return [np.concatenate(part) for part in zip(*batches, strict=True)]


def test_an_epoch_is_a_function_of_seed_and_epoch(source):
    images, labels = _epoch(source, 8)
    assert images.shape == (40, 32, 32, 3)
    assert labels.dtype == np.int32
    tf.random.set_seed(3)
    again, same_labels = _epoch(source, 17)
    np.testing.assert_array_equal(again, images)
    np.testing.assert_array_equal(same_labels, labels)
    other, other_labels = _epoch(source, 8, epoch=1)
    assert (other_labels != labels).any()
    assert sorted(other_labels) == sorted(labels)
    assert (other != images).any()


def test_without_augmentation_the_order_is_the_same(source):
    augmented, labels = _epoch(source, 8)
    plain, plain_labels = _epoch(source, 8, augmented=False)
    np.testing.assert_array_equal(labels, plain_labels)
    assert (augmented != plain).any(axis=(1, 2, 3)).all()


def test_windows_are_shuffled(source, monkeypatch):
    monkeypatch.setattr(streaming, "_SHUFFLE_WINDOW", 1)
    in_order = _epoch(source, 40, augmented=False)[0]
    monkeypatch.setattr(streaming, "_SHUFFLE_WINDOW", 10)
    shuffled = _epoch(source, 40, augmented=False)[0]
    for start in range(0, 40, 10):
        before, after = (images[start : start + 10] for images in (in_order, shuffled))
        assert (before != after).any()
        assert {image.tobytes() for image in before} == {image.tobytes() for image in after}


def test_files_are_read_in_another_order_each_epoch(source, monkeypatch):
    monkeypatch.setattr(streaming, "_SHUFFLE_WINDOW", 1)
    first = [_epoch(source, 40, epoch, augmented=False)[0][0] for epoch in range(8)]
    assert len({image.tobytes() for image in first}) == 2  # there are two files


def test_test_batches_repeat_and_are_centred(source):
    dataset = streaming.test_batches(source.test_files, source.parse, 32, RAW, 4, 15)
    assert dataset.element_spec[0].shape.as_list() == [None, 32, 32, 3]
    images, labels = (np.concatenate(part) for part in zip(*dataset, strict=True))
    again, _ = (np.concatenate(part) for part in zip(*dataset, strict=True))
    np.testing.assert_array_equal(images, again)
    assert sorted(labels) == sorted(digits.load().train_labels[40:55])
    # The channels of the photos are x, x / 2 and 255 - x, with JPEG's losses.
    assert images.mean(axis=(1, 2)) @ [1, 0, 1] == pytest.approx(np.full(15, 255), abs=5)
