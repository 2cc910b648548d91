"""Where runs lie: on a disk, or in an object store behind any URL that fsspec knows (s3://, gs://, memory://).

A folder is a `Path`, or a `UPath` for a URL. What reads and computes works on disks alone: `near` copies the small files of a far
folder to one, `fetched` any file; what is written goes from a disk to the store by `send`. An object appears when its upload is complete, so that a
store keeps the promise of a disk: nothing unfinished is ever seen.

Every call to a store goes through `reds_core.storage.retries`.
"""

from __future__ import annotations

import contextlib
import re
import uuid
from collections.abc import Iterator, Sequence
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

from fsspec import available_protocols
from upath import UPath

from reds_core.errors import OutputError, StorageError
from reds_core.storage.local import disk, scratch
from reds_core.storage.retries import patiently, reason

Folder = Path | UPath

READ_PATIENCE, SEND_PATIENCE = 45.0, 300.0  # seconds after which a call is not tried again
CHUNK = 16 * 2**20  # bytes of a large file that are sent at once, CHUNKS of them side by side
CHUNKS = 4
AT_ONCE = 256  # small files that are read side by side
BUCKETS = ("s3", "s3a", "gs", "gcs", "az", "abfs", "abfss")
# Elsewhere (sftp://, smb://) a file is seen while it grows, and renaming costs nothing; here renaming is a copy.
APPEARS_WHOLE = (*BUCKETS, "memory")
CREATES = ("s3", "s3a", "gs", "gcs", "memory")  # of two who create one object, one is told that it is there already
# What reads alone, or stands in front of another kind of storage.
NO_PLACE = (
    "async_wrapper", "asyncwrapper", "blockcache", "cached", "data", "dir", "filecache", "generic", "gist", "git", "github", "http", "https",
    "libarchive", "reference", "simplecache", "tar", "zip",
)  # fmt: skip


def folder_at(place: str | Path) -> Folder:
    """The folder at a path or URL. Raises OutputError for a URL that cannot hold runs, or whose library is not installed."""
    protocol, colon, rest = str(place).partition("://")
    if not colon:
        mistaken = re.match(r"([a-z0-9]+):/", str(place))
        if mistaken and mistaken[1] in available_protocols():
            raise OutputError(f"{place}: a URL has two slashes or more, as {mistaken[1]}://BUCKET/FOLDER has")
        if not str(place):
            raise OutputError("an empty name is no folder; give one, or . for this one")
        return _home_found(Path(place))
    if protocol in ("file", "local"):
        if not rest.startswith("/"):
            raise OutputError(f"{place}: a file's URL has three slashes, as file:///data/runs has; or give a path")
        return Path(rest)
    if protocol not in available_protocols() or protocol in NO_PLACE:
        raise OutputError(
            f"{place}: runs cannot lie in {protocol}://; give a path, s3://, gs:// or another store that fsspec writes to"
        )
    if protocol in BUCKETS and not rest.partition("/")[0]:
        raise OutputError(f"{place} names no bucket; give {protocol}://BUCKET/FOLDER")
    try:
        folder = UPath(str(place), use_listings_cache=False)
        _ = folder.fs
    except ImportError as error:
        raise OutputError(f"{place}: {error}") from error  # "Install s3fs to access S3"
    # A client may want a host, a token, or settings that the URL lacks, and raises what it likes.
    except Exception as error:
        raise OutputError(f"{place} cannot be opened: {error or type(error).__name__}") from error
    return folder


def _home_found(path: Path) -> Path:
    try:
        return path.expanduser()
    except RuntimeError as error:
        raise OutputError(f"{path}: there is no such user; give the folder's whole path") from error


def absolute_place(place: str) -> str:
    """A path or URL that means the same in every working directory."""
    folder = folder_at(place)
    return str(folder.absolute()) if isinstance(folder, Path) else place


def names(folder: Folder) -> dict[str, int]:
    """The files in a folder, with their sizes in bytes, in one listing; none if there is no folder."""
    if isinstance(folder, Path):
        found = {}
        for path in folder.glob("*"):
            with contextlib.suppress(FileNotFoundError):  # another run may be at work here
                if path.is_file():
                    found[path.name] = path.stat().st_size
        return found
    return {name: size for name, size, is_file in _listed(folder) if is_file}


def exists(folder: Folder) -> bool:
    """Whether there is a folder; in an object store, whether anything is in it."""
    return folder.is_dir() if isinstance(folder, Path) else bool(_listed(folder))


def folders(out: Folder, name: str) -> list[Folder]:
    """The folders two levels below `out`, or `out` itself, that hold a file of this name."""
    if isinstance(out, Path):
        return [path.parent for path in ([out / name] if (out / name).is_file() else out.glob(f"*/*/{name}"))]
    if name in names(out):
        return [out]
    return [run for job in _below(out) for run in _below(job) if name in names(run)]


def _below(folder: UPath) -> list[UPath]:
    return [folder / name for name, _, is_file in _listed(folder) if not is_file]


