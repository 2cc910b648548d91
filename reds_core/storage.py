"""Where runs lie: on a disk, or in an object store behind any URL that fsspec knows (s3://, gs://, memory://).

A folder is a `Path`, or a `UPath` for a URL. What reads and computes works on disks alone: `near` copies the small files of a far
folder to one, `fetched` any file; what is written goes from a disk to the store by `send`. An object appears when its upload is complete, so that a
store keeps the promise of a disk: nothing unfinished is ever seen.

Every call to a store is tried again, with growing pauses, if trying again may help; what a store's client raises becomes a StorageError.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import struct
import tempfile
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import tenacity
from fsspec import available_protocols
from upath import UPath

from reds_core.errors import OutputError, RedsError, RunError, StorageError

Folder = Path | UPath

READ_PATIENCE, SEND_PATIENCE = 45.0, 300.0  # seconds after which a call is not tried again
FIRST_PAUSE = 0.5  # seconds; later ones are longer, and all are drawn at random
CHUNK = 16 * 2**20  # bytes of a large file that are sent at once, CHUNKS of them side by side
CHUNKS = 4
AT_ONCE = 256  # small files that are read side by side
USERS_MISTAKES = (
    errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENAMETOOLONG, errno.ELOOP
)  # fmt: skip
REFUSED = (
    "NoCredentials",
    "PartialCredentials",
    "DefaultCredentials",
    "RefreshError",
    "TokenRetrieval",
    "ParamValidation",
    "ProfileNotFound",
)
# Elsewhere (sftp://, smb://) a file is seen while it grows, and renaming costs nothing; here renaming is a copy.
APPEARS_WHOLE = ("s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "memory")


def folder_at(place: str | Path) -> Folder:
    """The folder at a path or URL. Raises OutputError for a URL of a kind that is not known, or whose library is not installed."""
    protocol, colon, rest = str(place).partition("://")
    if not colon:
        return Path(place)
    if protocol in ("file", "local"):
        return Path(rest)
    if protocol not in available_protocols():
        raise OutputError(
            f"{place}: there is no kind of storage {protocol}://; a path, s3://, gs:// or another that fsspec knows is needed"
        )
    try:
        folder = UPath(str(place), use_listings_cache=False)
        _ = folder.fs
    except ImportError as error:
        raise OutputError(
            f"{place}: {error}; `pip install 'reds-augment[{'gcs' if protocol in ('gs', 'gcs') else protocol}]'`"
        ) from error
    return folder


def absolute_place(place: str) -> str:
    """A path or URL that means the same in every working directory."""
    folder = folder_at(place)
    return str(folder.absolute()) if isinstance(folder, Path) else place


@contextlib.contextmanager
def disk(folder: Path) -> Iterator[None]:
    """Turns the operating system's errors about a folder into ones that say what to do."""
    try:
        yield
    except OSError as error:
        if _is_full(error):
            raise StorageError(f"the disk is full: {folder}. What is finished is kept; make room and run again") from error
        if error.errno in USERS_MISTAKES:
            raise OutputError(f"{folder} cannot be written: {error.strerror}; choose another folder with --out") from error
        raise RunError(f"{error.filename or folder}: {error.strerror or error}. What is finished is kept; run again") from error


@contextlib.contextmanager
def locked(folder: Path, first: int, count: int, wait: bool = False) -> Iterator[None]:
    """Numbers from `first` on of a folder for this run alone; the kernel releases them when a process dies.

    Raises:
        RunError: another run has one of them, and `wait` is false.
    """
    with (folder / ".lock").open("ab") as file:
        try:
            _lock_bytes(file.fileno(), first, count, wait)
        except (BlockingIOError, PermissionError) as error:
            raise RunError(f"another run is writing to {folder}; wait for it, or stop it") from error
        yield


def _lock_bytes(file: int, first: int, count: int, wait: bool) -> None:
    if not hasattr(fcntl, "F_OFD_SETLK"):  # not Linux: locks of a process, which only other processes respect
        fcntl.lockf(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB), count, first)
        return
    request = struct.pack("hhqqi", fcntl.F_WRLCK, os.SEEK_SET, first, count, 0)  # struct flock of fcntl(2)
    fcntl.fcntl(file, fcntl.F_OFD_SETLKW if wait else fcntl.F_OFD_SETLK, request)


def names(folder: Folder) -> dict[str, int]:
    """The files in a folder, with their sizes in bytes, in one listing; none if there is no folder."""
    if isinstance(folder, Path):
        found = {}
        for path in folder.glob("*"):
            with contextlib.suppress(FileNotFoundError):  # another run may be at work here
                if path.is_file():
                    found[path.name] = path.stat().st_size
        return found
    try:
        listed = _patiently(READ_PATIENCE, folder, lambda: folder.fs.ls(folder.path, detail=True))
    except FileNotFoundError:
        return {}
    return {entry["name"].rpartition("/")[2]: entry["size"] for entry in listed if entry["type"] == "file"}


def folders(out: Folder, name: str) -> list[Folder]:
    """The folders two levels below `out`, or `out` itself, that hold a file of this name."""
    if isinstance(out, Path):
        return [path.parent for path in ([out / name] if (out / name).is_file() else out.glob(f"*/*/{name}"))]
    if name in names(out):
        return [out]
    found: list[str] = _patiently(READ_PATIENCE, out, lambda: out.fs.glob(f"{out.path}/*/*/{name}"))
    return [out / "/".join(path.split("/")[-3:-1]) for path in found]


