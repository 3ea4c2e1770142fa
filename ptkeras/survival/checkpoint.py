"""Checkpoints: `.keras` files with a seal, the last two of a training.

The seal is the SHA-256 of the file before it. It stands in the comment at the end of the zip
archive, so that plain Keras loads the file.
"""

from __future__ import annotations

import hashlib
import json
import os
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from ptkeras.utils.files import aside, fault_of

if TYPE_CHECKING:
    import keras

_STATE = "state.json"
_ARRAYS = "arrays.npz"
_MEMBERS = ("metadata.json", "config.json", "model.weights.h5", _STATE, _ARRAYS)
_MARK = b"sha256:"
_SEAL_SIZE = len(_MARK) + 64


class Checkpoints:
    """The last checkpoint of a training, and the one before it.

    Args:
        path: the file of the last one, ending in `.keras`. That of the one before ends in
            `.previous.keras`.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.previous = path.with_suffix(".previous.keras")
        self._last_is_whole = False

    def write(
        self,
        model: keras.Model,
        state: dict[str, Any],
        arrays: Mapping[str, Any] | None = None,
    ) -> None:
        """Saves a model and a state; a kill at any moment leaves a whole file.

        Args:
            model: the model.
            state: what `read_state` will return; JSON can hold it.
            arrays: what `read_arrays` will return.
        """
        with aside(self.path) as new:
            model.save(new)
            with zipfile.ZipFile(new, "a") as archive:
                archive.writestr(_STATE, json.dumps(state))
                if arrays:
                    with archive.open(_ARRAYS, "w", force_zip64=True) as file:
                        np.savez(file, **arrays)
                archive.comment = b" " * _SEAL_SIZE
            with new.open("r+b") as file:
                seal = _seal_of(file)
                file.seek(-_SEAL_SIZE, os.SEEK_END)
                file.write(seal)
            if self._last_is_whole and self.path.exists():
                self.path.replace(self.previous)
        self._last_is_whole = True

    def find(self) -> Path | None:
        """Finds the newest checkpoint that is whole.

        Returns:
            Its path; None if there is no file.

        Raises:
            ValueError: If there are files, and none of them is a whole checkpoint; or a folder is
                in the place of one.
        """
        there = [path for path in (self.path, self.previous) if os.path.lexists(path)]
        faults = {path: _fault_of_checkpoint(path) for path in there}
        whole = next((path for path in there if not faults[path]), None)
        self._last_is_whole = whole == self.path
        for path in there:
            if path.is_dir():
                start = f"'{whole}'" if whole else "the beginning"
                raise ValueError(
                    f"'{path}' is a folder, in the place of a checkpoint: move it away to go on "
                    f"from {start}."
                )
        if there and whole is None:
            listed = " and ".join(f"'{path}' {faults[path]}" for path in there)
            them, one, both = ("it", "it", "it") if len(there) == 1 else ("them", "one", "both")
            raise ValueError(
                f"{listed}: no training can go on from {them}; put {one} back, or delete {both} to "
                "begin again."
            )
        if self.path in faults and not self._last_is_whole:
            warnings.warn(
                f"'{self.path}' {faults[self.path]}. The training goes on from the checkpoint "
                "before it, and runs an epoch again.",
                stacklevel=2,
            )
        return whole


def is_whole(path: Path) -> bool:
    """Returns whether a file is a checkpoint, to the last bit as it was written.

    Args:
        path: a file.
    """
    with path.open("rb") as file:
        return _seal_of(file) == file.read()


def read_state(path: Path) -> dict[str, Any]:
    """Returns the state in a whole checkpoint.

    Args:
        path: the checkpoint.

    Raises:
        ValueError: If the file holds anything that no checkpoint does.
    """
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        foreign = [n for n in names if n not in _MEMBERS and not n.startswith("assets/")]
        if foreign or any(".." in Path(name).parts for name in names):
            raise ValueError(
                f"'{path}' holds {foreign or names}, which no checkpoint does: it is not to be "
                "trusted. Delete it to begin again."
            )
        return json.loads(archive.read(_STATE))


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """Returns the arrays in a whole checkpoint.

    Args:
        path: the checkpoint.
    """
    with zipfile.ZipFile(path) as archive:
        if _ARRAYS not in archive.namelist():
            return {}
        with archive.open(_ARRAYS) as file, np.load(file, allow_pickle=False) as arrays:
            return dict(arrays)


def _fault_of_checkpoint(path: Path) -> str:
    """Says why a training cannot go on from a file, as the rest of a sentence; "" if it can.

    Raises:
        ValueError: If the file cannot be read. It may be good, so that no other one is to take its
            place.
    """
    if fault := fault_of(path):
        return fault
    try:
        return "" if is_whole(path) else "is damaged: its checksum does not match"
    except OSError as error:
        raise ValueError(
            f"'{path}' cannot be read ({error.strerror}): mend that, or move it away to go on "
            "without it."
        ) from error


def _seal_of(file: IO[bytes]) -> bytes:
    """Returns the seal that a file should have; reading stops before the seal that it has."""
    left = file.seek(0, os.SEEK_END) - _SEAL_SIZE
    file.seek(0)
    digest = hashlib.sha256()
    while left > 0 and (block := file.read(min(left, 1 << 20))):
        digest.update(block)
        left -= len(block)
    return _MARK + digest.hexdigest().encode()
