"""ptkeras.data.load."""

import os
from pathlib import Path

import numpy as np
import pytest

from ptkeras import data
from ptkeras.data import pipeline


def test_digits():
    dataset = data.load("digits", batch_size=32)
    assert dataset.name == "digits"
    assert dataset.num_classes == 10
    assert dataset.input_shape == (8, 8, 1)
    assert (dataset.num_train, dataset.num_test) == (1437, 360)
    assert len(dataset.train) == 45
    images, labels = next(iter(dataset.train))
    assert images.shape == (32, 8, 8, 1)
    assert (images.dtype, labels.dtype) == ("float32", "int32")


def test_digits_are_normalised_by_the_training_set():
    dataset = data.load("digits", batch_size=1437, augment=False)
    images = next(iter(dataset.train))[0].numpy()
    assert images.mean() == pytest.approx(0, abs=1e-4)
    assert images.std() == pytest.approx(1, abs=1e-4)
    assert images.min() == pytest.approx(-dataset.mean[0] / dataset.std[0])


def test_seeds_differ_in_the_order_and_not_in_the_split():
    first, second = (data.load("digits", batch_size=360, seed=seed) for seed in (1, 2))
    assert (next(iter(first.train))[1].numpy() != next(iter(second.train))[1].numpy()).any()
    for one, other in zip(next(iter(first.test)), next(iter(second.test)), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_tfds_data_set_in_memory(data_dir):
    dataset = data.load("mnist", batch_size=16, data_dir=data_dir)
    assert (dataset.num_train, dataset.num_test, dataset.num_classes) == (60, 20, 10)
    assert dataset.input_shape == (8, 8, 1)
    assert sum(len(labels) for _, labels in dataset.train) == 60
    assert sum(len(labels) for _, labels in dataset.test) == 20
    assert dataset.files and all(Path(path).is_file() for path in dataset.files)
    assert str(Path(dataset.files[0]).stat().st_size) in dataset.facts()


def test_a_tfds_data_set_from_files(data_dir):
    dataset = data.load("photos", batch_size=16, data_dir=data_dir)
    assert dataset.input_shape == (224, 224, 3)
    assert dataset.files and all(Path(path).is_file() for path in dataset.files)
    assert len(dataset.train) == 3
    assert [len(labels) for _, labels in dataset.train] == [16, 16, 8]
    assert dataset.mean == pytest.approx((123.675, 116.28, 103.53))
    small = data.load("photos", batch_size=16, data_dir=data_dir, image_size=20)
    assert next(iter(small.test))[0].shape == (15, 20, 20, 3)


def test_what_is_too_large_for_memory_is_read_from_files(data_dir, monkeypatch):
    monkeypatch.setattr(pipeline, "_MEMORY_LIMIT", 80 * 64)
    dataset = data.load("mnist", batch_size=16, data_dir=data_dir, image_size=8)
    assert dataset.mean == pytest.approx((114.495,))
    assert sum(len(labels) for _, labels in dataset.train) == 60
    # One byte more is enough.
    monkeypatch.setattr(pipeline, "_MEMORY_LIMIT", 80 * 64 + 1)
    assert data.load("mnist", batch_size=16, data_dir=data_dir).mean != dataset.mean


def test_image_size_of_a_data_set_in_memory():
    dataset = data.load("digits", batch_size=8, image_size=24)
    assert dataset.input_shape == (24, 24, 1)
    assert next(iter(dataset.train))[0].shape == next(iter(dataset.test))[0].shape


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"batch_size": 0}, "batch_size must be at least 1; got 0"),
        ({"batch_size": 1438}, "batch_size must be at most 1437, .* 'digits' .* got 1438"),
        ({"batch_size": 32, "image_size": 0}, "image_size must be at least 1 pixel; got 0"),
    ],
)
def test_arguments_out_of_range(arguments, message):
    with pytest.raises(ValueError, match=message):
        data.load("digits", **arguments)


def test_unknown_name():
    with pytest.raises(ValueError, match=r"Unknown dataset 'digitz' \(did you mean digits"):
        data.load("digitz", batch_size=32)


@pytest.mark.skipif("PTKERAS_DATA_DIR" not in os.environ, reason="PTKERAS_DATA_DIR is not set")
def test_the_real_cifar10():
    dataset = data.load("cifar10", batch_size=500, data_dir=os.environ["PTKERAS_DATA_DIR"])
    assert (dataset.num_train, dataset.num_test) == (50_000, 10_000)
    counts = sum(np.bincount(labels, minlength=10) for _, labels in dataset.train)
    assert counts.tolist() == [5000] * 10
    images = next(iter(dataset.test))[0].numpy()
    assert images.shape == (500, 32, 32, 3)
    assert np.abs(images.mean(axis=(0, 1, 2))).max() < 0.1
