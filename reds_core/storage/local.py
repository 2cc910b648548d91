"""A folder on a disk.

A file is written under a `.part-` name, synced, and renamed. Runs that share a folder keep to shards of their own by locks, and a
change to a finished file is noticed by its hash.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from reds_core.errors import OutputError, RunError, StorageError
from reds_core.storage.disk import locked, writing
from reds_core.storage.folder import PART, Folder, Sizes, hash_of

LOCK, PAGES_LOCK = ".lock", ".lock-pages"

MOST_HASHES = 200_000  # that are kept; each takes about 500 bytes

_hashes: dict[Path, tuple[tuple[int, ...], str]] = {}  # of files compared in this process, with what they were by their inodes
_one = threading.Lock()


@dataclass(frozen=True)
class LocalFolder(Folder):
    """A folder on a disk."""

    path: Path
    reads_to_compare = True
    has_locks = True

    @property
    def is_shared(self) -> bool:
        return True

    @property
    def name(self) -> str:
        return self.path.name

    def __truediv__(self, name: str) -> LocalFolder:
        return LocalFolder(self.path / name)

    def __str__(self) -> str:
        return str(self.path)

    def absolute(self) -> str:
        return str(self.path.absolute())

    def url(self, name: str) -> str:
        return (self.path / name).absolute().as_uri()

    def exists(self) -> bool:
        return self.path.is_dir()

    def files(self) -> dict[str, int]:
        found = {}
        for path in self.path.glob("*"):
            with contextlib.suppress(FileNotFoundError):  # another run may be at work here
                if path.is_file():
                    found[path.name] = path.stat().st_size
        return found

    def names(self) -> list[str]:
        return [path.name for path in self.path.iterdir()]

    def folders(self) -> list[LocalFolder]:
        return [LocalFolder(path) for path in self.path.glob("*") if path.is_dir()]

    def size(self, name: str) -> int | None:
        path = self.path / name
        return path.stat().st_size if path.is_file() else None

    def changed(self, names: Sequence[str]) -> float:
        times = []
        for name in names:
            with contextlib.suppress(FileNotFoundError):  # a shard that is being made anew
                times.append((self.path / name).stat().st_mtime)
        return max(times, default=0.0)

    def read(self, name: str) -> bytes | None:
        try:
            return (self.path / name).read_bytes()
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            return None
        except OSError as error:
            raise StorageError(f"{self.path / name} cannot be read: {error.strerror or error}; make it readable") from error

    @contextlib.contextmanager
    def on_disk(self, *endings: str) -> Iterator[Path]:
        yield self.path

    @contextlib.contextmanager
    def fetched(self, name: str) -> Iterator[Path]:
        if not (self.path / name).is_file():
            raise FileNotFoundError(self.path / name)
        yield self.path / name

    def matches(self, sizes: Sizes, name: str, size: int | None, sha256: str) -> bool:
        try:
            return sizes.get(name) is not None and size in (None, sizes[name]) and known_hash(self.path / name) == sha256
        except OSError:
            return False

    def _make(self) -> None:
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except FileNotFoundError as error:  # such as in /proc: no file system that takes folders
            raise OutputError(f"{self.path} cannot be made: {error.strerror}; choose another folder", parameter="out") from error

    @contextlib.contextmanager
    def opening(self) -> Iterator[None]:
        with writing(self.path):
            self._make()
            yield

    def check_place(self) -> None:
        """Raises OutputError if a file stands where a folder must be: another machine's disk is its own, but not its names."""
        there = next((path for path in (self.path, *self.path.absolute().parents) if os.path.lexists(path)), self.path)
        if not there.is_dir():
            raise OutputError(f"{self.path} cannot be written: {there} is not a folder; choose another folder", parameter="out")

    @contextlib.contextmanager
    def locked(self, numbers: range) -> Iterator[bool]:
        if not numbers:
            yield True
            return
        with locked(self.path / LOCK, numbers.start, len(numbers)):
            yield True

    @contextlib.contextmanager
    def spec_locked(self) -> Iterator[None]:
        with self._writable(), locked(self.path / PAGES_LOCK, 1, 1, wait=True):
            yield

    @contextlib.contextmanager
    def pages_locked(self, wait: bool = True) -> Iterator[bool]:
        with self._writable(), contextlib.ExitStack() as stack:
            try:
                stack.enter_context(locked(self.path / PAGES_LOCK, 0, 1, wait=wait))
                is_mine = True
            except RunError:
                is_mine = False
            yield is_mine

    def _writable(self) -> contextlib.AbstractContextManager[None]:
        return writing(self.path, "make it writable, or a copy of it", parameter="")

    def write(self, name: str, content: bytes) -> None:
        with self.drafts([name]) as parts:
            with synced(parts[name]) as file:
                file.write(content)
            os.replace(parts[name], self.path / name)

    @contextlib.contextmanager
    def drafts(self, names: Sequence[str]) -> Iterator[dict[str, Path]]:
        parts = {name: self.path / f"{PART}{name}" for name in names}
        try:
            yield parts
        finally:
            for part in parts.values():
                with contextlib.suppress(OSError):
                    part.unlink(missing_ok=True)

    @contextlib.contextmanager
    def new_files(self) -> Iterator[Path]:
        with self.opening():
            yield self.path

    def send(self, path: Path, name: str, *, only_new: bool = False) -> bool:
        os.replace(path, self.path / name)  # locks keep other runs out: what is there already is this run's to replace
        return True

    def flush(self) -> None:
        handle = os.open(self.path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)

    def remove(self, *names: str) -> None:
        for name in names:
            (self.path / name).unlink(missing_ok=True)


def known_hash(path: Path) -> str:
    """Returns a file's sha256, kept from an earlier call in this process if neither its size nor a time of it has changed since.

    A run compares each finished shard with its manifest several times. `hash_of` always reads.
    """
    found, place = path.stat(), path.absolute()
    state = (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
    with _one:
        before = _hashes.get(place)
    if before is not None and before[0] == state:
        return before[1]
    sha256 = hash_of(path)
    with _one:
        _hashes[place] = state, sha256
        while len(_hashes) > MOST_HASHES:
            del _hashes[next(iter(_hashes))]
    return sha256


@contextlib.contextmanager
def synced(path: Path) -> Iterator[BinaryIO]:
    """Gives a new file that is on the disk, not in a cache, when the block ends."""
    with path.open("wb") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())
