"""Runs that are stopped, checkpoints that are forged, and whether two folders hold the same run."""

import contextlib
import csv
import hashlib
import io
import json
import zipfile

import h5py
import keras
import numpy as np
import pytest

from ptkeras.survival import Survival


def rows(folder):
    with (folder / "history.csv").open() as file:
        found = list(csv.DictReader(file))
    for row in found:
        del row["seconds"]
    return found


def numbers(path):
    """Everything in a .keras file, by name."""
    found = {}
    with zipfile.ZipFile(path) as archive:
        file = h5py.File(io.BytesIO(archive.read("model.weights.h5")))
    file.visititems(lambda name, a: found.update({name: a[()]} if hasattr(a, "dtype") else {}))
    return found


def untimed(path):
    return [line for line in path.read_text().splitlines() if '"seconds"' not in line]


def assert_same_run(one, other):
    assert rows(one) == rows(other)
    for name in ("norms.json", "architecture.json"):
        assert untimed(one / name) == untimed(other / name)
    ours, theirs = numbers(one / "model.keras"), numbers(other / "model.keras")
    assert ours.keys() == theirs.keys() and len(ours) > 10
    for name, values in ours.items():
        np.testing.assert_array_equal(values, theirs[name], err_msg=name)


def assert_same_weights(one, other):
    ours, theirs = (
        keras.models.load_model(folder / "model.keras").get_weights() for folder in (one, other)
    )
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(a, b)


def resealed(path, change):
    """Changes the state in a checkpoint as somebody would who knows how it is sealed."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    state = json.loads(members["state.json"])
    change(state)
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in (members | {"state.json": json.dumps(state)}).items():
            archive.writestr(name, content)
        archive.comment = b"sha256:" + b"0" * 64
    content = path.read_bytes()[: -len("sha256:") - 64]
    path.write_bytes(content + b"sha256:" + hashlib.sha256(content).hexdigest().encode())


@contextlib.contextmanager
def stopped_in(epoch, saved=True):
    """Ctrl-C at the end of an epoch, counted from 0: after its checkpoint, or before it.

    It comes in the training itself, not in a search before it.
    """
    save = Survival.on_epoch_end

    def on_epoch_end(self, number, logs=None):
        stops = number == epoch and self.dataset is not None
        if saved or not stops:
            save(self, number, logs)
        if stops:
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Survival, "on_epoch_end", on_epoch_end)
        yield
