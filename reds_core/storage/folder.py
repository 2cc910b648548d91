"""What a folder of runs offers, wherever it lies.

Readers and networks work on a disk alone, so `on_disk` and `fetched` give files as paths there: the folder's own, or copies. A file
is put into a folder as a whole or not at all: nothing unfinished is ever seen under its final name.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Self

PART = ".part-"  # before the name of a file that is being written

Sizes = Mapping[str, int | None]  # files by name: bytes, None where there is no such file


def hash_of(path: Path) -> str:
    """Returns a file's sha256 as it is on the disk now, in constant memory."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class Folder(ABC):
    """A folder on a disk or in an object store. Equal folders compare equal; `str` gives the path or URL."""

    reads_to_compare: bool  # whether `matches` reads every byte, and so notices any damage
    has_locks: bool  # whether `locked` keeps other runs out

    @property
    @abstractmethod
    def is_shared(self) -> bool:
        """Whether other processes see what is written."""

    @property
    @abstractmethod
    def name(self) -> str:
        """The last part of its path."""

    @abstractmethod
    def __truediv__(self, name: str) -> Self: ...

    @abstractmethod
    def absolute(self) -> str:
        """Returns its path or URL as it reads in any working directory."""

    @abstractmethod
    def url(self, name: str) -> str:
        """Returns a link to a file in it."""

    # Reading

    @abstractmethod
    def exists(self) -> bool:
        """Returns whether there is such a folder; in an object store, whether anything lies in it."""

    @abstractmethod
    def files(self) -> dict[str, int]:
        """Returns the files in it with their sizes in bytes, from one listing; none if there is no folder."""

    @abstractmethod
    def names(self) -> list[str]:
        """Returns the names of all that lies in it and may stand where a file should: on a disk, of links and folders too."""

    @abstractmethod
    def folders(self) -> list[Self]:
        """Returns the folders in it."""

    @abstractmethod
    def size(self, name: str) -> int | None:
        """Returns a file's size in bytes, None if there is no such file."""

    @abstractmethod
    def changed(self, names: Sequence[str]) -> float:
        """Returns when the newest of these files was written, in seconds since 1970.

        A store is asked about the first one alone: every answer costs a request.
        """

    @abstractmethod
    def read(self, name: str) -> bytes | None:
        """Returns a small file's content, None if there is no such file. Raises StorageError if it cannot be read."""

    @abstractmethod
    def on_disk(self, *endings: str) -> AbstractContextManager[Path]:
        """Gives the folder itself if it is on a disk, else a copy there, of the same name, of its files with these endings."""

    @abstractmethod
    def fetched(self, name: str) -> AbstractContextManager[Path]:
        """Gives a file of the folder on a disk. Raises FileNotFoundError if there is no such file."""

    @abstractmethod
    def matches(self, sizes: Sizes, name: str, size: int | None, sha256: str) -> bool:
        """Returns whether a file is as described, as far as this folder can tell without a download.

        Args:
            sizes: those of the folder's files.
            name: of the file.
            size, sha256: what it should have; a size of None is not known.
        """

    def holds(self, name: str, sha256: str) -> bool:
        """Returns whether a file is there and has this hash, by all of its bytes."""
        try:
            with self.fetched(name) as path:
                return hash_of(path) == sha256
        except FileNotFoundError:
            return False

    # Writing

    @abstractmethod
    def opening(self) -> AbstractContextManager[None]:
        """Creates the folder. What cannot be written in this block is the user's mistake: raises OutputError."""

    @abstractmethod
    def check_place(self) -> None:
        """Raises OutputError if a run on another machine could not write here either: there is no such bucket, for example."""

    @abstractmethod
    def locked(self, numbers: range) -> AbstractContextManager[bool]:
        """Keeps these numbers to this run for the time of a block. Gives whether others are really kept out: a store has no locks.

        Raises:
            RunError: another run has one of them.
        """

    @abstractmethod
    def spec_locked(self) -> AbstractContextManager[None]:
        """Waits until no other process writes the run's spec, which takes no time, and keeps others from it."""

    @abstractmethod
    def pages_locked(self, wait: bool = True) -> AbstractContextManager[bool]:
        """Keeps other processes from the other files that belong to no shard, whose making takes a while.

        Args:
            wait: until nobody writes them; else the block is entered at once.

        Returns:
            Gives whether others are kept out.
        """

    @abstractmethod
    def write(self, name: str, content: bytes) -> None:
        """Writes a small file, all or nothing."""

    @abstractmethod
    def drafts(self, names: Sequence[str]) -> AbstractContextManager[dict[str, Path]]:
        """Gives paths on a disk, by name, at which files are made before `send` puts them in. Removes what is left there."""

    @abstractmethod
    def send(self, path: Path, name: str, *, only_new: bool = False) -> bool:
        """Puts a file from a disk into the folder. The file at `path` may be gone afterwards.

        Args:
            path: the file.
            name: what it is called in the folder.
            only_new: leave a file of this name alone if another run may own it.

        Returns:
            With `only_new`, whether the file is this call's for certain; not every store can say so.
        """

    @abstractmethod
    def flush(self) -> None:
        """Returns when what was sent would survive a power cut."""

    @abstractmethod
    def remove(self, *names: str) -> None:
        """Removes files, if they are there."""

    @abstractmethod
    def new_files(self) -> AbstractContextManager[Path]:
        """Creates the folder, and gives one on a disk for new files: what lies there at the end of the block is in this folder."""
