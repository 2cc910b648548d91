"""What an export's folder says of itself: `export.json`, and a manifest beside every tar. Each is sealed like a run's manifest.

`export.json` is written first, with what was asked and of which shards; at the end once more, with the hash of `index.parquet` and
`finished` true. So a killed export knows that it is one, and another one never goes on in its folder.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field

from reds_core.exports.inputs import Run
from reds_core.exports.request import Request
from reds_core.runs.manifest import SCHEMA, seal
from reds_core.storage.folder import Folder
from reds_core.version import __version__

METHOD = 1  # to be raised when equal requests give other bytes than before: a killed export must not go on differently
NAME, INDEX, CARD = "export.json", "index.parquet", "README.md"


class Sealed(BaseModel):
    """A file of JSON whose seal tells whether it is damaged."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", populate_by_name=True)

    schema_: int = Field(SCHEMA, alias="schema")
    manifest_sha256: str = ""

    def to_json(self) -> str:
        """Returns the file's text, sealed."""
        said = self.model_dump(by_alias=True)
        return json.dumps(said | {"manifest_sha256": seal(said)}, indent=1, ensure_ascii=False, allow_nan=False)

    @classmethod
    def read(cls, folder: Folder, name: str) -> Self | None:
        """Returns what a file says; None if there is none, or it is damaged."""
        content = folder.read(name)
        try:
            said = json.loads((content or b"").decode())
            found = cls.model_validate(said)
            damaged = found.manifest_sha256 != seal(said)
        # RecursionError: lists within lists within lists. ValidationError is a ValueError.
        except (ValueError, RecursionError):
            return None
        return None if damaged else found


class Source(BaseModel):
    """A run that an export was made from: the hashes of its tars by shard."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    digest: str
    spec: str
    shards: dict[str, str]


class Size(BaseModel):
    """How much a split holds: samples, and tars or 0 of an image folder."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    samples: int
    shards: int


class Export(Sealed):
    """`export.json`. `export` is the digest of what was asked; limits of 0 are none."""

    export: str
    asked: dict[str, Any]
    runs: list[Source]
    splits: dict[str, Size]
    image: str  # the extension of the images in tars
    finished: bool
    index_sha256: str
    reds_version: str


class TarManifest(Sealed):
    """One tar, as `train-00000.json` describes it."""

    export: str
    split: str
    index: int
    samples: int
    labels: dict[str, int]
    sha256: str
    bytes: int

    def files(self) -> Iterator[tuple[str, str, int, str]]:
        """Yields the shard's other file as a run's manifest does: kind, name, size in bytes and sha256."""
        yield "tar", f"{stem(self.split, self.index)}.tar", self.bytes, self.sha256


def read_tar_manifest(folder: Folder, export: str, split: str, index: int) -> TarManifest | None:
    """Returns the manifest of a tar of an export; None if there is none, it is damaged, or that of another tar or export."""
    found = TarManifest.read(folder, f"{stem(split, index)}.json")
    return found if found and (found.export, found.split, found.index) == (export, split, index) else None


def stem(split: str, index: int) -> str:
    """Returns the name that a shard's files share."""
    return f"{split}-{index:05d}"


def described(request: Request, runs: Sequence[Run]) -> Export:
    """Returns what `export.json` says before anything else is known."""
    sources = [
        Source(digest=run.digest, spec=run.spec.name, shards={str(m.index): m.sha256 for m in run.manifests}) for run in runs
    ]
    asked = request.as_dict()
    said = json.dumps([METHOD, asked, [source.model_dump() for source in sources]], sort_keys=True)
    return Export(
        export=hashlib.sha256(said.encode()).hexdigest()[:16], asked=asked, runs=sources, splits={},
        image=runs[0].spec.shards.image, finished=False, index_sha256="", reds_version=__version__,
    )  # fmt: skip


def is_export(folder: Folder) -> bool:
    """Returns whether a folder holds an export, or what is left of one."""
    names = folder.files()
    return NAME in names or (INDEX in names and "spec.yaml" not in names)
