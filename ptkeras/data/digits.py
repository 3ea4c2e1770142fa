"""The UCI optical digits, which come with the package (see digits.txt for source and licence)."""

import dataclasses
import importlib.resources

import numpy as np

NUM_CLASSES = 10
_TEST_PER_CLASS = 36


@dataclasses.dataclass(frozen=True)
class Digits:
    """1,797 handwritten digits, split into 1,437 to train with and 360 to test with.

    Attributes:
        train_images: uint8 of shape (1437, 8, 8, 1), ink from 0 to 16.
        train_labels: uint8 of shape (1437,), the digit.
        test_images: uint8 of shape (360, 8, 8, 1).
        test_labels: uint8 of shape (360,), 36 of each digit.
    """

    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray


def load() -> Digits:
    """Reads the digits out of the package.

    The split is always the same: 36 images of each digit, drawn with seed 0, are the test set, and
    the others are the training set, both in the order of the source.

    Returns:
        The images and labels.
    """
    path = importlib.resources.files(__package__) / "digits.npz"
    with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
        images, labels = archive["images"][..., np.newaxis], archive["labels"]
    is_test = _test_mask(labels)
    return Digits(images[~is_test], labels[~is_test], images[is_test], labels[is_test])


def _test_mask(labels: np.ndarray) -> np.ndarray:
    # RandomState, because NumPy promises that its streams never change, as default_rng's may.
    random = np.random.RandomState(0)
    mask = np.zeros(len(labels), bool)
    for digit in range(NUM_CLASSES):
        mask[random.permutation(np.flatnonzero(labels == digit))[:_TEST_PER_CLASS]] = True
    return mask
