import json

import numpy as np
import pytest

from ptkeras import data
from ptkeras.cli import train as command
from tests.helpers import own_data

MODULE = "tests.helpers.own_data"


def test_a_function_of_the_users_gives_the_data():
    dataset = data.load(f"{MODULE}:load_data", batch_size=16, augment=False)
    (x, _), (test_x, test_y), names = own_data.load_data()
    assert dataset.labels == tuple(names)
    assert dataset.input_shape == (8, 8, 1)
    assert (dataset.num_train, dataset.num_test) == (len(x), len(test_x))
    images, labels = map(np.concatenate, zip(*dataset.test.as_numpy_iterator(), strict=True))
    np.testing.assert_array_equal(labels, test_y[:, 0])
    expected = (test_x[..., None] - x.mean()) / x.std()
    np.testing.assert_allclose(images, expected, atol=1e-4)


def test_the_command_trains_on_it(tmp_path):
    flags = [f"--dataset={MODULE}:load_data", "--model=tests.helpers.small_network:build"]
    more = ["--method=dense", "--epochs=1", "--batch_size=16", f"--output_dir={tmp_path / 'run'}"]
    assert command.main([*flags, *more]) == 0
    told = json.loads((tmp_path / "run" / "result.json").read_text())
    assert told["dataset"] == f"{MODULE}:load_data"


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("of_floats", "uint8 of shape .*train_images are float64"),
        ("of_other_labels", r"a label, an integer from 0, for each image; train_labels"),
        ("of_two_shapes", r"images of one shape; .* have \(8, 8, 1\), those to test .* \(9, 8, 1"),
        ("of_one_array", "as the load_data functions of keras.datasets do"),
        ("of_few_names", "names 1 classes, and has labels up to 1"),
        ("nothing", "it returned a NoneType"),
        ("of_ragged_lists", "must return arrays"),
        ("of_a_number_of_names", "a list of texts; it returned 3 items, the last of them a int"),
        ("of_more_items", "it returned 4 items"),
        ("of_far_labels", "labels up to 1000000000000, and 96 images"),
        ("with_an_argument", "must be called without arguments"),
        ("nowhere", "has no function 'nowhere', so that there is no data set"),
    ],
)
def test_what_is_no_data_set_is_told(name, says):
    with pytest.raises(ValueError, match=says):
        data.load(f"{MODULE}:{name}", batch_size=16)


def test_a_module_that_is_not_there_is_told():
    with pytest.raises(ValueError, match="data set 'no_such:load' cannot be imported"):
        data.load("no_such:load", batch_size=16)