def _listed(folder: UPath) -> list[tuple[str, int, bool]]:
    """What lies in a far folder: name, size in bytes, whether it is a file. Nothing, if there is no folder."""
    try:
        entries = patiently(READ_PATIENCE, folder, lambda: folder.fs.ls(_path(folder), detail=True))
    except FileNotFoundError:
        return []
    found = [(entry["name"].rstrip("/").rpartition("/")[2], entry["size"] or 0, entry["type"] == "file") for entry in entries]
    # Some tools keep an empty object of a folder's own name in it.
    return [entry for entry, said in zip(found, entries, strict=True) if said["name"].strip("/") != _path(folder).strip("/")]


def _path(folder: UPath, name: str = "") -> str:
    """What the store calls a folder, or a file in it."""
    return f"{folder.path.rstrip('/')}/{name}".rstrip("/")


@contextlib.contextmanager
def near(folder: Folder, *kinds: str) -> Iterator[Path]:
    """The folder itself if it is on a disk; else a copy, of the same name, of its files that end in one of `kinds`."""
    if isinstance(folder, Path):
        yield folder
        return
    with scratch() as room:
        here = room / (folder.name or "run")
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
        content: bytes = patiently(READ_PATIENCE, folder, lambda: folder.fs.cat_file(_path(folder, name)))
    except FileNotFoundError:
        return None
    return content


def size(folder: UPath, name: str) -> int | None:
    """A far file's size in bytes; None if there is none."""
    try:
        found: int = patiently(READ_PATIENCE, folder, lambda: folder.fs.size(_path(folder, name)))
    except FileNotFoundError:
        return None
    return found


def changed(folder: UPath, name: str) -> float:
    """When a file of a far folder was written last, in seconds since 1970."""
    when: datetime = patiently(READ_PATIENCE, folder, lambda: folder.fs.modified(_path(folder, name)))
    return when.timestamp()


def fetch_small(folder: UPath, wanted: Sequence[str], here: Path) -> None:
    """Copies small files of a far folder to a disk, many at a time. One that is gone by now is left out."""
    for at in range(0, len(wanted), AT_ONCE):
        chosen = wanted[at : at + AT_ONCE]
        found = patiently(READ_PATIENCE, folder, partial(_contents, folder, chosen))
        with disk(here):
            for name, content in zip(chosen, found, strict=True):
                if content is not None:
                    (here / name).write_bytes(content)


def _contents(folder: UPath, wanted: Sequence[str]) -> list[bytes | None]:
    """Small files' contents; None for one that is not there."""
    # `cat` of several would take a `*` or `[` of a path for a pattern.
    found: list[Any] = folder.fs.cat_ranges([_path(folder, name) for name in wanted], None, None, on_error="return")
    for error in found:
        if isinstance(error, BaseException) and not isinstance(error, FileNotFoundError):
            raise error
    return [None if isinstance(content, FileNotFoundError) else content for content in found]


@contextlib.contextmanager
def fetched(folder: Folder, name: str) -> Iterator[Path]:
    """A file of a folder, on a disk. Raises FileNotFoundError where a far folder has no such file."""
    if isinstance(folder, Path):
        yield folder / name
        return
    with scratch() as here:
        yield get(folder, name, here)


def get(folder: UPath, name: str, to: Path) -> Path:
    """Copies a file of a far folder into a folder on a disk, in portions. Raises FileNotFoundError."""
    patiently(READ_PATIENCE, folder, lambda: folder.fs.get_file(_path(folder, name), str(to / name)))
    return to / name


@contextlib.contextmanager
def written(folder: Folder) -> Iterator[Path]:
    """A folder on a disk for new files: the folder itself, or one whose files are sent there at the end."""
    if isinstance(folder, Path):
        with disk(folder):
            yield folder
        return
    with scratch() as here:
        with disk(here):
            yield here
        for path in sorted(here.iterdir()):
            send(path, folder)


def send(source: Path, folder: UPath, create: bool = False) -> bool:
    """Puts a file into a far folder under its own name, in portions.

    Args:
        create: only where there is none.

    Returns:
        With `create`, whether this call created the file for certain; not every store can say so.
    """
    path = _path(folder, source.name)
    options: dict[str, Any] = {"mode": "create"} if create and folder.protocol in CREATES else {}
    if folder.protocol in ("s3", "s3a"):
        options |= {"chunksize": CHUNK, "max_concurrency": CHUNKS}

    def put() -> None:
        if create and folder.protocol not in CREATES and folder.fs.exists(path):
            raise FileExistsError(path)
        if folder.protocol in APPEARS_WHOLE:
            folder.fs.put_file(str(source), path, **options)
        else:
            part = _path(folder, f".part-{uuid.uuid4().hex}-{source.name}")
            folder.fs.makedirs(_path(folder), exist_ok=True)
            folder.fs.put_file(str(source), part)
            folder.fs.mv(part, path)

    try:
        patiently(SEND_PATIENCE, folder, put)
    except FileExistsError:
        return False
    except FileNotFoundError as error:
        raise StorageError(f"{folder}: its bucket is gone: {reason(error)}. Make it, or choose another with --out") from error
    return not create or folder.protocol in CREATES


def remove(folder: UPath, *gone: str) -> None:
    """Removes files of a far folder, if they are there."""
    for name in gone:
        with contextlib.suppress(FileNotFoundError):
            patiently(READ_PATIENCE, folder, partial(folder.fs.rm_file, _path(folder, name)))
