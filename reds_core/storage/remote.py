"""A folder in an object store, behind any URL that fsspec knows (s3://, gs://, memory://).

An object appears when its upload is complete, so that a store keeps the promise of a disk: nothing unfinished is ever seen. A store
has no locks: whichever run creates a file first owns it (`send(only_new=True)`). Whether a file is as it should be is told by its
size, from a listing: a run cannot download the whole bucket every night.

Every call to a store goes through `reds_core.storage.retries`.
"""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

from upath import UPath

from reds_core.errors import OutputError, StorageError
from reds_core.storage.disk import scratch, writing
from reds_core.storage.folder import PART, Folder, Sizes
from reds_core.storage.retries import is_misplaced, is_refusal, reason, retried

RETRY_TIME = 300.0  # seconds after which a call is not tried again
CHUNK = 16 * 2**20  # bytes of a large file that are sent at once, CHUNKS of them side by side
CHUNKS = 4
AT_ONCE = 256  # small files that are read side by side
BUCKETS = ("s3", "s3a", "gs", "gcs", "az", "abfs", "abfss")
# Elsewhere (sftp://, smb://) a file is seen while it grows, and renaming it costs nothing; here renaming is a copy.
APPEARS_WHOLE = (*BUCKETS, "memory")
CREATES = ("s3", "s3a", "gs", "gcs", "memory")  # of two clients that create one object, the second is told that it exists


