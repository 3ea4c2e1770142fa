"""What an export leaves: a file or folder that was verified, or nothing."""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from ptkeras.utils.files import aside, folder_aside

if TYPE_CHECKING:
    from ptkeras.export.verification import Verification

SUFFIXES = {"onnx": ".onnx", "litert": ".tflite", "saved_model": ""}
TITLES = {"onnx": "ONNX", "litert": "LiteRT", "saved_model": "SavedModel"}


class ExportError(Exception):
    """A model could not be exported, or not proved to be exported well; nothing was written."""


@dataclasses.dataclass(frozen=True)
class Artifact:
    """What was written; it can be given wherever a path can.

    Attributes:
        path: the file, or the folder of a SavedModel.
        format: "onnx", "saved_model" or "litert".
        precision: "float32", "float16" or "int8"; "model" for a SavedModel, which computes as the
            Keras model does.
        size: bytes on disk.
        verification: what comparing it with the model gave, None if that was not wanted.
    """

    path: Path
    format: str
    precision: str
    size: int
    verification: Verification | None

    def __fspath__(self) -> str:
        return str(self.path)

    def __str__(self) -> str:
        return str(self.path)

    @property
    def summary(self) -> str:
        """What was written and what proves it, in a line."""
        proof = "not verified" if self.verification is None else str(self.verification)
        return f"{TITLES[self.format]} '{self.path}', {size_text(self.size)}: {proof}"


def format_of(path: str | os.PathLike[str]) -> str:
    """The format of an artifact, from its name.

    Raises:
        ValueError: it is not there, or none of ours.
    """
    path = Path(path)
    if not path.exists():
        raise ValueError(f"'{path}' is not there.")
    if path.is_dir():
        if not (path / "saved_model.pb").is_file():
            raise ValueError(f"'{path}' is a folder without saved_model.pb, so no SavedModel.")
        return "saved_model"
    for name, suffix in SUFFIXES.items():
        if suffix and path.suffix == suffix:
            return name
    raise ValueError(f"'{path}' is neither .onnx, nor .tflite, nor the folder of a SavedModel.")


def bytes_on_disk(path: Path) -> int:
    """The size of a file, or of all files in a folder."""
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())


def size_text(size: int) -> str:
    """A number of bytes, to read."""
    for unit, name in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if size >= unit:
            return f"{size / unit:.1f} {name}"
    return f"{size} bytes"


def check_output(path: str | os.PathLike[str], kind: str) -> Path:
    """Finds out, before any work is done, whether an artifact can be written.

    Raises:
        ValueError: the name is not one of the format.
        ExportError: the place cannot be written, or holds something else.
    """
    path = Path(path)
    suffix = SUFFIXES[kind]
    if suffix and path.suffix != suffix:
        raise ValueError(f"The name of the {TITLES[kind]} file must end with {suffix}: '{path}'.")
    if kind == "saved_model" and path.suffix in (".onnx", ".tflite", ".keras", ".h5"):
        raise ValueError(f"A SavedModel is a folder, its name cannot end so: '{path}'.")
    if suffix and path.is_dir():
        raise ExportError(f"'{path}' is a folder; choose another name.")
    if kind == "saved_model" and path.exists():
        ours = path.is_dir() and (not any(path.iterdir()) or (path / "saved_model.pb").exists())
        if not ours:
            raise ExportError(f"'{path}' is there and is no SavedModel; choose another name.")
    folder = next(parent for parent in path.absolute().parents if parent.exists())
    if not folder.is_dir():
        raise ExportError(f"'{path}' cannot be written: '{folder}' is a file.")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise ExportError(f"'{path}' cannot be written: '{folder}' is not writable.")
    return path


@contextlib.contextmanager
def whole(path: Path, kind: str) -> Iterator[Path]:
    """A place beside `path` to write to and to verify; it takes its place if nothing goes wrong.

    Raises:
        ExportError: the disk is full, or the folder cannot be written.
    """
    made = [parent for parent in path.absolute().parents if not parent.exists()]
    try:
        with (folder_aside if kind == "saved_model" else aside)(path) as new:
            yield new
    except BaseException as error:
        for parent in made:
            with contextlib.suppress(OSError):
                parent.rmdir()
        if isinstance(error, OSError) and error.errno is not None:
            reason = error.strerror or error
            raise ExportError(f"'{path}' cannot be written ({reason}).") from error
        raise
