"""This machine's disks: errors that say what to do, locks between runs, and scratch folders.

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
    errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENAMETOOLONG, errno.ELOOP,
    errno.ENOLCK,
    errno.ENOTSUP
)  # fmt: skip
PREFIX, NEW = "reds-scratch-", ".reds-new-"

_one = threading.Lock()
_root: tuple[Path, BinaryIO] | None = None  # this process's scratch folder, and the file whose lock says that the process lives


@contextlib.contextmanager
def writing(folder: Path, cure: str = "choose another folder", parameter: str = "out") -> Iterator[None]:
    """Turns the operating system's errors about a folder that is written to into errors that say what to do.

    Args:
        folder: what the messages name.
        cure: what to do if the folder cannot be written at all; `parameter` is that of the cure (`reds_core.errors`).
    """
    try:
        yield
    except OSError as error:
        if is_full(error):
            raise StorageError(f"the disk is full: {folder}. {_again(folder, 'make room and run again')}") from error
        if error.errno == errno.EISDIR and error.filename:
            # Of a rename, the second name is the one that is taken.
            raise OutputError(
                f"{error.filename2 or error.filename} cannot be written: it is a folder; move it away", parameter=""
            ) from error
        if error.errno in USERS_MISTAKES:
            raise OutputError(f"{folder} cannot be written: {error.strerror}; {cure}", parameter=parameter) from error
        raise RunError(f"{error.filename or folder}: {error.strerror or error}. {_again(folder, 'run again')}") from error


def _again(folder: Path, cure: str) -> str:
    """Returns what to do, and that what is finished is kept if something is: every finished thing has a manifest."""
    return f"What is finished is kept; {cure}" if any(folder.glob("*.json")) else cure.capitalize()


def is_full(error: BaseException) -> bool:
    """Returns whether a disk, or a user's quota on it, is full."""
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)


@contextlib.contextmanager
def locked(file: Path, first: int, count: int, wait: bool = False) -> Iterator[None]:
    """Locks bytes of a file, which is created, for the time of a block.

    Args:
        file: whose bytes are locked; they need not exist.
        first, count: which bytes.
        wait: until nobody else has any of them; else that is an error.

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
    """Gives a folder under TMPDIR for the time of a block. Removes what killed processes left there."""
    global _root
    with _one, writing(Path(tempfile.gettempdir()), "set TMPDIR to another folder", parameter=""):
        if _root is None:
            _sweep()
            _root = _new_root()
            atexit.register(remove_scratch)
        room = tempfile.TemporaryDirectory(dir=_root[0], ignore_cleanup_errors=True)
    with room as folder:
        yield Path(folder)


def remove_scratch() -> None:
    """Removes this process's scratch folders: for an exit at which no handler runs."""
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
    # It gets its name only now: a folder of that name that another process can lock belongs to a dead process.
    return new.rename(new.with_name(PREFIX + new.name.removeprefix(NEW))), file


def _sweep() -> None:
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError), (folder / "lock").open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