@dataclass(frozen=True)
class RemoteFolder(Folder):
    """A folder in an object store."""

    place: UPath
    reads_to_compare = False
    has_locks = False

    @property
    def is_shared(self) -> bool:
        return self.place.protocol != "memory"

    @property
    def name(self) -> str:
        return self.place.name

    def __truediv__(self, name: str) -> RemoteFolder:
        return RemoteFolder(self.place / name)

    def __str__(self) -> str:
        return str(self.place)

    def absolute(self) -> str:
        return str(self.place)

    def url(self, name: str) -> str:
        return str(self.place / name)

    def exists(self) -> bool:
        return bool(self._listed())

    def files(self) -> dict[str, int]:
        return {name: size for name, size, is_file in self._listed() if is_file}

    def names(self) -> list[str]:
        return list(self.files())

    def folders(self) -> list[RemoteFolder]:
        return [self / name for name, _, is_file in self._listed() if not is_file]

    def size(self, name: str) -> int | None:
        try:
            found: int = self._retried(lambda: self.place.fs.size(self._key(name)))
        except FileNotFoundError:
            return None
        return found

    def changed(self, names: Sequence[str]) -> float:
        when: datetime = self._retried(lambda: self.place.fs.modified(self._key(names[0])))
        return when.timestamp()

    def read(self, name: str) -> bytes | None:
        try:
            content: bytes = self._retried(lambda: self.place.fs.cat_file(self._key(name)))
        except FileNotFoundError:
            return None
        return content

    @contextlib.contextmanager
    def on_disk(self, *endings: str) -> Iterator[Path]:
        with scratch() as room:
            here = room / (self.name or "run")
            here.mkdir()
            wanted = [name for name in self.files() if name.endswith(endings)]
            for at in range(0, len(wanted), AT_ONCE):
                chosen = wanted[at : at + AT_ONCE]
                found = self._retried(partial(self._contents, chosen))
                with writing(here):
                    for name, content in zip(chosen, found, strict=True):
                        if content is not None:  # it was removed after the listing
                            (here / name).write_bytes(content)
            yield here

    @contextlib.contextmanager
    def fetched(self, name: str) -> Iterator[Path]:
        with scratch() as here:
            self._retried(lambda: self.place.fs.get_file(self._key(name), str(here / name)))
            yield here / name

    def matches(self, sizes: Sizes, name: str, size: int | None, sha256: str) -> bool:
        return sizes.get(name) is not None and size in (None, sizes[name])

    @contextlib.contextmanager
    def opening(self) -> Iterator[None]:
        try:
            yield
        except StorageError as error:
            if isinstance(error.__cause__, FileNotFoundError):
                message = (
                    f"{self} cannot be written: there is no such bucket; create it, check the store's address, or choose another "
                    "folder"
                )
                raise OutputError(message, parameter="out") from error
            if not is_refusal(error.__cause__) and not is_misplaced(error.__cause__):
                raise
            raise OutputError(str(error)) from error

    def check_place(self) -> None:
        probe = f"{PART}{uuid.uuid4().hex}"
        with self.opening():
            self.write(probe, b"")
            self.remove(probe)

    @contextlib.contextmanager
    def locked(self, numbers: range) -> Iterator[bool]:
        yield False

    @contextlib.contextmanager
    def spec_locked(self) -> Iterator[None]:
        yield

    @contextlib.contextmanager
    def pages_locked(self, wait: bool = True) -> Iterator[bool]:
        yield False

    def write(self, name: str, content: bytes) -> None:
        with self.drafts([name]) as parts:
            with writing(parts[name].parent):
                parts[name].write_bytes(content)
            self.send(parts[name], name)

    @contextlib.contextmanager
    def drafts(self, names: Sequence[str]) -> Iterator[dict[str, Path]]:
        with scratch() as here:
            yield {name: here / name for name in names}

    @contextlib.contextmanager
    def new_files(self) -> Iterator[Path]:
        with scratch() as here:
            with writing(here):
                yield here
            for path in sorted(here.iterdir()):
                self.send(path, path.name)

    def send(self, path: Path, name: str, *, only_new: bool = False) -> bool:
        key, protocol, fs = self._key(name), self.place.protocol, self.place.fs
        options: dict[str, Any] = {"mode": "create"} if only_new and protocol in CREATES else {}
        if protocol in ("s3", "s3a"):
            options |= {"chunksize": CHUNK, "max_concurrency": CHUNKS}

        def put() -> None:
            if only_new and protocol not in CREATES and fs.exists(key):
                raise FileExistsError(key)
            if protocol in APPEARS_WHOLE:
                fs.put_file(str(path), key, **options)
            else:
                part = self._key(f"{PART}{uuid.uuid4().hex}-{name}")
                fs.makedirs(self._key(), exist_ok=True)
                try:
                    fs.put_file(str(path), part)
                    fs.mv(part, key)
                except BaseException:
                    # Each try has a name of its own, and nobody would look for this one again. What failed is said, not this.
                    with contextlib.suppress(Exception):
                        fs.rm_file(part)
                    raise

        try:
            retried(RETRY_TIME, str(self), put)
        except FileExistsError:
            return False
        except FileNotFoundError as error:
            message = f"{self}: its bucket is gone: {reason(error)}. Create it, or choose another folder"
            raise StorageError(message, parameter="out") from error
        return not only_new or protocol in CREATES

    def flush(self) -> None:
        """Returns at once: what a store has accepted, it keeps."""

    def remove(self, *names: str) -> None:
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                self._retried(partial(self.place.fs.rm_file, self._key(name)))

    def _key(self, name: str = "") -> str:
        """Returns what the store calls the folder, or a file in it."""
        return f"{self.place.path.rstrip('/')}/{name}".rstrip("/")

    def _retried(self, call: Any) -> Any:
        return retried(RETRY_TIME, str(self), call)

    def _listed(self) -> list[tuple[str, int, bool]]:
        """Returns what lies in the folder: name, size in bytes, whether it is a file. Nothing, if there is no folder."""
        try:
            entries = self._retried(lambda: self.place.fs.ls(self._key(), detail=True))
        except FileNotFoundError:
            return []
        # Some tools keep an empty object of a folder's own name in it.
        others = [entry for entry in entries if entry["name"].strip("/") != self._key().strip("/")]
        return [(entry["name"].rstrip("/").rpartition("/")[2], entry["size"] or 0, entry["type"] == "file") for entry in others]

    def _contents(self, wanted: Sequence[str]) -> list[bytes | None]:
        """Returns small files' contents; None for one that is not there."""
        # `cat` of several would take a `*` or `[` of a path for a pattern.
        found: list[Any] = self.place.fs.cat_ranges([self._key(name) for name in wanted], None, None, on_error="return")
        for error in found:
            if isinstance(error, BaseException) and not isinstance(error, FileNotFoundError):
                raise error
        return [None if isinstance(content, FileNotFoundError) else content for content in found]