@contextlib.contextmanager
def near(folder: Folder, *kinds: str) -> Iterator[Path]:
    """The folder itself if it is on a disk; else a copy, of the same name, of its files that end in one of `kinds`."""
    if isinstance(folder, Path):
        yield folder
        return
    with tempfile.TemporaryDirectory(prefix="reds-") as scratch:
        here = Path(scratch) / folder.name
        here.mkdir()
        wanted = [name for name in names(folder) if name.endswith(kinds)]
        fetch_small(folder, wanted, here)
        yield here


def read(folder: Folder, name: str) -> bytes | None:
    """A small file's content; None if there is none."""
    if isinstance(folder, Path):
        try:
            return (folder / name).read_bytes()
        except OSError:
            return None
    try:
        content: bytes = _patiently(READ_PATIENCE, folder, lambda: folder.fs.cat_file(f"{folder.path}/{name}"))
    except FileNotFoundError:
        return None
    return content


def changed(folder: UPath, name: str) -> float:
    """When a file of a far folder was written last, in seconds since 1970."""
    when: datetime = _patiently(READ_PATIENCE, folder, lambda: folder.fs.modified(f"{folder.path}/{name}"))
    return when.timestamp()


def fetch_small(folder: UPath, wanted: Sequence[str], here: Path) -> None:
    """Copies small files of a far folder to a disk, many at a time. One that is gone by now is left out."""
    for at in range(0, len(wanted), AT_ONCE):
        paths = [f"{folder.path}/{name}" for name in wanted[at : at + AT_ONCE]]
        found = _patiently(READ_PATIENCE, folder, partial(folder.fs.cat, paths, on_error="omit"))
        with disk(here):
            for path, content in found.items():
                (here / path.rpartition("/")[2]).write_bytes(content)


@contextlib.contextmanager
def fetched(folder: Folder, name: str) -> Iterator[Path]:
    """A file of a folder, on a disk. Raises FileNotFoundError where a far folder has no such file."""
    if isinstance(folder, Path):
        yield folder / name
        return
    with tempfile.TemporaryDirectory(prefix="reds-") as scratch:
        yield get(folder, name, Path(scratch))


def get(folder: UPath, name: str, to: Path) -> Path:
    """Copies a file of a far folder into a folder on a disk, in portions. Raises FileNotFoundError."""
    _patiently(READ_PATIENCE, folder, lambda: folder.fs.get_file(f"{folder.path}/{name}", str(to / name)))
    return to / name


def send(source: Path, folder: UPath, create: bool = False) -> bool:
    """Puts a file into a far folder under its own name, in portions. With `create`, only where there is none; whether it did."""
    path = f"{folder.path}/{source.name}"
    options: dict[str, Any] = {"mode": "create"} if create else {}
    if folder.protocol in ("s3", "s3a"):
        options |= {"chunksize": CHUNK, "max_concurrency": CHUNKS}

    def put() -> None:
        if folder.protocol in APPEARS_WHOLE:
            folder.fs.put_file(str(source), path, **options)
        elif not create or not folder.fs.exists(path):
            part = f"{folder.path}/.part-{source.name}"
            folder.fs.put_file(str(source), part)
            folder.fs.mv(part, path)
        else:
            raise FileExistsError(path)

    try:
        _patiently(SEND_PATIENCE, folder, put)
    except FileExistsError:
        return False
    return True


def remove(folder: UPath, *gone: str) -> None:
    """Removes files of a far folder, if they are there."""
    for name in gone:
        with contextlib.suppress(FileNotFoundError):
            _patiently(READ_PATIENCE, folder, partial(folder.fs.rm_file, f"{folder.path}/{name}"))


def _patiently(patience: float, folder: UPath, call: Callable[[], Any]) -> Any:
    """A call to a store, tried again while that may help. Raises FileNotFoundError and FileExistsError as they are, else StorageError."""
    again = tenacity.Retrying(
        retry=tenacity.retry_if_exception(_may_pass),
        wait=tenacity.wait_random_exponential(multiplier=FIRST_PAUSE, max=20),
        stop=tenacity.stop_after_delay(patience),
        reraise=True,
    )
    try:
        return again(call)
    except (RedsError, FileNotFoundError, FileExistsError):
        raise
    # Every store's client raises what it likes; whatever it was, this store did not do what was asked.
    except Exception as error:
        if _is_full(error):
            raise StorageError(
                f"the disk is full: {tempfile.gettempdir()}. What is finished is kept; make room and run again"
            ) from error
        reason = str(error).strip().rstrip(".") or type(error).__name__
        raise StorageError(f"{folder}: {reason}. What is finished is kept; {_cure(error)}") from error


def _is_full(error: BaseException) -> bool:
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)


def is_refusal(error: BaseException | None) -> bool:
    """Whether a store's client said that this user may not, or that it does not know who asks."""
    # An S3 server answers a HEAD with an expired token by this, and may not say why.
    bare = isinstance(error, OSError) and error.errno == errno.EINVAL and error.strerror == "Bad Request"
    return bare or isinstance(error, PermissionError) or any(name in type(error).__name__ for name in REFUSED)


def _may_pass(error: BaseException) -> bool:
    for_good = (
        RedsError,
        FileNotFoundError,
        FileExistsError,
        IsADirectoryError,
        NotADirectoryError,
        NotImplementedError,
        TypeError,
    )
    return isinstance(error, Exception) and not isinstance(error, for_good) and not is_refusal(error) and not _is_full(error)


def _cure(error: Exception) -> str:
    return "renew the credentials or the rights and run again" if is_refusal(error) else "run again when the store answers"
