"""Finding data sets that TFDS has prepared, and saying clearly why one cannot be used."""

import logging
import shutil
import socket
from pathlib import Path

import numpy as np
import pytest

from ptkeras.data import digits, memory, tfds_source


@pytest.fixture(autouse=True)
def _no_network(monkeypatch):
    def connect(self, address):
        raise AssertionError(f"tried to connect to {address}")

    monkeypatch.setattr(socket.socket, "connect", connect)


def test_a_data_set_of_images_of_one_size(data_dir):
    source = tfds_source.find("mnist", data_dir)
    assert (source.num_train, source.num_test) == (60, 20)
    assert source.image_shape == (8, 8, 1)
    assert source.num_classes == 10
    arrays = memory.read(source.test_files, source.parse)
    np.testing.assert_array_equal(arrays.images, digits.load().train_images[60:80])
    np.testing.assert_array_equal(arrays.labels, digits.load().train_labels[60:80])


def test_a_version_may_be_named(data_dir):
    assert tfds_source.find("mnist:1.0.0", data_dir).num_train == 60


def test_a_test_split_without_labels_is_passed_over(data_dir):
    source = tfds_source.find("photos", data_dir)
    assert source.num_test == 15
    assert source.image_shape == (None, None, 3)


def test_it_is_quiet(data_dir, caplog, capfd):
    with caplog.at_level(logging.INFO):
        tfds_source.find("mnist", data_dir)
    assert not [record for record in caplog.records if record.name == "absl"]
    assert "tfds" not in "".join(capfd.readouterr()).lower()


@pytest.mark.parametrize("name", ["cifra10", "", "no/such", "../mnist"])
def test_unknown_name(name, data_dir):
    with pytest.raises(ValueError, match="Unknown dataset"):
        tfds_source.find(name, data_dir)


def test_close_names_are_suggested(data_dir):
    with pytest.raises(ValueError, match=r"Unknown dataset 'cifra10' \(did you mean cifar10 or"):
        tfds_source.find("cifra10", data_dir)
    with pytest.raises(ValueError, match=r"Unknown dataset 'digit' \(did you mean digits"):
        tfds_source.find("digit", data_dir)


def test_not_prepared(data_dir):
    with pytest.raises(ValueError, match=r"'cifar10' is not prepared in data_dir .*tfds build cif"):
        tfds_source.find("cifar10", data_dir)


@pytest.mark.parametrize("version", ["9.9.9", "newest"])
def test_version_is_not_prepared(version, data_dir):
    with pytest.raises(ValueError, match=f"'mnist:{version}' is not prepared in data_dir"):
        tfds_source.find(f"mnist:{version}", data_dir)


def test_data_dir_is_not_a_folder(tmp_path):
    with pytest.raises(ValueError, match=r"data_dir '.*nowhere' is not a folder; run `tfds build"):
        tfds_source.find("cifar10", str(tmp_path / "nowhere"))


def test_without_data_dir_the_default_folder_is_named(monkeypatch, tmp_path):
    import tensorflow_datasets as tfds

    monkeypatch.setattr(tfds.core.constants, "DATA_DIR", str(tmp_path))
    with pytest.raises(ValueError, match=f"TFDS's default folder '{tmp_path}'; run `tfds build"):
        tfds_source.find("cifar10", None)


def test_no_test_set(data_dir):
    with pytest.raises(ValueError, match=r"no test or validation split .*\(its splits are train\)"):
        tfds_source.find("only_train", data_dir)


def test_not_images(data_dir):
    with pytest.raises(ValueError, match=r"no image and class label .*\(its features are title\)"):
        tfds_source.find("ag_news_subset", data_dir)


def test_a_missing_file_is_named(data_dir, tmp_path):
    shutil.copytree(Path(data_dir) / "mnist", tmp_path / "mnist")
    next(tmp_path.glob("mnist/*/*test*tfrecord*")).unlink()
    with pytest.raises(ValueError, match=r"'mnist' lacks the file '.*mnist-test\.tfrecord"):
        tfds_source.find("mnist", str(tmp_path))
