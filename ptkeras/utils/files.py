"""Files that are either whole or not there: written aside, then renamed."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

_PREFIX = ".new_"
_LOCK = ".lock"  # what ptkeras.utils.lock puts beside a file


@contextlib.contextmanager
def aside(path: Path) -> Iterator[Path]:
    """Gives a path beside `path` to write to; what was written there then takes its place.

    Whenever the process or the machine stops, `path` is what it was before or what it is after.
    What lies at the path beside it, a link maybe, is removed and never written through.

    Args:
        path: the file to write; its folder is made if need be.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(_PREFIX + path.name)  # the suffix stays: Keras wants its own
    _remove(new)
    try:
        yield new
        _sync(new)
        new.replace(path)
        _sync(path.parent)
    except BaseException:
        _remove(new)
        raise


@contextlib.contextmanager
def folder_aside(path: Path) -> Iterator[Path]:
    """Gives a folder beside `path` to fill, which then takes its place, as `aside` does for a file.

    A folder that is there is moved away first, since no system call puts one over another: only a
    machine that stops between the two leaves neither under its name, and both beside it.

    Args:
        path: the folder to write; its parent is made if need be.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    new, old = path.with_name(_PREFIX + path.name), path.with_name(_PREFIX + "old_" + path.name)
    _remove(new)  # what a process that was stopped has left
    try:
        new.mkdir()
        yield new
        for file in (*new.rglob("*"), new):
            _sync(file)
        if os.path.lexists(path):
            _remove(old)
            path.rename(old)
        new.rename(path)
        _remove(old)
        _sync(path.parent)
    except BaseException:
        _remove(new)
        raise


def is_unfinished(path: Path) -> bool:
    """Whether a file is one that a stopped process has left beside one that it wrote."""
    return path.name.startswith((_PREFIX, _LOCK))


def write_text(path: Path, text: str) -> None:
    """Writes a file as a whole, in UTF-8."""
    with aside(path) as new:
        new.write_text(text, encoding="utf-8", newline="\n")


def read_text(path: Path) -> str:
    """Reads a text file in UTF-8.

    Raises:
        ValueError: If it cannot be read, or is not text. The message is the rest of a sentence
            that begins with the path, such as "is a folder".
    """
    if fault := fault_of(path):
        raise ValueError(fault)
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError("is no text") from error
    except OSError as error:
        raise ValueError(f"cannot be read ({error.strerror})") from error


def fault_of(path: Path) -> str:
    """Says why there is no file to read at a path: "is missing", "is a folder"; "" if there is one.

    Nothing is opened, so that no pipe is waited for.
    """
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return "is a link that leads nowhere" if path.is_symlink() else "is missing"
    except (OSError, ValueError) as error:  # links in a circle, a name that is too long
        return f"cannot be read ({getattr(error, 'strerror', error)})"
    if stat.S_ISREG(mode):
        return ""
    return "is a folder" if stat.S_ISDIR(mode) else "is neither a file nor a folder"


def digest_of(path: Path) -> str:
    """Returns the SHA-256 of a file, in hexadecimal.

    Raises:
        ValueError: As `read_text`.
    """
    if fault := fault_of(path):
        raise ValueError(fault)
    try:
        digest = hashlib.sha256()
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
        return digest.hexdigest()
    except OSError as error:
        raise ValueError(f"cannot be read ({error.strerror})") from error


def check_writable_name(path: Path) -> None:
    """Finds out whether a file system takes a name, and those that are put beside it meanwhile.

    Raises:
        OSError: If it is too long.
    """
    names = (path.name, _PREFIX + path.name, f"{_LOCK}_{path.name}")
    for one in (path.parent / name for name in names):
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            one.lstat()


def _remove(path: Path) -> None:
    """Removes a file, a folder with all that is in it, or a link but not what it leads to."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    """Waits until a file, or the names in a folder, are on the disk."""
    if path.is_dir() and os.name == "nt":
        return  # Windows does not open folders
    descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
