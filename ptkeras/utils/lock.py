"""A lock that keeps two trainings from writing the same files."""

from __future__ import annotations

import atexit
import contextlib
import errno
import os
import warnings
import weakref
from collections.abc import Callable
from pathlib import Path

import filelock

_WITHOUT_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP)
_SECONDS = 0.1  # of waiting, so that a lock that is just being released can be taken

_held: weakref.WeakValueDictionary[Path, Lock] = weakref.WeakValueDictionary()  # in this process


class LockedError(ValueError):
    """Another training has the lock."""


class Lock:
    """Keeps others out of a file or folder, from `take` to `release` or the end of the process.

    The lock is on an empty file next to the file, `.lock_NAME`, or in the folder, `.lock`, which is
    there for that time only. A lock that nothing refers to releases itself.

    Args:
        path: the file or folder.
        in_use: returns whether the lock is still needed. Called if another training of this process
            wants it: a `fit` that raised releases nothing.
    """

    def __init__(self, path: Path, in_use: Callable[[], bool] = lambda: True) -> None:
        self.path = path
        self.in_use = in_use
        self._lock: filelock.BaseFileLock | None = None

    def take(self) -> None:
        """Takes the lock, or keeps it.

        On a file system without locks, and where this process cannot write, there is none.

        Raises:
            LockedError: If another training has it.
        """
        if self._lock is not None and self._lock.is_locked:
            return
        folder = self.path if self.path.is_dir() else self.path.parent
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK):
            return
        file = folder.resolve() / (".lock" if folder is self.path else f".lock_{self.path.name}")
        holder = _held.get(file)
        if holder is not None and not holder.in_use():
            holder.release()
        # Any thread may release it. A soft lock would outlast a kill.
        lock = filelock.FileLock(file, _SECONDS, thread_local=False, fallback_to_soft=False)
        try:
            lock.acquire()
        except filelock.Timeout as error:
            raise LockedError(
                f"Another training is at work on '{self.path}': wait for its end, or choose "
                "another path."
            ) from error
        except OSError as error:
            if error.errno not in _WITHOUT_LOCKS:
                raise
            file.unlink(missing_ok=True)
            warnings.warn(
                f"'{self.path}' is on a file system without locks "
                f"({errno.errorcode[error.errno]}): nothing keeps a second training out of it, so "
                "start none.",
                stacklevel=2,
            )
            return
        self._lock = lock
        _held[file] = self

    def release(self) -> None:
        """Lets others have the lock; in a forked process it is not held."""
        if self._lock is None or not self._lock.is_locked:
            return
        # The folder may have gone. Windows keeps an open file, and filelock removes it there.
        with contextlib.suppress(OSError):
            Path(self._lock.lock_file).unlink()  # before others can lock it
        self._lock.release()

    def __del__(self) -> None:
        self.release()


@atexit.register
def _release_all() -> None:
    """Releases all locks before filelock does, which leaves their files."""
    for lock in list(_held.values()):
        lock.release()
