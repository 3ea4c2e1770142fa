"""Data sets of the user's own, named as `package.module:function`."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np

from ptkeras.data.memory import Arrays
from ptkeras.utils.functions import function_named

_FORM = (
    "must return ((train_images, train_labels), (test_images, test_labels)), as the load_data "
    "functions of keras.datasets do, or the same with the names of the classes as a third item"
)


def own_arrays(name: str) -> tuple[Arrays, Arrays, tuple[str, ...]]:
    """Calls a function of the user's, without arguments.

    Args:
        name: `package.module:function`. The function returns two pairs of arrays, to train and to
            test with: images, uint8 of shape `(examples, height, width, channels)` or `(examples,
            height, width)`, and labels, integers from 0 of shape `(examples,)` or `(examples, 1)`;
            and, if it wants to, the names of the classes as a third item.

    Returns:
        The training set, the test set, and the names of the classes.

    Raises:
        ValueError: If there is no such function, or it returns something else.
    """
    load = function_named(name, "data set")
    try:
        inspect.signature(load).bind()
    except TypeError as error:
        raise ValueError(f"'{name}' must be called without arguments ({error}).") from error
    found = load()
    try:
        (train_images, train_labels), (test_images, test_labels), *names = found
    except (TypeError, ValueError):
        raise ValueError(f"'{name}' {_FORM}; it returned {_described(found)}.") from None
    if len(names) > 1 or not all(isinstance(n, list | tuple) for n in names):
        raise ValueError(
            f"'{name}' {_FORM}: a list of texts; it returned {_described(found)}, the last of them "
            f"a {type(names[-1]).__name__}."
        )
    train = _arrays(name, "train", train_images, train_labels)
    test = _arrays(name, "test", test_images, test_labels)
    if train.images.shape[1:] != test.images.shape[1:]:
        raise ValueError(
            f"'{name}' must return images of one shape; those to train with have "
            f"{train.images.shape[1:]}, those to test with {test.images.shape[1:]}."
        )
    count = 1 + int(max(train.labels.max(), test.labels.max()))
    if not names and count > len(train.labels):
        raise ValueError(
            f"'{name}' has labels up to {count - 1}, and {len(train.labels)} images to train with: "
            "number the classes from 0."
        )
    labels = tuple(map(str, names[0] if names else range(count)))
    if len(labels) < count:
        raise ValueError(f"'{name}' names {len(labels)} classes, and has labels up to {count - 1}.")
    return train, test, labels


def _arrays(name: str, which: str, images: Any, labels: Any) -> Arrays:
    try:
        images, labels = np.asarray(images), np.asarray(labels)
    except ValueError as error:
        raise ValueError(
            f"'{name}' must return arrays; its {which}_images or {which}_labels are none ({error})."
        ) from error
    if images.ndim == 3:
        images = images[..., np.newaxis]
    if images.ndim != 4 or images.dtype != np.uint8 or not images.size:
        raise ValueError(
            f"'{name}' must return images as uint8 of shape (examples, height, width, channels); "
            f"{which}_images are {images.dtype} of shape {images.shape}."
        )
    if labels.shape == (len(images), 1):
        labels = labels[:, 0]
    is_whole = np.issubdtype(labels.dtype, np.integer)
    if labels.shape != (len(images),) or not is_whole or labels.min() < 0:
        raise ValueError(
            f"'{name}' must return a label, an integer from 0, for each image; {which}_labels are "
            f"{labels.dtype} of shape {labels.shape}, and there are {len(images)} images."
        )
    return Arrays(images, labels)


def _described(found: Any) -> str:
    if isinstance(found, tuple | list):
        return f"{len(found)} items"
    return f"a {type(found).__name__}"
