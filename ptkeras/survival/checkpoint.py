"""Checkpoints: `.keras` files that tell whether they are whole, the last two of them.

The SHA-256 of all that comes before it stands at the end of the file, in the comment that a zip
archive may have there: one file, which plain Keras loads.
"""

from __future__ import annotations

import hashlib
import json
import os
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
        path: the last one's file, ending in `.keras`. That of the one before ends in
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
        arrays: Mapping[str, np.ndarray] | None = None,
    ) -> None:
        """Saves a model, and what JSON holds beside it; a kill at any moment leaves a whole file.

        Args:
            model: the model.
            state: what `read_state` is to return.
            arrays: what `read_arrays` is to return.
        """
        with aside(self.path) as new:
            model.save(new)
            with zipfile.ZipFile(new, "a") as archive:
                archive.writestr(_STATE, json.dumps(state))
                if arrays:
                    with archive.open(_ARRAYS, "w", force_zip64=True) as file:
                        np.savez(file, allow_pickle=False, **arrays)
                archive.comment = _MARK + b"0" * 64
            _seal(new)
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
        whole = [path for path in there if not faults[path]]
        for path in there:
            if path.is_dir():
                ending = f"'{whole[0]}'" if whole else "the beginning"
                raise ValueError(
                    f"'{path}' is a folder, in the place of a checkpoint: move it away to go on "
                    f"from {ending}."
                )
        if whole:
            self._last_is_whole = whole[0] == self.path
            if not self._last_is_whole and self.path in faults:
                warnings.warn(
                    f"'{self.path}' {faults[self.path]}. The training goes on from the checkpoint "
                    "before it, and runs an epoch again.",
                    stacklevel=2,
                )
            return whole[0]
        if there:
            one = len(there) == 1
            listed = " and ".join(f"'{path}' {faults[path]}" for path in there)
            raise ValueError(
                f"{listed}: no training can go on from {'it' if one else 'them'}; put "
                f"{'it' if one else 'one'} back, or delete {'it' if one else 'both'} to begin "
                "again."
            )
        return None


def _fault_of_checkpoint(path: Path) -> str:
    """Says why a training cannot go on from a file, as the rest of a sentence; "" if it can.

    Raises:
        ValueError: If the file is there and cannot be read. It may be good, so that no other one
            is to take its place.
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


def is_whole(path: Path) -> bool:
    """Whether a file is a checkpoint, to the last bit as it was written.

    Args:
        path: a file.
    """
    with path.open("rb") as file:
        return _read_seal(file) == _MARK + _digest(file)


def _seal(path: Path) -> None:
    with path.open("r+b") as file:
        digest = _digest(file)
        file.seek(-64, 2)
        file.write(digest)


def _read_seal(file: Any) -> bytes:
    file.seek(-min(_SEAL_SIZE, file.seek(0, 2)), 2)
    return file.read()


def _digest(file: Any) -> bytes:
    """The SHA-256, in hexadecimal, of all but the seal."""
    left = file.seek(0, 2) - _SEAL_SIZE
    file.seek(0)
    digest = hashlib.sha256()
    while left > 0 and (block := file.read(min(left, 1 << 20))):
        digest.update(block)
        left -= len(block)
    return digest.hexdigest().encode()


def read_state(path: Path) -> dict[str, Any]:
    """What was saved beside the model of a checkpoint that is whole.

    Raises:
        ValueError: the file holds what no checkpoint does.
    """
    with zipfile.ZipFile(path) as archive:
        foreign = [
            n for n in archive.namelist() if n not in _MEMBERS and not n.startswith("assets/")
        ]
        if foreign or any(".." in Path(name).parts for name in archive.namelist()):
            raise ValueError(
                f"'{path}' holds {foreign or archive.namelist()}, which no checkpoint does: it is "
                "not to be trusted. Delete it to begin anew."
            )
        return json.loads(archive.read(_STATE))


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """The arrays that were saved beside the model of a checkpoint that is whole."""
    with zipfile.ZipFile(path) as archive:
        if _ARRAYS not in archive.namelist():
            return {}
        with archive.open(_ARRAYS) as file, np.load(file, allow_pickle=False) as arrays:
            return dict(arrays)
