"""Augmentation against NumPy."""

import numpy as np
import pytest
import tensorflow as tf

from ptkeras.data import augment, digits

EPOCH = tf.constant(3, tf.int64)


def test_order_is_a_permutation_that_depends_on_seed_and_epoch_alone():
    order = augment.epoch_order(1, EPOCH, 100).numpy()
    assert sorted(order) == list(range(100))
    tf.random.set_seed(99)
    np.testing.assert_array_equal(augment.epoch_order(1, EPOCH, 100), order)
    assert (augment.epoch_order(2, EPOCH, 100).numpy() != order).any()
    assert (augment.epoch_order(1, EPOCH + 1, 100).numpy() != order).any()


def test_windows_have_different_orders():
    first = augment.window_order(1, EPOCH, tf.constant(0, tf.int64), 50).numpy()
    second = augment.window_order(1, EPOCH, tf.constant(1, tf.int64), 50).numpy()
    assert sorted(first) == sorted(second) == list(range(50))
    assert (first != second).any()


def test_shifts_are_uniform():
    shifts = augment.epoch_shifts(0, EPOCH, 9000, 4).numpy()
    counts = np.bincount(shifts.ravel())
    assert len(counts) == 9
    assert counts == pytest.approx(np.full(9, 2000), rel=0.1)
    # Rows and columns are drawn apart.
    assert abs(np.corrcoef(shifts.T)[0, 1]) < 0.05


def test_half_are_flipped():
    assert augment.epoch_flips(0, EPOCH, 10000).numpy().mean() == pytest.approx(0.5, abs=0.02)


def test_pad_and_crop_moves_and_mirrors_each_image_by_its_own_numbers():
    images = digits.load().train_images[:50]
    random = np.random.default_rng(0)
    shifts = random.integers(0, 5, (50, 2)).astype(np.int32)
    flips = random.random(50) < 0.5
    result = augment.pad_and_crop(tf.constant(images), 2, shifts, flips).numpy()
    for image, (row, column), flip, got in zip(images, shifts, flips, result, strict=True):
        expected = np.pad(image, ((2, 2), (2, 2), (0, 0)))[row : row + 8, column : column + 8]
        np.testing.assert_array_equal(got, expected[:, ::-1] if flip else expected)


def test_pad_and_crop_of_images_that_are_not_square():
    images = tf.reshape(tf.range(2 * 3 * 5), (2, 3, 5, 1))
    result = augment.pad_and_crop(
        images, 1, tf.constant([[1, 1], [0, 2]]), tf.constant([True, False])
    )
    np.testing.assert_array_equal(result[0, :, :, 0], images[0, :, ::-1, 0])
    np.testing.assert_array_equal(result[1, 1:, :-1, 0], images[1, :-1, 1:, 0])
    assert not result[1, 0].numpy().any()


def test_random_resized_crop_depends_on_the_place_in_the_epoch():
    image = tf.constant(np.kron(digits.load().train_images[0], np.ones((5, 7, 3), np.uint8)))

    def crop(index: int) -> np.ndarray:
        place = tf.constant(index, tf.int64)
        return augment.random_resized_crop(image, 16, 1, EPOCH, place).numpy()

    crops = np.stack([crop(index) for index in range(20)])
    assert crops.shape == (20, 16, 16, 3)
    assert (crops.min(), crops.max()) >= (0, 0)
    assert crops.max() <= 16
    assert len({c.tobytes() for c in crops}) == 20
    np.testing.assert_array_equal(crop(7), crops[7])


@pytest.mark.parametrize("shape", [(64, 80), (80, 64), (12, 14)])
def test_centre_crop_keeps_the_middle(shape):
    height, width = shape
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    image = np.stack([rows, columns, rows], axis=-1)
    result = augment.centre_crop(tf.constant(image), 28).numpy()
    assert result.shape == (28, 28, 3)
    # Of the shorter side, 28 of 32 parts are left, and the middle stays in the middle.
    assert result.mean(axis=(0, 1)) == pytest.approx(
        [(height - 1) / 2, (width - 1) / 2, (height - 1) / 2], abs=0.3
    )
    assert np.ptp(result[..., 0]) == pytest.approx(min(shape) * 27 / 32, abs=0.5)


def test_normalise():
    data = digits.load().train_images
    images = augment.normalise(
        tf.constant(data), (float(data.mean()),), (float(data.std()),)
    ).numpy()
    assert images.dtype == np.float32
    assert images.mean() == pytest.approx(0, abs=1e-4)
    assert images.std() == pytest.approx(1, abs=1e-4)
