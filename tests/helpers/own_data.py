"""Data sets of a user's own, `--dataset=tests.helpers.own_data:load_data`."""

import numpy as np


def load_data(train=96, test=32, shape=(8, 8), named=True):
    """Images that are lighter on the side that their label says."""
    rng = np.random.default_rng(0)

    def draw(count):
        labels = rng.integers(0, 2, (count, 1))
        images = rng.integers(0, 100, (count, *shape))
        images[labels[:, 0] == 1, :4] += 100
        images[labels[:, 0] == 0, 4:] += 100
        return images.astype("uint8"), labels

    pairs = draw(train), draw(test)
    return (*pairs, ["top", "bottom"]) if named else pairs


def of_floats():
    (x, y), test, _ = load_data()
    return (x / 255.0, y), test


def of_other_labels():
    (x, y), test, _ = load_data()
    return (x, y[:5]), test


def of_two_shapes():
    return load_data()[0], load_data(shape=(9, 8))[1]


def of_one_array():
    return load_data()[0][0]


def of_few_names():
    return (*load_data()[:2], ["top"])


def nothing():
    return None


def of_ragged_lists():
    return ([[[1, 2]], [[1]]], [0, 1]), load_data()[1]


def of_a_number_of_names():
    return (*load_data()[:2], 2)


def of_more_items():
    return (*load_data(), "more")


def of_far_labels():
    (x, y), test, _ = load_data()
    return (x, y + 10**12 - y), test


def with_an_argument(path):
    return load_data()
