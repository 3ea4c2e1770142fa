"""The embedded digits."""

import importlib.resources

import numpy as np

from ptkeras.data import digits


def test_all_1797_images_are_there():
    data = digits.load()
    assert data.train_images.shape == (1437, 8, 8, 1)
    assert data.test_images.shape == (360, 8, 8, 1)
    images = np.concatenate([data.train_images, data.test_images])
    assert images.dtype == np.uint8
    assert (images.min(), images.max()) == (0, 16)
    # The source's counts of each digit and of its ink.
    labels = np.concatenate([data.train_labels, data.test_labels])
    assert np.bincount(labels).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    assert images.sum() == 561718


def test_the_test_set_is_balanced_and_always_the_same():
    data = digits.load()
    assert np.bincount(data.test_labels).tolist() == [36] * 10
    assert data.test_labels[:10].tolist() == [3, 7, 3, 9, 0, 8, 7, 0, 8, 0]
    np.random.seed(1)
    np.testing.assert_array_equal(digits.load().test_images, data.test_images)


def test_no_image_is_in_both_sets():
    data = digits.load()
    train = {image.tobytes() for image in data.train_images}
    assert not train & {image.tobytes() for image in data.test_images}


def test_the_file_is_small_and_names_its_source_and_licence():
    folder = importlib.resources.files("ptkeras.data")
    assert len((folder / "digits.npz").read_bytes()) < 100_000
    text = (folder / "digits.txt").read_text(encoding="utf-8")
    assert "UCI Machine Learning Repository" in text
    assert "CC BY 4.0" in text
