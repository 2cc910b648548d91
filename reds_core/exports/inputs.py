"""Runs -> verified shards -> an index: a row for every sample, with where its files lie. No image is kept.

Every tar is hashed against its manifest before it is read. One in a store is fetched once, and kept on a disk until the end of the
export; those on a disk are read where they lie.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import pandas as pd
import yaml

from reds_core.errors import OutputError, RedsError, ShardDamaged
from reds_core.exports.small import SmallImages, shape_of, small
from reds_core.runs.in_threads import in_threads
from reds_core.runs.manifest import Manifest, cure, indices, read_manifest, stem
from reds_core.runs.run_folder import spec_in
from reds_core.runs.totals import progress, totals
from reds_core.spec.fields import Spec
from reds_core.storage.folder import Folder, hash_of
from reds_core.storage.places import on_disk
from reds_core.types import Tell

Located = tuple[str, int, int, dict[str, bytes]]  # key, the first byte of its members, their bytes, its files by extension
MOST_OPEN = 64  # tars


@dataclass(frozen=True)
class Run:
    """A run to export from.

    Attributes:
        manifests: of its finished shards.
        so_far: how far it has come, in words; "" if it is complete.
        licence: what its dataset card states, "other" if it states none.
    """

    folder: Folder
    digest: str
    spec: Spec
    manifests: Sequence[Manifest]
    so_far: str
    licence: str


@dataclass
class Index:
    """What lies in the tars of several runs.

    Attributes:
        rows: a row for every sample, by key, with the columns of `_row`; `run` and `tar`, places in `runs` and `tars`; `small`, its
            place among the small images; its run's `digest`; and `image`, the extension of its image.
        tars: files on a disk.
        shape: height, width and channels of all images.
        examples: the .json of the first sample of each run.
    """

    runs: Sequence[Run]
    tars: list[Path] = field(default_factory=list)
    rows: pd.DataFrame = field(default_factory=pd.DataFrame)
    shape: tuple[int, int, int] = (0, 0, 0)
    examples: list[dict[str, Any]] = field(default_factory=list)


def open_runs(folders: Sequence[Folder]) -> list[Run]:
    """Returns the runs in these folders, in an order that does not depend on the folders'; one that is named twice, once.

    Raises:
        OutputError: a folder is not a run, or has no finished shard. ShardDamaged: a manifest is damaged.
    """
    found = {(run.digest, *(m.sha256 for m in run.manifests)): run for run in map(_opened, folders)}
    return [found[key] for key in sorted(found)]


def _opened(folder: Folder) -> Run:
    with on_disk(folder, "spec.yaml", ".json") as here:
        spec = spec_in(folder, here)
        manifests = []
        for index in indices(here.files(), "json"):
            found = read_manifest(here, index)
            if found is None:
                raise _damaged(folder, f"{stem(index)}.json", "is damaged, or the manifest of another shard or run")
            manifests.append(found)
    if not manifests:
        raise OutputError(f"{folder} has no finished shard yet; export it when its first manifest is there")
    digest = manifests[0].digest
    for other in manifests:
        if other.digest != digest:
            raise _damaged(folder, other.stem, f"is of the run {other.digest}, others are of {digest}")
    return Run(folder, digest, spec, manifests, progress(spec, totals(manifests)), _licence(folder))


def _licence(folder: Folder) -> str:
    """Returns the licence that a run's dataset card states; its users are asked to put it there."""
    text = (folder.read("README.md") or b"").decode(errors="replace")
    if not text.startswith("---\n"):
        return "other"
    with contextlib.suppress(yaml.YAMLError, AttributeError):
        return str(yaml.safe_load(text[4:].partition("\n---")[0]).get("license") or "other")
    return "other"


@contextlib.contextmanager
def indexed(runs: Sequence[Run], images: SmallImages | None, tell: Tell) -> Iterator[Index]:
    """Gives the index of the runs' samples; of several samples of one key of one run, the first. Their tars stay for the block.

    Args:
        runs: from `open_runs`.
        images: where small versions of all images go, if they are needed; a row's `small` is its place there.
        tell: hears of every shard.

    Raises:
        ShardDamaged: a tar is missing, or differs from its manifest.
        OutputError: the runs' images differ in shape.
    """
    index, parts, kept = Index(runs), [], 0
    shards = [(place, manifest) for place, run in enumerate(runs) for manifest in run.manifests]
    with contextlib.ExitStack() as stack:
        for done, (place, manifest) in enumerate(shards):
            tell("shards read", done, len(shards))
            if not manifest.bytes:  # without a sample, and so without a tar
                continue
            path = _verified(stack, runs[place].folder, manifest)
            part = _rows_of(path, index, place, manifest, images)
            parts.append(part.assign(run=place, tar=len(index.tars), small=range(kept, kept + len(part))))
            index.tars.append(path)
            kept += len(part)
        tell("shards read", len(shards), len(shards))
        index.rows = _together(parts or [pd.DataFrame(columns=[*COLUMNS, "run", "tar", "small"])], runs)
        parts.clear()
        yield index


def _together(parts: Sequence[pd.DataFrame], runs: Sequence[Run]) -> pd.DataFrame:
    """Returns the rows of all tars, by key; of several rows of one key of one run, the first."""
    rows = pd.concat(parts, ignore_index=True)
    rows["digest"] = rows.run.map(dict(enumerate(run.digest for run in runs)))
    rows["image"] = rows.run.map(dict(enumerate(run.spec.shards.image for run in runs)))
    return _named_apart(rows.drop_duplicates(["digest", "key"])).sort_values("key", kind="stable", ignore_index=True)


