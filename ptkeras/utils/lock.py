"""A lock that two trainings which would write the same files cannot both have."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
import warnings
import weakref
from collections.abc import Callable
from pathlib import Path

if sys.platform == "win32":  # two trainings are not told apart there
    fcntl = None
else:
    import fcntl

_PREFIX = ".lock"
_TAKEN = (errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES)
_WITHOUT_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP)

# In this process; what nobody holds on to any longer releases itself.
_held: weakref.WeakValueDictionary[Path, Lock] = weakref.WeakValueDictionary()


class LockedError(ValueError):
    """Another training has the lock."""


class Lock:
    """Keeps others out of a file or folder, from `take` to `release` or the end of the process.

    What is locked is an empty file beside the file, `.lock_NAME`, or in the folder, `.lock`; it is
    there for that time only. A file and no folder, since NFS tells other machines of these alone.

    Args:
        path: the file or folder.
        in_use: whether whoever took the lock still needs it. Asked where another one of this
            process wants it: a `fit` that an exception has ended releases nothing.
    """

    def __init__(self, path: Path, in_use: Callable[[], bool] = lambda: True) -> None:
        self.path = path
        self.in_use = in_use
        self._release: weakref.finalize | None = None

    def take(self) -> None:
        """Takes the lock, or keeps it.

        On a file system without locks, and where this process cannot write, there is none to take.

        Raises:
            LockedError: another one has it.
        """
        path = self.path
        folder = path if path.is_dir() else path.parent
        if fcntl is None or (self._release is not None and self._release.alive):
            return
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK):
            return
        file = folder.resolve() / (_PREFIX if folder is path else f"{_PREFIX}_{path.name}")
        holder = _held.get(file)
        if holder is not None and not holder.in_use():
            holder.release()
        try:
            descriptor = _locked(file)
        except OSError as error:
            if error.errno in _TAKEN:
                raise LockedError(
                    f"Another training is at work on '{path}': wait for its end, or choose another "
                    "path."
                ) from error
            if error.errno not in _WITHOUT_LOCKS:
                raise
            file.unlink(missing_ok=True)
            warnings.warn(
                f"'{path}' is on a file system without locks ({errno.errorcode[error.errno]}): "
                "nothing keeps a second training out of it, so start none.",
                stacklevel=2,
            )
            return
        self._release = weakref.finalize(self, _unlock, file, descriptor, os.getpid())
        _held[file] = self

    def release(self) -> None:
        """Lets others have the lock."""
        if self._release is not None:
            self._release()


def _unlock(file: Path, descriptor: int, process: int) -> None:
    """Gives back a lock; in a process that was forked off it is not this one's to give."""
    if os.getpid() != process:
        return
    with contextlib.suppress(OSError):  # the folder may have gone
        file.unlink()  # while it is locked: whoever comes next makes one anew
    # To close it would not do, where a process that was forked off has it open too.
    fcntl.flock(descriptor, fcntl.LOCK_UN)
    os.close(descriptor)


def _locked(path: Path) -> int:
    """The descriptor of a file, locked."""
    while True:
        # No link is followed out of the folder.
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Whoever had it may have removed the file between the two calls.
            if path.exists() and os.path.samestat(os.fstat(descriptor), path.stat()):
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)
