"""Processes that train together see what one alone would see, no image twice."""

import numpy as np
import pytest
import tensorflow as tf

from ptkeras import data
from ptkeras.data import pipeline
from ptkeras.data.shard import split

pytestmark = pytest.mark.thorough


def _load(shard=data.Shard(), name="digits", batch_size=96, **options):  # noqa: B008
    options = {"seed": 3, "shard": shard} | options
    return data.load(name, batch_size=batch_size, **options)


def _batches(dataset, epoch=0):
    dataset.epoch.assign(epoch)
    return [(x.numpy(), y.numpy()) for x, y in dataset.train]


@pytest.fixture(params=["memory", "files"])
def options(request, data_dir, monkeypatch):
    """A data set of 60 images to train and 20 to test with, from memory or from files."""
    if request.param == "files":
        monkeypatch.setattr(pipeline, "_MEMORY_LIMIT", 80 * 64)
    return {"name": "mnist", "data_dir": data_dir, "batch_size": 16, "image_size": 8}


@pytest.mark.parametrize("count", [2, 4])
def test_together_they_see_what_one_sees(options, count):
    parts = [_load(data.Shard(index, count, count), **options) for index in range(count)]
    for epoch in (0, 1):
        whole = _batches(_load(**options), epoch)
        seen = [_batches(part, epoch) for part in parts]
        assert [len(part) for part in seen] == [len(whole)] * count
        for step, (images, labels) in enumerate(whole):
            for index, part in enumerate(seen):
                np.testing.assert_array_equal(part[step][0], images[index::count])
                np.testing.assert_array_equal(part[step][1], labels[index::count])


def test_an_epoch_is_cut_to_a_multiple_of_the_devices():
    parts = [_load(data.Shard(index, 2, 4)) for index in range(2)]
    labels = np.concatenate([y for _, y in _batches(_load())])
    seen = [np.concatenate([y for _, y in _batches(part)]) for part in parts]
    assert [len(y) for y in seen] == [718, 718]  # of 1437
    np.testing.assert_array_equal(np.stack(seen, 1).ravel(), labels[:1436])
    assert [int(part.train.cardinality()) for part in parts] == [15, 15]
    assert len(_batches(parts[0])) == 15


def test_steps_are_the_same_where_a_last_batch_is_small():
    parts = [
        _load(data.Shard(index, 4, 4), batch_size=476) for index in range(4)
    ]  # 1437 = 3·476 + 9
    assert {tuple(len(y) for _, y in _batches(part)) for part in parts} == {(119, 119, 119, 2)}
    parts = [_load(data.Shard(index, 4, 4), batch_size=716) for index in range(4)]  # … 2·716 + 5
    assert {tuple(len(y) for _, y in _batches(part)) for part in parts} == {(179, 179, 1)}


@pytest.mark.parametrize("batch_size", [16, 8])
def test_all_test_images_are_tested_once_in_as_many_steps(options, batch_size):
    # 20 images: the last batch has 4, so that half of the processes have none of it.
    options |= {"batch_size": batch_size}
    whole = np.concatenate([y for _, y in _load(**options).test])
    parts = [
        [y.numpy() for _, y in _load(data.Shard(index, 8, 8), **options).test] for index in range(8)
    ]
    assert len({len(part) for part in parts}) == 1
    assert sum(len(y) for part in parts for y in part) == 20
    seen = [np.concatenate(part) for part in parts]
    for index, part in enumerate(seen):
        np.testing.assert_array_equal(part, whole[index::8])


def test_a_batch_is_split_over_the_devices_of_a_process():
    batches = tf.data.Dataset.from_tensor_slices((tf.range(10), tf.range(10) * 2)).batch(7)
    parts = [(x.numpy().tolist(), y.numpy().tolist()) for x, y in split(batches, 4)]
    assert [x for x, _ in parts] == [[0, 4], [1, 5], [2, 6], [3], [7], [8], [9], []]
    assert all(y == [2 * n for n in x] for x, y in parts)
    assert split(batches, 1) is batches


def test_a_batch_that_cannot_be_shared_out_is_refused():
    with pytest.raises(ValueError, match="multiple of 3, the devices that share a batch; got 32"):
        _load(data.Shard(0, 3, 3), batch_size=32)
