"""Which images the user's data holds: their names, labels and hashes, in order, and what was skipped and why.

    folder   one folder a class, images in it or below it: Coat/a.png
    table    .csv or .parquet with the columns `file` (relative to the table) and `label`
    tars     a WebDataset: a brace pattern or a list of tars; labels in .cls, or in .json as label_name or label

Images are ordered by name, so that image i stays image i wherever the data lies. Each is hashed once and read again only when it is
needed: a hundred thousand fit in memory by their names alone.
"""

from __future__ import annotations

import glob
import hashlib
import json
import os
import tarfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import NamedTuple

import braceexpand
import pandas as pd

from reds_core.errors import ModelError, described
from reds_core.sources.pictures import looks_like_an_image
from reds_core.words import some

IMAGES = (".png", ".jpg", ".jpeg", ".jpe", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm")
TABLES = (".csv", ".parquet")


class Source(NamedTuple):
    """One image: its name, its label, the hash of its bytes, and where these lie."""

    name: str
    label: str
    sha256: str
    path: Path
    offset: int = 0  # in a tar
    size: int = -1  # in a tar; -1 is a file of its own

    def read(self) -> bytes:
        """Returns the image's bytes. Raises ModelError if they cannot be read, or are others than when it was listed."""
        try:
            content = _content(self.path, self.offset, self.size)
        except OSError as error:
            raise ModelError(f"{self.name} cannot be read: {error.strerror}") from error
        if hashlib.sha256(content).hexdigest() != self.sha256:
            raise ModelError(f"{self.name} was changed during the run; put it back to continue")
        return content


class Skipped(NamedTuple):
    """A file that is not used, and why."""

    name: str
    why: str


@dataclass(frozen=True)
class Sources:
    """The user's images in order, and what was found beside them."""

    images: Sequence[Source]
    skipped: Sequence[Skipped]

    @property
    def labels(self) -> list[str]:
        """The names of the labels, in order."""
        return sorted({s.label for s in self.images})

    @cached_property
    def identity(self) -> str:
        """A hash of the images' names, bytes and labels, in order."""
        return hashlib.sha256(json.dumps([(s.name, s.label, s.sha256) for s in self.images]).encode()).hexdigest()


class _Found(NamedTuple):
    """A file before it is looked at."""

    name: str
    label: str
    path: Path
    offset: int = 0
    size: int = -1


def sources_of(data: str | Sequence[str], classes: Sequence[str | int] | None = None, where: str = "seeds.images") -> Sources:
    """Returns the images of a folder, a table or tars.

    Args:
        data: a folder, a table, a tar, a brace pattern or a list of tars.
        classes: the labels to use; all of them if None.
        where: the data is named, for messages.

    Raises:
        ModelError: there is no such data, it holds no images, or equal images have two labels.
    """
    given = [data] if isinstance(data, str) else list(data)
    try:
        found = list(_found(given))
        stamps = tuple((f, *_stamp(f.path)) for f in found if not isinstance(f, Skipped))
        images, skipped = _examined(stamps)
    except ModelError as error:
        raise error.at(where) from error
    skipped = [*(f for f in found if isinstance(f, Skipped)), *skipped]
    if classes is not None:
        wanted = {str(c) for c in classes}
        unknown = wanted - {s.label for s in images}
        if unknown:
            there = some(sorted({s.label for s in images}))
            raise ModelError(f"seeds.classes: no image has the label {some(sorted(unknown))}; there are {there}")
        images = [s for s in images if s.label in wanted]
    if not images:
        why = f"; skipped: {some([f'{s.name} ({s.why})' for s in skipped], 5)}" if skipped else ""
        raise ModelError(f"{where}: {', '.join(given)} holds no labelled images{why}")
    return Sources(images, sorted(skipped))


def _found(given: Sequence[str]) -> Iterator[_Found | Skipped]:
    """Yields everything that lies in the data, ordered by name within each part of it."""
    if len(given) == 1 and Path(given[0]).is_dir():
        yield from _in_folder(Path(given[0]))
    elif len(given) == 1 and Path(given[0]).suffix.lower() in TABLES:
        yield from _in_table(Path(given[0]))
    else:
        for pattern in given:
            for name in braceexpand.braceexpand(pattern):
                yield from _in_tar(Path(name))


def _in_folder(folder: Path) -> Iterator[_Found | Skipped]:
    root = folder.resolve()
    for directory, inner, files in os.walk(folder):
        inner.sort()
        here = Path(directory)
        for name in sorted(n for n in inner if n.startswith(".")):
            yield Skipped(_name(here / name, folder) + "/", "hidden")
        inner[:] = [n for n in inner if not n.startswith(".")]
        for name in inner:
            if (here / name).is_symlink():
                yield Skipped(_name(here / name, folder) + "/", "a link to a folder")
        if here != folder and not inner and not files:
            yield Skipped(_name(here, folder) + "/", "an empty folder")
        for name in sorted(files):
            path = here / name
            shown = _name(path, folder)
            if name.startswith("."):
                yield Skipped(shown, "hidden")
            elif here == folder:
                yield Skipped(shown, "lies in no class folder")
            elif path.suffix.lower() not in IMAGES:
                yield Skipped(shown, "not an image, by its name")
            elif path.is_symlink() and not path.resolve().is_relative_to(root):
                yield Skipped(shown, "a link out of the folder")
            elif not path.is_file():
                yield Skipped(shown, "not a file")
            else:
                yield _Found(shown, shown.partition("/")[0], path)


def read_table(path: Path) -> pd.DataFrame:
    """Returns a table of images. Raises ModelError if it cannot be read, or lacks the columns `file` and `label`."""
    try:
        table = pd.read_parquet(path) if path.suffix.lower() == ".parquet" else pd.read_csv(path, dtype=str, keep_default_na=False)
    # pandas raises whatever it likes for a broken table.
    except Exception as error:
        raise ModelError(f"{path} cannot be read as a table: {described(error)}") from error
    missing = [c for c in ("file", "label") if c not in table]
    if missing:
        there = some(list(map(str, table.columns)))
        raise ModelError(f"{path} has no column {' and no column '.join(missing)}; it has {there}")
    return table


def _in_table(path: Path) -> Iterator[_Found | Skipped]:
    table = read_table(path)
    for file, label in sorted(zip(table["file"].astype(str), table["label"].astype(str), strict=True)):
        image = path.parent / file
        if not label.strip():
            yield Skipped(file, "has no label")
        elif not image.is_file():
            yield Skipped(file, "there is no such file")
        else:
            yield _Found(file, label, image)


def _in_tar(path: Path) -> Iterator[_Found | Skipped]:
    if not path.is_file():
        where = sorted(glob.glob(f"{glob.escape(str(path.parent))}/*.tar"))
        others = f"; there are {some(where)}" if where else ""
        raise ModelError(f"there is no folder, table or tar {path}{others}")
    try:
        with tarfile.open(path) as tar:
            members = [m for m in tar if m.isreg()]
            samples: dict[str, dict[str, tarfile.TarInfo]] = {}
            for m in members:
                folder, _, name = m.name.rpartition("/")
                key, _, extension = name.partition(".")
                samples.setdefault(f"{folder}/{key}" if folder else key, {})[extension.lower()] = m
            for key, files in sorted(samples.items()):
                shown = f"{path.name}/{key}"
                label = _label_of(tar, files)
                image = next((m for extension, m in files.items() if f".{extension}" in IMAGES), None)
                if image is None:
                    yield Skipped(shown, "has no image")
                elif label is None:
                    yield Skipped(shown, "has no .cls, and no label in a .json")
                else:
                    yield _Found(shown, label, path, image.offset_data, image.size)
    except (tarfile.TarError, EOFError, OSError) as error:
        raise ModelError(f"{path} cannot be read as a tar: {described(error)}") from error


def _label_of(tar: tarfile.TarFile, files: dict[str, tarfile.TarInfo]) -> str | None:
    """Returns the label of a sample, by name if it has one."""

    def text(extension: str) -> str | None:
        member = files.get(extension)
        content = member and tar.extractfile(member)
        return content.read().decode("utf-8", "replace").strip() if content else None

    record = text("json")
    if record is not None:
        try:
            said = json.loads(record)
        except ValueError:
            said = None
        if isinstance(said, dict):
            for key in ("label_name", "label"):
                if said.get(key) not in (None, ""):
                    return str(said[key])
    return text("cls") or None


def _stamp(path: Path) -> tuple[int, int]:
    stat = path.stat()
    return stat.st_size, stat.st_mtime_ns


@lru_cache(maxsize=4)
def _examined(stamped: Iterable[tuple[_Found, int, int]]) -> tuple[list[Source], list[Skipped]]:
    """Hashes files, and returns the images among them, ordered by name. Sizes and times are part of the cache's key.

    Raises:
        ModelError: equal images have two labels.
    """
    images: list[Source] = []
    skipped: list[Skipped] = []
    first: dict[str, Source] = {}
    for found, _, _ in sorted(stamped, key=lambda entry: entry[0].name):
        try:
            content = _content(found.path, found.offset, found.size)
        except OSError as error:
            skipped.append(Skipped(found.name, f"cannot be read: {error.strerror}"))
            continue
        problem = looks_like_an_image(content)
        if problem:
            skipped.append(Skipped(found.name, problem))
            continue
        source = Source(found.name, found.label, hashlib.sha256(content).hexdigest(), found.path, found.offset, found.size)
        other = first.setdefault(source.sha256, source)
        if other is source:
            images.append(source)
        elif other.label == source.label:
            skipped.append(Skipped(source.name, f"the same image as {other.name}"))
        else:
            raise ModelError(
                f"{other.name} and {source.name} are the same image with two labels, {other.label} "
                f"and {source.label}; remove the wrong one"
            )
    return images, skipped


def _content(path: Path, offset: int, size: int) -> bytes:
    with path.open("rb") as file:
        file.seek(offset)
        return file.read(size)


def _name(path: Path, folder: Path) -> str:
    """Returns a file's name within the data, whatever bytes it is made of."""
    return path.relative_to(folder).as_posix().encode("utf-8", "surrogateescape").decode("utf-8", "replace")
