"""Epochs that read their number and batch size when they start."""

import numpy as np
import pytest

from ptkeras import data
from tests.helpers.two_devices import mirrored_strategy


@pytest.fixture
def dataset() -> data.Dataset:
    return data.load("digits", batch_size=100, seed=3)


def _labels(dataset: data.Dataset) -> np.ndarray:
    return np.concatenate([labels for _, labels in dataset.train])


def test_an_epoch_repeats_bit_for_bit(dataset):
    first = [images.numpy() for images, _ in dataset.train]
    again = [images.numpy() for images, _ in data.load("digits", batch_size=100, seed=3).train]
    for one, other in zip(first, again, strict=True):
        np.testing.assert_array_equal(one, other)


def test_the_epoch_is_read_when_an_iterator_starts(dataset):
    zero = _labels(dataset)
    dataset.epoch.assign(1)
    one = _labels(dataset)
    assert (zero != one).any()
    dataset.epoch.assign(0)
    iterator = iter(dataset.train)
    started = [next(iterator)[1].numpy()]
    dataset.epoch.assign(1)  # too late for this iterator
    started += [labels.numpy() for _, labels in iterator]
    np.testing.assert_array_equal(np.concatenate(started), zero)


def test_the_batch_size_is_read_when_an_iterator_starts(dataset):
    assert len(dataset.train) == 15
    labels = _labels(dataset)
    dataset.batch_size.assign(400)
    assert len(dataset.train) == 4
    assert [len(labels) for _, labels in dataset.train] == [400, 400, 400, 237]
    np.testing.assert_array_equal(_labels(dataset), labels)


@pytest.mark.tensorflow
def test_replicas_share_each_batch(dataset):
    whole = [labels.numpy() for _, labels in dataset.train]
    strategy = mirrored_strategy()
    shared = strategy.experimental_distribute_dataset(dataset.train)
    for _, labels in shared:
        halves = [half.numpy() for half in strategy.experimental_local_results(labels)]
        assert len(halves) == 2
        assert abs(len(halves[0]) - len(halves[1])) <= 1
        np.testing.assert_array_equal(np.concatenate(halves), whole.pop(0))
    assert not whole
    dataset.batch_size.assign(719)
    sizes = [
        [len(half) for half in strategy.experimental_local_results(labels)] for _, labels in shared
    ]
    assert [sum(pair) for pair in sizes] == [719, 718]
