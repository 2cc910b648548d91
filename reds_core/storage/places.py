"""The folder at a path or URL."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path

from fsspec import available_protocols
from upath import UPath

from reds_core.errors import OutputError, is_text
from reds_core.storage.folder import Folder
from reds_core.storage.local import LocalFolder
from reds_core.storage.remote import BUCKETS, RemoteFolder

# Protocols that only read, or that stand in front of another kind of storage.
NO_PLACE = (
    "async_wrapper", "asyncwrapper", "blockcache", "cached", "data", "dir", "filecache", "generic", "gist", "git", "github",
    "http", "https",
    "libarchive", "reference", "simplecache", "tar", "zip",
)  # fmt: skip


def folder_at(place: str | Path) -> Folder:
    """Returns the folder at a path or URL.

    Raises:
        OutputError: the URL cannot hold runs, or the library that it needs is not installed.
    """
    if not is_text(place):
        raise OutputError(f"{ascii(str(place))[1:-1]}: the name is not UTF-8, and no report could name it; rename the folder")
    protocol, colon, rest = str(place).partition("://")
    if not colon:
        mistaken = re.match(r"([a-z0-9]+):/", str(place))
        if mistaken and mistaken[1] in available_protocols():
            raise OutputError(f"{place}: a URL has two slashes after its colon, as in {mistaken[1]}://BUCKET/FOLDER")
        if not str(place).strip():
            raise OutputError("the folder's name is empty; give one, or . for the working directory")
        scheme = re.match(r"([A-Za-z][A-Za-z0-9+.-]*):", str(place))
        if scheme:
            # So it does to the libraries that write and read tables and tars.
            raise OutputError(f"{place}: reads like a URL of the scheme {scheme[1]}; give another name, or the folder's whole path")
        return LocalFolder(_expanded(Path(place)))
    if protocol in ("file", "local"):
        if not rest.startswith("/"):
            raise OutputError(f"{place}: a file's URL has three slashes, as in file:///data/runs; or give a path")
        return LocalFolder(Path(rest))
    if protocol not in available_protocols() or protocol in NO_PLACE:
        raise OutputError(
            f"{place}: runs cannot be kept in {protocol}://; give a path, s3://, gs:// or another store that fsspec can write to"
        )
    if protocol in BUCKETS and not rest.partition("/")[0]:
        raise OutputError(f"{place} names no bucket; give {protocol}://BUCKET/FOLDER")
    try:
        folder = UPath(str(place), use_listings_cache=False)
        _ = folder.fs
    except ImportError as error:
        raise OutputError(f"{place}: {error}") from error  # "Install s3fs to access S3"
    # A client may need a host, a token, or settings that the URL lacks, and raises whatever it likes.
    except Exception as error:
        raise OutputError(f"{place} cannot be opened: {error or type(error).__name__}") from error
    return RemoteFolder(folder)


@contextlib.contextmanager
def on_disk(folder: Folder, *endings: str) -> Iterator[LocalFolder]:
    """Gives what `folder.on_disk` does, as a folder."""
    with folder.on_disk(*endings) as path:
        yield LocalFolder(path)


def _expanded(path: Path) -> Path:
    try:
        return path.expanduser()
    except RuntimeError as error:
        raise OutputError(f"{path}: there is no such user; give the folder's whole path") from error