def _verified(stack: contextlib.ExitStack, folder: Folder, manifest: Manifest) -> Path:
    """Returns a shard's tar on a disk, all of its bytes as its manifest says."""
    name = f"{manifest.stem}.tar"
    try:
        path = stack.enter_context(folder.fetched(name))
    except FileNotFoundError as error:
        raise _damaged(folder, name, "is missing") from error
    try:
        if hash_of(path) != manifest.sha256:
            raise _damaged(folder, name, "its hash differs from the manifest's")
    except OSError as error:
        raise _damaged(folder, name, f"cannot be read: {error.strerror}") from error
    return path


def _damaged(folder: Folder, name: str, what: str) -> ShardDamaged:
    return ShardDamaged(f"{folder / name}: {what}. Nothing is exported from a damaged run; {cure(folder)}")


def _rows_of(path: Path, index: Index, place: int, manifest: Manifest, images: SmallImages | None) -> pd.DataFrame:
    """Returns a row for every sample of a tar; sees to it that its images are of the shape of all others."""
    run = index.runs[place]
    kind, rows, first = run.spec.shards.image, [], True
    try:
        for row, files, reduced in in_threads(partial(_row, kind=kind, is_small=images is not None), located(path)):
            if first:
                first = False
                _agree_on_shape(index, run, shape_of(files[kind]))
                if len(index.examples) <= place:
                    index.examples += [json.loads(files["json"])] * (place + 1 - len(index.examples))
            if images is not None:
                images.append(reduced)
            rows.append(row)
    except RedsError:
        raise
    # Decoders and tarfile raise whatever they like. The hash is right, so that it was written like this.
    except Exception as error:
        raise _damaged(run.folder, path.name, f"cannot be read: {error!r}") from error
    if len(rows) != manifest.samples:
        raise _damaged(run.folder, f"{manifest.stem}.tar", f"holds {len(rows)} samples, the manifest counts {manifest.samples}")
    return pd.DataFrame(rows, columns=COLUMNS)


def _agree_on_shape(index: Index, run: Run, shape: tuple[int, int, int]) -> None:
    if index.shape == (0, 0, 0):
        index.shape = shape
    if shape != index.shape:
        (h, w, c), (height, width, channels) = index.shape, shape
        raise OutputError(
            f"{run.folder}: its images are {height}x{width} with {channels} channels, those of the other runs {h}x{w} with {c}; "
            "a training set has images of one shape, so export them apart"
        )


COLUMNS = ("key", "offset", "size", "role", "seed", "label", "label_name", "group", "source", "sha256")


def _row(sample: Located, kind: str, is_small: bool) -> tuple[tuple[Any, ...], dict[str, bytes], bytes]:
    """Returns a sample's row, its files, and a small version of its image if that is needed. `kind` is the image's extension."""
    key, offset, size, files = sample
    said, image = json.loads(files["json"]), files[kind]
    source = said.get("source", "")  # samples of before own images could be varied do not name them
    row = (
        key, offset, size, said["role"], said["seed"], said["label"], said["label_name"], source or said["group"], source,
        hashlib.sha256(image).hexdigest(),
    )  # fmt: skip
    return row, files, small(image) if is_small else b""


def located(path: Path) -> Iterator[Located]:
    """Yields a tar's samples."""
    key, start, end, files = "", 0, 0, dict[str, bytes]()
    with tarfile.open(path, "r:") as tar:
        while (member := tar.next()) is not None:
            tar.members.clear()  # type: ignore[attr-defined]  # of which it would keep all, for a search that nobody makes
            name, _, extension = member.name.partition(".")
            if name != key and files:
                yield key, start, end - start, files
                files = {}
            if not files:
                key, start = name, member.offset
            content = tar.extractfile(member)
            files[extension] = content.read() if content else b""
            end = member.offset_data + -(-member.size // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE
    if files:
        yield key, start, end - start, files


def _named_apart(rows: pd.DataFrame) -> pd.DataFrame:
    """Returns the rows with keys of which no two are equal: with the run's first digits before them, if there are several runs."""
    digests = rows.digest.unique()
    if len(digests) < 2:
        return rows
    digits = next(n for n in range(8, 17) if n == 16 or len({digest[:n] for digest in digests}) == len(digests))
    return rows.assign(key=rows.digest.str[:digits] + "-" + rows.key)


class Samples:
    """The files of samples, read from their tars; the tars are kept open, up to some."""

    def __init__(self, index: Index) -> None:
        self.index = index
        self.open: dict[int, BinaryIO] = {}

    def files(self, row: Any) -> dict[str, bytes]:
        """Returns a sample's files by extension. Raises ShardDamaged if its image is no longer what the index says."""
        if row.tar not in self.open:
            if len(self.open) >= MOST_OPEN:
                self.open.pop(next(iter(self.open))).close()
            self.open[row.tar] = self.index.tars[row.tar].open("rb")
        file = self.open[row.tar]
        file.seek(row.offset)
        with tarfile.open(fileobj=io.BytesIO(file.read(row.size)), mode="r:") as tar:
            members = {member.name.partition(".")[2]: tar.extractfile(member) for member in tar.getmembers()}
            files = {extension: content.read() for extension, content in members.items() if content}
        run = self.index.runs[row.run]
        if hashlib.sha256(files.get(row.image, b"")).hexdigest() != row.sha256:
            raise _damaged(run.folder, self.index.tars[row.tar].name, "was changed while it was read")
        return files

    def close(self) -> None:
        for file in self.open.values():
            file.close()
