"""Is an export intact? Tars against their manifests, images against the index, and the index against `export.json`."""

from __future__ import annotations

import contextlib
import hashlib
import io
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pyarrow.parquet as pq
from PIL import Image

from reds_core.exports.manifest import INDEX, NAME, Export, TarManifest, read_tar_manifest, stem
from reds_core.runs.in_threads import in_threads
from reds_core.runs.verify import hash_problems, tar_problems
from reds_core.storage.folder import Folder, hash_of
from reds_core.storage.places import on_disk

AT_ONCE = 16  # images that are read side by side
CURE = "export again to make it anew"


@dataclass
class Found:
    """What is wrong with an export, in words; and how much it holds."""

    problems: list[str] = field(default_factory=list)
    samples: int = 0
    shards: int = 0


def verify_export(folder: Folder) -> Found:
    """Returns what is wrong with an export: damaged, missing, and stray files."""
    found = Found()
    said = Export.read(folder, NAME)
    if said is None:
        found.problems.append(f"{NAME}: is {'missing' if folder.size(NAME) is None else 'damaged'}")
        return found
    found.samples = sum(size.samples for size in said.splits.values())
    found.shards = sum(size.shards for size in said.splits.values())
    if not said.finished:
        found.problems.append(f"{NAME}: the export is not finished; {CURE}")
    if said.asked["format"] == "webdataset":
        found.problems += _tar_export_problems(folder, said)
    if said.finished:
        found.problems += _index_problems(folder, said)
    return found


def _tar_export_problems(folder: Folder, said: Export) -> Iterator[str]:
    """Yields what is wrong with the shards of a WebDataset."""
    expected = [(split, index) for split, size in said.splits.items() for index in range(size.shards)]
    held: Counter[str] = Counter()
    with on_disk(folder, ".json") as here:
        for split, index in expected:
            manifest = read_tar_manifest(here, said.export, split, index)
            yield from _shard_problems(folder, here, stem(split, index), manifest)
            held[split] += manifest.samples if manifest else 0
            if manifest is None:
                held[split] += said.splits[split].samples  # what is wrong is said already
    for split, size in said.splits.items():
        if held[split] < size.samples:
            yield f"{split}: its manifests count {held[split]} samples, {NAME} says {size.samples}"
    tars = {name for name in folder.files() if name.endswith(".tar") and not name.startswith(".")}
    for name in sorted(tars - {f"{stem(*shard)}.tar" for shard in expected}):
        yield f"{name}: is not a shard of this export; readers of *.tar would take it for one"


def _shard_problems(folder: Folder, here: Folder, name: str, manifest: TarManifest | None) -> Iterator[str]:
    """Yields what is wrong with one shard. Its manifest, if it is intact, was read from `here`."""
    with contextlib.ExitStack() as stack:
        files: dict[str, Path] = {}
        with contextlib.suppress(FileNotFoundError):
            files["tar"] = stack.enter_context(folder.fetched(f"{name}.tar"))
        if here.size(f"{name}.json") is None:
            yield f"{name}: has no manifest, so it is not finished (found {name}.tar)" if files else f"{name}: is missing"
        elif manifest is None:
            yield f"{name}.json: is damaged, or the manifest of another shard or export"
        else:
            yield from hash_problems(files, manifest.files())
            if "tar" in files:
                yield from (f"{name}.tar: {problem}" for problem in tar_problems(files["tar"], manifest.samples))


def _index_problems(folder: Folder, said: Export) -> Iterator[str]:
    """Yields what is wrong with the index, and with the images of an image folder, which only the index describes."""
    try:
        with folder.fetched(INDEX) as path:
            if hash_of(path) != said.index_sha256:
                yield f"{INDEX}: its hash differs from that in {NAME}"
                return
            table = pq.ParquetFile(path)
            rows = sum(size.samples for size in said.splits.values())
            if table.metadata.num_rows != rows:
                yield f"{INDEX}: has {table.metadata.num_rows} rows, {NAME} counts {rows} samples"
            if said.asked["format"] == "imagefolder":
                yield from _image_problems(folder, table)
    except FileNotFoundError:
        yield f"{INDEX}: is missing"
    # pyarrow raises whatever it likes on what is no table of its own.
    except Exception as error:
        yield f"{INDEX}: cannot be read: {error}"


def _image_problems(folder: Folder, table: pq.ParquetFile) -> Iterator[str]:
    """Yields which images are missing, damaged, or not in the index. The index has them by folder."""
    homes: dict[str, set[str]] = {}
    for batch in table.iter_batches(columns=["file", "sha256"]):
        files = list(zip(batch["file"].to_pylist(), batch["sha256"].to_pylist(), strict=True))
        for name, problem in in_threads(partial(_image_problem, folder), files, AT_ONCE):
            if problem:
                yield f"{name}: {problem}"
        for name, _ in files:
            home, _, file = name.rpartition("/")
            homes.setdefault(home, set()).add(file)
    splits = dict.fromkeys(home.partition("/")[0] for home in homes)
    there = [f"{split}/{label.name}" for split in splits for label in (folder / split).folders()]
    for home in dict.fromkeys([*homes, *there, *splits]):
        strays = {name for name in _folder(folder, home).files() if not name.startswith(".")} - homes.get(home, set())
        yield from (f"{home}/{name}: is not an image of this export; readers would take it for one" for name in sorted(strays))


def _folder(folder: Folder, place: str) -> Folder:
    for part in place.split("/"):
        folder = folder / part
    return folder


def _image_problem(folder: Folder, image: tuple[str, str]) -> tuple[str, str]:
    """Returns an image's name, and what is wrong with it or ""."""
    place, sha256 = image
    home, _, name = place.rpartition("/")
    content = _folder(folder, home).read(name)
    if content is None:
        return place, "is missing"
    if hashlib.sha256(content).hexdigest() != sha256:
        return place, "its hash differs from the index's"
    try:
        with Image.open(io.BytesIO(content)) as picture:
            picture.load()
    # Decoders raise whatever they like on damaged bytes.
    except Exception as error:
        return place, f"cannot be read: {error}"
    return place, ""
