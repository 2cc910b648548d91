"""A candidate as the files of a WebDataset sample, and as a row of the shard's table; and the samples of a tar, read back.

    s00000123-d02p-w03.png  .cls  .json  .latent.npy

Every sample has the same keys with the same types and no nulls: readers take their schema from the first few.
"""

from __future__ import annotations

import contextlib
import io
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from reds_core.jobs.images import file_of
from reds_core.jobs.job import Job
from reds_core.runs.manifest import SCHEMA, Manifest, damaged
from reds_core.storage.folder import Folder
from reds_core.storage.local import known_hash
from reds_core.types import Candidate, key_of
from reds_core.version import __version__

MEDIA_TYPES = {"png": "image/png", "jpg": "image/jpeg", "webp": "image/webp"}  # of a sample's image, by its extension


def files_of(candidate: Candidate, job: Job, digest: str) -> dict[str, bytes]:
    """Returns the files of an accepted candidate by extension; `.cls` only where there is a label."""
    latent = io.BytesIO()
    np.save(latent, candidate.latent.astype(np.float32), allow_pickle=False)
    record = json.dumps(_record(candidate, job, digest), ensure_ascii=False, allow_nan=False)
    image = file_of(candidate, job.spec.shards.image, job.spec.shards.quality)
    files = {job.spec.shards.image: image, "json": record.encode(), "latent.npy": latent.getvalue()}
    return files | ({"cls": str(candidate.label).encode()} if candidate.label >= 0 else {})


def row_of(candidate: Candidate) -> dict[str, Any]:
    """Returns a candidate, accepted or rejected, as a row of figures."""
    names = ("key", "role", "seed", "direction", "sign", "waypoint", "accepted", "reason", "label", "label_name", "condition",
             "judge_label", "judge_confidence", "judge_agrees", "source", "fit")  # fmt: skip
    row = {name: getattr(candidate, name) for name in names}
    row |= {f"drift_{name}": value for name, value in candidate.drifts.items()}
    row |= {f"effect_{name}": value for name, value in candidate.effects.items()}
    return row | {f"tolerance_{name}": value for name, value in candidate.tolerances.items()}


@contextlib.contextmanager
def intact(folder: Folder, manifest: Manifest, kind: str) -> Iterator[Path]:
    """Gives a shard's file of a kind ("tar") on a disk. Raises ShardDamaged if it differs from its manifest."""
    (said,) = (sha256 for described, _, _, sha256 in manifest.files() if described == kind)
    with contextlib.ExitStack() as stack:
        try:
            path = stack.enter_context(folder.fetched(f"{manifest.stem}.{kind}"))
            is_intact = known_hash(path) == said
        except FileNotFoundError:
            is_intact = False
        if not is_intact:
            raise damaged(folder, manifest.index)
        yield path


def read_samples(path: Path) -> Iterator[tuple[str, dict[str, bytes]]]:
    """Yields the samples of a tar, one at a time: key, and files by extension."""
    key: str | None = None
    files: dict[str, bytes] = {}
    with tarfile.open(path, "r|") as tar:
        for member in tar:
            # A folder's or a hole's size may be anything: tarfile would read on to there for years, or fill the memory with zeros.
            if not member.isreg() or member.issparse():
                raise tarfile.ReadError(f"{member.name} is not a plain file")
            name, _, extension = member.name.partition(".")
            if name != key:
                if key is not None:
                    yield key, files
                key, files = name, {}
            content = tar.extractfile(member)
            files[extension] = content.read() if content else b""
    if key is not None:
        yield key, files


def _record(candidate: Candidate, job: Job, digest: str) -> dict[str, Any]:
    """Returns a sample's .json."""
    spec = job.spec
    # Of seeds alone nothing is held or varied, and a mapping without keys is what readers of samples cannot store.
    figures = {
        "held": {n: {"drift": candidate.drifts[n], "tolerance": candidate.tolerances[n]} for n in spec.held},
        "varied": {n: {"effect": candidate.effects[n], "minimum": float(g.minimum)} for n, g in spec.varied.items()},
    }
    return {
        "schema": SCHEMA,
        "role": candidate.role,
        "label": candidate.label,
        "label_name": candidate.label_name,
        "condition": candidate.condition,
        **{name: values for name, values in figures.items() if values},
        "judge": {
            "label": candidate.judge_label,
            "confidence": float(candidate.judge_confidence),
            "agrees": candidate.judge_agrees,
        },
        "seed": candidate.seed,
        "direction": candidate.direction,
        "sign": candidate.sign,
        "waypoint": candidate.waypoint,
        "group": key_of(candidate.seed),
        "source": candidate.source,
        "fit": float(candidate.fit),
        "method": spec.trajectory.method,
        "space": job.networks.generator.space,
        "truncation": float(spec.seeds.truncation),
        "generator": job.networks.generator.name,
        "spec": spec.name,
        "digest": digest,
        "reds_version": __version__,
    }
