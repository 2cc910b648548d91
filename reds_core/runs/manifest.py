"""A shard's manifest: what the shard holds, what it cost, and the hashes of its files.

It is written last, so that a shard without a manifest is not finished. A seal, the hash of all that it says but its time, tells a
damaged manifest from an intact one.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import fields
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator

from reds_core.errors import ShardDamaged, StorageError
from reds_core.storage.folder import Folder, Sizes
from reds_core.types import Passes

SCHEMA: Literal[1] = 1
FILES = ("tar", "parquet", "zip", "json")  # the kinds of a shard's files, in the order in which they are written
NAME = re.compile(r"shard-(\d{5,})\.(tar|parquet|zip|json)")
DIGEST = re.compile("[0-9a-f]{16}")


class Manifest(BaseModel):
    """One shard, as `shard-00000.json` describes it. `seeds` counts from `first_seed`; `samples` counts seeds' own images too.

    `accepted` and `rejected` count variants; in a run of seeds alone, seeds.
    """

    model_config = ConfigDict(frozen=True, strict=True, extra="allow", populate_by_name=True)

    schema_: int = Field(SCHEMA, alias="schema")
    digest: str
    index: int
    first_seed: int
    seeds: int
    samples: int
    accepted: int
    rejected: dict[str, int]
    labels: dict[str, int]
    spreads: dict[str, float]
    sha256: str  # of the tar; "" and 0 bytes if there is none, as nothing was accepted
    bytes: int
    parquet_sha256: str
    parquet_bytes: int | None = None  # not in the manifests of earlier versions, nor what follows
    thumbnails_sha256: str = ""  # of the .zip; "" if there is none
    thumbnails_bytes: int | None = None
    passes: dict[str, int]
    seconds: float
    device: str
    versions: dict[str, str]
    manifest_sha256: str = ""

    @field_validator("passes")
    @classmethod
    def _known_passes(cls, passes: dict[str, int]) -> dict[str, int]:
        """Raises ValueError for a pass of no kind, which a sum over shards would stumble over."""
        unknown = passes.keys() - {field.name for field in fields(Passes)}
        if unknown:
            raise ValueError(f"there are no passes of the kind {', '.join(sorted(unknown))}")
        return passes

    @property
    def stem(self) -> str:
        """The name that the shard's files share."""
        return stem(self.index)

    @property
    def candidates(self) -> int:
        """Variants that were tried, accepted or not; in a run of seeds alone, the seeds."""
        return self.accepted + sum(self.rejected.values())

    @property
    def work(self) -> Passes:
        """The passes that the shard cost."""
        return Passes(**self.passes)

    def files(self) -> Iterator[tuple[str, str, int | None, str]]:
        """Yields the shard's other files: kind, name, size in bytes (None: not known) and sha256."""
        names = names_of(self.index)
        if self.bytes:
            yield "tar", names["tar"], self.bytes, self.sha256
        yield "parquet", names["parquet"], self.parquet_bytes, self.parquet_sha256
        if self.thumbnails_sha256:
            yield "zip", names["zip"], self.thumbnails_bytes, self.thumbnails_sha256

    def as_dict(self) -> dict[str, Any]:
        """Returns the manifest as plain JSON values, in the order of its fields."""
        return self.model_dump(by_alias=True)

    def sealed(self) -> Self:
        """Returns the manifest with its seal."""
        return self.model_copy(update={"manifest_sha256": seal(self.as_dict())})

    def to_json(self) -> str:
        """Returns the file's text."""
        return json.dumps(self.as_dict(), indent=1, ensure_ascii=False, allow_nan=False)


def seal(said: dict[str, Any]) -> str:
    """Returns the hash of what a manifest says, but for its time, by which equal runs may differ."""
    lasting = {k: v for k, v in said.items() if k not in ("seconds", "manifest_sha256")}
    return hashlib.sha256(json.dumps(lasting, sort_keys=True).encode()).hexdigest()


def stem(index: int) -> str:
    """Returns the name that a shard's files share."""
    return f"shard-{index:05d}"


def names_of(index: int) -> dict[str, str]:
    """Returns the names of a shard's files by kind, in the order in which they are written."""
    return {kind: f"{stem(index)}.{kind}" for kind in FILES}


def indices(files: Iterable[str], kind: str = r"\w+") -> list[int]:
    """Returns the shards that have a file of this kind among these names, in order. A copy under another name does not count."""
    matches = [NAME.fullmatch(name) for name in files]
    return sorted({int(m[1]) for m in matches if m and re.fullmatch(kind, m[2]) and m[1] == f"{int(m[1]):05d}"})


def read_manifest(folder: Folder, index: int) -> Manifest | None:
    """Returns a shard's manifest; None if there is none, or what is there is not a manifest of this shard of this run."""
    content = folder.read(f"{stem(index)}.json")
    if content is None:
        return None
    try:
        said = json.loads(content.decode())
        found = Manifest.model_validate(said)
        damaged = found.manifest_sha256 != seal(said)
    # RecursionError: lists within lists within lists. ValidationError is a ValueError.
    except (ValueError, RecursionError):
        return None
    # A folder that was renamed still is a run; one that is named by a digest must hold that run.
    foreign = DIGEST.fullmatch(folder.name) and found.digest != folder.name
    return None if foreign or damaged or found.index != index else found


def finished_seeds(folder: Folder, first: int) -> int:
    """Returns how many seeds a run that begins with `first` has, up to its last finished shard."""
    for index in reversed(indices(folder.files(), "json")):
        with contextlib.suppress(StorageError):  # one that cannot be read now
            manifest = read_manifest(folder, index)
            if manifest is not None:
                return manifest.first_seed + manifest.seeds - first
    return 0


def read_manifests(folder: Folder) -> Iterator[Manifest]:
    """Yields the manifests of a run's finished shards, in order."""
    for index in indices(folder.files(), "json"):
        manifest = read_manifest(folder, index)
        if manifest is not None:
            yield manifest


def is_intact(folder: Folder, sizes: Sizes, manifest: Manifest) -> bool:
    """Returns whether a shard's files are those of its manifest, as far as its folder can tell without a download.

    Args:
        folder: the run's folder.
        sizes: those of the shard's files, at least.
        manifest: the shard's.
    """
    return all(folder.matches(sizes, name, size, sha256) for _, name, size, sha256 in manifest.files())


def damaged(folder: Folder, index: int) -> ShardDamaged:
    """Returns the error about a shard that differs from its manifest."""
    return ShardDamaged(f"{folder / stem(index)}: differs from its manifest; {cure(folder)}")


def cure(folder: Folder) -> str:
    """Returns what brings damaged shards back, as a part of a sentence."""
    again = "run the spec again to make it anew"
    # Elsewhere a run notices only what is missing or of another size.
    return again if folder.reads_to_compare else f"remove its .json, then {again}"
