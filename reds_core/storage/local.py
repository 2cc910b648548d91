"""This machine's disks: errors that say what to do, locks between runs, and folders for what is on its way to a store.

All locks are the kernel's: they end with the process that holds them, however it ends.
"""

from __future__ import annotations

import atexit
import contextlib
import errno
import fcntl
import os
import shutil
import struct
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from reds_core.errors import OutputError, RunError, StorageError

USERS_MISTAKES = (
    errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENAMETOOLONG, errno.ELOOP, errno.ENOLCK,
    errno.ENOTSUP
)  # fmt: skip
PREFIX, NEW = "reds-scratch-", ".reds-new-"

_one = threading.Lock()
_root: tuple[Path, BinaryIO] | None = None  # this process's scratch folder, and the file whose lock says that it lives


@contextlib.contextmanager
def disk(folder: Path, cure: str = "choose another folder with --out") -> Iterator[None]:
    """Turns the operating system's errors about a folder into ones that say what to do."""
    try:
        yield
    except OSError as error:
        if is_full(error):
            raise StorageError(f"the disk is full: {folder}. What is finished is kept; make room and run again") from error
        if error.errno in USERS_MISTAKES:
            raise OutputError(f"{folder} cannot be written: {error.strerror}; {cure}") from error
        raise RunError(f"{error.filename or folder}: {error.strerror or error}. What is finished is kept; run again") from error


def is_full(error: BaseException) -> bool:
    """Whether a disk, or a user's share of it, has no room left."""
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)


@contextlib.contextmanager
def locked(file: Path, first: int, count: int, wait: bool = False) -> Iterator[None]:
    """Numbers from `first` on of a file, which is created, for this run alone.

    Raises:
        RunError: another run has one of them, and `wait` is false.
    """
    with file.open("ab") as handle:
        try:
            _lock_bytes(handle.fileno(), first, count, wait)
        except (BlockingIOError, PermissionError) as error:
            raise RunError(f"another run is writing to {file.parent}; wait for it, or stop it") from error
        yield


def _lock_bytes(file: int, first: int, count: int, wait: bool) -> None:
    if not hasattr(fcntl, "F_OFD_SETLK"):  # not Linux: locks of a process, which only other processes respect
        fcntl.lockf(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB), count, first)
        return
    request = struct.pack("hhqqi", fcntl.F_WRLCK, os.SEEK_SET, first, count, 0)  # struct flock of fcntl(2)
    fcntl.fcntl(file, fcntl.F_OFD_SETLKW if wait else fcntl.F_OFD_SETLK, request)


@contextlib.contextmanager
def scratch() -> Iterator[Path]:
    """A folder under TMPDIR for the time of a block. What killed processes left there is removed."""
    global _root
    with _one, disk(Path(tempfile.gettempdir()), "set TMPDIR to another folder"):
        if _root is None:
            _sweep()
            _root = _new_root()
            atexit.register(leave)
        room = tempfile.TemporaryDirectory(dir=_root[0], ignore_cleanup_errors=True)
    with room as folder:
        yield Path(folder)


def leave() -> None:
    """Removes this process's scratch folders, before an end at which nothing else would."""
    global _root
    if _root is not None:
        shutil.rmtree(_root[0], ignore_errors=True)
        _root[1].close()
        _root = None


def _new_root() -> tuple[Path, BinaryIO]:
    new = Path(tempfile.mkdtemp(prefix=NEW))
    try:
        file = (new / "lock").open("wb")
    except OSError:
        shutil.rmtree(new, ignore_errors=True)
        raise
    fcntl.flock(file, fcntl.LOCK_EX)
    # Only now by its name: what another process finds by it and can lock is dead.
    return new.rename(new.with_name(PREFIX + new.name.removeprefix(NEW))), file


def _sweep() -> None:
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError), (folder / "lock").open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
