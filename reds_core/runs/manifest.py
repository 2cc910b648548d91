"""TODO."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from reds_core.errors import ShardDamaged
from reds_core.storage.folders import Folder, read

DIGEST = re.compile("[0-9a-f]{16}")


FIELDS: dict[str, Any] = {
    "schema": int, "digest": str, "index": int, "first_seed": int, "seeds": int, "samples": int, "accepted": int,
    "rejected": dict, "labels": dict, "spreads": dict, "sha256": str, "bytes": int, "passes": dict, "seconds": (int, float),
    "device": str, "versions": dict, "parquet_sha256": str, "manifest_sha256": str,
}  # fmt: skip


NAME = re.compile(r"shard-(\d{5,})\.(tar|parquet|json)")


def seal(manifest: dict[str, Any]) -> str:
    """The hash of what a manifest says, but for its time, by which equal runs may differ."""
    said = {k: v for k, v in manifest.items() if k not in ("seconds", "manifest_sha256")}
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()


def stem(index: int) -> str:
    """The name that a shard's files share."""
    return f"shard-{index:05d}"


def hash_of(path: Path) -> str:
    """A file's sha256 as it is on the disk now, in constant memory."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def indices(files: Iterable[str], kind: str = r"\w+") -> list[int]:
    """The shards that have a file of this kind among these names, in order. A copy by another name is no shard."""
    matches = [NAME.fullmatch(name) for name in files]
    return sorted({int(m[1]) for m in matches if m and re.fullmatch(kind, m[2]) and m[1] == f"{int(m[1]):05d}"})


def read_manifest(folder: Folder, index: int) -> dict[str, Any] | None:
    """A shard's manifest; None if there is none, or what is there is no manifest of this shard of this run."""
    content = read(folder, f"{stem(index)}.json")
    try:
        found = json.loads(content.decode()) if content is not None else None
        if not isinstance(found, dict) or not all(isinstance(found.get(k), t) for k, t in FIELDS.items()):
            return None
        damaged = found["manifest_sha256"] != seal(found)  # one level deeper in calls than what read it
    except (ValueError, RecursionError):
        return None
    # A folder that was given another name still is a run; one with a digest for a name must hold that run.
    foreign = DIGEST.fullmatch(folder.name) and found["digest"] != folder.name
    return None if foreign or damaged or found["index"] != index else found


def intact(folder: Path, index: int, manifest: dict[str, Any]) -> bool:
    """Whether a shard's files have the hashes of its manifest."""
    return not _hash_problems(folder, index, manifest)


def seems_intact(sizes: Mapping[str, int | None], index: int, manifest: dict[str, Any]) -> bool:
    """Whether a far shard's files are there, in the sizes of its manifest; `sizes` are those of the folder's files by name."""
    return sizes.get(f"{stem(index)}.tar") == manifest["bytes"] and sizes.get(f"{stem(index)}.parquet") is not None


def damaged(folder: Folder, index: int) -> ShardDamaged:
    """The error about a shard that differs from its manifest."""
    return ShardDamaged(f"{folder / stem(index)}: differs from its manifest; {cure(folder)}")


def cure(folder: Folder) -> str:
    """What brings damaged shards back."""
    again = "run the spec again to make it anew"
    # There, a run sees only what is missing or of another size: it would have to read all of a bucket.
    return again if isinstance(folder, Path) else f"remove its .json, then {again}"


def _hash_problems(folder: Path, index: int, manifest: dict[str, Any]) -> list[str]:
    problems = []
    for kind, key in (("tar", "sha256"), ("parquet", "parquet_sha256")):
        path = folder / f"{stem(index)}.{kind}"
        if not path.is_file():
            problems.append(f"{path.name}: is missing")
            continue
        try:
            size = path.stat().st_size
            if kind == "tar" and size != manifest["bytes"]:
                problems.append(f"{path.name}: has {size} bytes, the manifest says {manifest['bytes']}")
            if hash_of(path) != manifest[key]:
                problems.append(f"{path.name}: its hash differs from the manifest's")
        except OSError as error:
            problems.append(f"{path.name}: cannot be read: {error.strerror}")
    return problems
