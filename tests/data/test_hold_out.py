import dataclasses

import numpy as np
import pytest

from ptkeras.data import load, tfds_source
from ptkeras.data.digits import load as digits

pytestmark = pytest.mark.tensorflow


def images(batches):
    return np.concatenate([x for x, _ in batches.as_numpy_iterator()])


def test_a_part_of_the_training_images_takes_the_place_of_the_test_set():
    whole = load("digits", batch_size=100, augment=False)
    part = load("digits", batch_size=100, augment=False, hold_out=0.1)
    assert (part.num_train, part.num_test) == (1293, 144)
    rest, held = images(part.train), images(part.test)
    assert (len(rest), len(held)) == (1293, 144)
    both = np.concatenate([rest, held]) * part.std[0] + part.mean[0]
    everything = digits().train_images.astype("float32")
    assert sorted(x.tobytes() for x in np.round(both)) == sorted(x.tobytes() for x in everything)
    assert len(images(whole.train)) == 1437


def test_it_is_always_the_same_one():
    held = [load("digits", batch_size=50, seed=seed, hold_out=0.2).test for seed in (0, 1)]
    np.testing.assert_array_equal(*map(images, held))


def test_of_files_the_last_ones():
    source = tfds_source.Source(
        train_files=list("abcd"),
        test_files=["t"],
        num_train=100,
        num_test=9,
        image_shape=(None, None, 3),
        labels=("a", "b"),
        parse=None,
        train_lengths=[40, 30, 20, 10],
    )
    assert tfds_source.held_out("x", source, 0.0) is source
    for share, files, counts in ((0.1, ["d"], (90, 10)), (0.2, ["c", "d"], (70, 30))):
        part = tfds_source.held_out("x", source, share)
        assert (part.test_files, (part.num_train, part.num_test)) == (files, counts)
        assert part.train_files + part.test_files == source.train_files
    one = dataclasses.replace(source, train_files=["a"], train_lengths=[100])
    with pytest.raises(ValueError, match="one file"):
        tfds_source.held_out("x", one, 0.1)


def test_a_share_out_of_range_is_told_of():
    with pytest.raises(ValueError, match="hold_out must be"):
        load("digits", batch_size=10, hold_out=1.0)
