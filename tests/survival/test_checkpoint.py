import json
import zipfile
from unittest.mock import Mock

import keras
import numpy as np
import pytest

from ptkeras.survival import checkpoint
from ptkeras.survival.checkpoint import Checkpoints, is_whole, read_state


@pytest.fixture
def written(tmp_path):
    """Two checkpoints of a small model, and their file."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    checkpoints = Checkpoints(tmp_path / "last.keras")
    for epoch in (1, 2):
        model.layers[0].bias.assign([epoch, 0, 0])
        checkpoints.write(model, {"epoch": epoch})
    return tmp_path / "last.keras"


def test_the_last_two_are_kept(written):
    assert sorted(path.name for path in written.parent.iterdir()) == [
        "last.keras",
        "last.previous.keras",
    ]
    path = Checkpoints(written).find()
    assert (path, read_state(path)) == (written, {"epoch": 2})
    assert keras.models.load_model(path).layers[0].bias[0] == 2  # plain Keras loads it
    written.unlink()
    path = Checkpoints(written).find()
    assert read_state(path) == {"epoch": 1}
    assert keras.models.load_model(path).layers[0].bias[0] == 1


def test_a_file_that_somebody_took_away_is_written_again(written):
    model = keras.models.load_model(written)
    checkpoints = Checkpoints(written)
    checkpoints.find()
    written.unlink()
    checkpoints.write(model, {"epoch": 3})
    assert read_state(Checkpoints(written).find()) == {"epoch": 3}


def test_no_file_is_no_checkpoint(tmp_path):
    assert Checkpoints(tmp_path / "last.keras").find() is None


@pytest.mark.parametrize("seed", range(50))
def test_a_damaged_file_is_told_of_and_the_one_before_it_used(written, seed):
    random = np.random.default_rng(seed)
    content = bytearray(written.read_bytes())
    place = int(random.integers(len(content)))
    if seed % 2:
        content[place] ^= 1 << int(random.integers(8))
    else:
        del content[place:]
    written.write_bytes(content)
    assert not is_whole(written)
    checkpoints = Checkpoints(written)
    with pytest.warns(UserWarning, match="its checksum does not match"):
        path = checkpoints.find()
    assert read_state(path) == {"epoch": 1}
    # What is written next must not push the good one out.
    checkpoints.write(keras.models.load_model(path), {"epoch": 2})
    assert is_whole(written)
    assert read_state(Checkpoints(written).find()) == {"epoch": 2}
    written.unlink()
    assert read_state(Checkpoints(written).find()) == {"epoch": 1}


def test_where_both_are_damaged_nothing_is_used(written):
    for path in written.parent.iterdir():
        path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ValueError, match=r"last.keras' is damaged.* and .*delete both to begin"):
        Checkpoints(written).find()
    written.unlink()
    with pytest.raises(ValueError, match=r"previous.keras' is damaged.*delete it to begin again"):
        Checkpoints(written).find()


@pytest.mark.parametrize("name", ["last.keras", "last.previous.keras"])
def test_a_folder_in_the_place_of_a_checkpoint_hides_no_good_one(written, name):
    path = written.with_name(name)
    path.rename(written.with_name("saved"))
    path.mkdir()
    good = "last.previous.keras" if name == "last.keras" else "last.keras"
    with pytest.raises(ValueError, match=rf"{name}' is a folder.*to go on from '.*{good}'"):
        Checkpoints(written).find()
    path.rmdir()
    assert Checkpoints(written).find().name == good


def test_what_may_be_a_good_checkpoint_is_not_passed_over(written, monkeypatch):
    monkeypatch.setattr(checkpoint, "is_whole", Mock(side_effect=OSError(5, "I/O error")))
    with pytest.raises(ValueError, match=r"last.keras' cannot be read .I/O error.: mend that"):
        Checkpoints(written).find()
    monkeypatch.undo()
    written.unlink()
    written.symlink_to("nowhere")
    with pytest.warns(UserWarning, match="is a link that leads nowhere"):
        assert read_state(Checkpoints(written).find()) == {"epoch": 1}


@pytest.mark.parametrize("name", ["../evil.py", "assets/../../evil.py", "payload.pkl"])
def test_what_no_checkpoint_holds_is_refused(written, monkeypatch, name):
    monkeypatch.setattr(f"{checkpoint.__name__}.is_whole", lambda path: True)  # sealed by its maker
    with zipfile.ZipFile(written, "a") as archive:
        archive.writestr(name, json.dumps({}))
    with pytest.raises(ValueError, match="not to be trusted"):
        read_state(Checkpoints(written).find())
