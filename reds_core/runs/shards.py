"""Shards: WebDataset tars, each with a table of all its candidates and a manifest that is written last.

    shard-00000.tar       the accepted samples; none if there are none: Hugging Face takes its schema from the first tar
    shard-00000.parquet   a row for every candidate
    shard-00000.zip       thumbnails of some candidates, for the report
    shard-00000.json      the manifest: counts, figures, hashes. No manifest, no shard

Every file is made on a disk, synced, and checked before it is put into the run's folder under its own name
(`reds_core.runs.publish`), the manifest last. So a kill at any instant leaves nothing that looks finished, and a shard that is made
anew replaces the old one only when it is complete.
"""

from __future__ import annotations

import contextlib
import platform
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import PIL
import torch
import webdataset as wds

from reds_core.errors import ShardDamaged
from reds_core.jobs.job import Job
from reds_core.jobs.thumbnails import pictured, thumbnail_of, write_thumbnails
from reds_core.runs.in_threads import in_threads
from reds_core.runs.manifest import Manifest, names_of
from reds_core.runs.publish import publish
from reds_core.runs.samples import files_of
from reds_core.runs.table import write_table
from reds_core.runs.verify import tar_problems
from reds_core.storage.disk import writing
from reds_core.storage.folder import Folder, hash_of
from reds_core.storage.local import synced
from reds_core.types import Candidate, Passes
from reds_core.version import __version__


@dataclass(frozen=True)
class ComputedShard:
    """A shard that is computed and not written yet: all candidates of its seeds, accepted or not, and what they cost."""

    job: Job
    index: int
    seeds: range
    candidates: Sequence[Candidate]
    passes: Passes
    seconds: float


def write_shard(folder: Folder, run_digest: str, shard: ComputedShard) -> Manifest:
    """Encodes a shard's images and puts it into its run's folder.

    Args:
        folder: the run's folder.
        run_digest: of the spec.
        shard: what to write.

    Returns:
        Its manifest; in a store, that of another run which was faster.

    Raises:
        StorageError, OutputError: the disk is full or cannot be written, the store refuses or does not answer.
        ShardDamaged: what was written cannot be read again.

    Whatever is raised, nothing unfinished looks finished, and an older shard is untouched.
    """
    names = names_of(shard.index)
    with folder.drafts(list(names.values())) as paths, writing(paths[names["tar"]].parent):
        accepted = [c for c in shard.candidates if c.accepted]
        parts = {kind: paths[name] for kind, name in names.items() if accepted or kind != "tar"}
        if accepted:
            _write_tar(parts["tar"], accepted, shard.job, run_digest)
            problems = tar_problems(parts["tar"], len(accepted))
            if problems:
                raise ShardDamaged(f"{parts['tar']} is not what was written to it: {problems[0]}; is the disk failing?")
        with synced(parts["parquet"]) as table:
            write_table(table, shard.candidates, shard.job.spec)
        with synced(parts["zip"]) as thumbnails:
            _write_thumbnails(thumbnails, shard)
        manifest = _described(shard, run_digest, parts)
        with synced(parts["json"]) as file:
            file.write(manifest.to_json().encode())
        return publish(parts, folder, manifest)


def versions() -> dict[str, str]:
    """Returns what made a shard: names of programs, and their versions."""
    return {
        "reds": __version__,
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "numpy": np.__version__,
        "webdataset": wds.__version__,
        "pillow": PIL.__version__,
    }


def device_name(device: torch.device) -> str:
    """Returns a device's model, not its number: equal GPUs make equal manifests."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def _described(shard: ComputedShard, run_digest: str, parts: dict[str, Path]) -> Manifest:
    """Returns the sealed manifest of a shard whose tar and table are written."""
    accepted = [c for c in shard.candidates if c.accepted]
    candidates = [c for c in shard.candidates if c.role == shard.job.spec.candidate_role]
    return Manifest(
        digest=run_digest,
        index=shard.index,
        first_seed=shard.seeds.start,
        seeds=len(shard.seeds),
        samples=len(accepted),
        accepted=sum(c.accepted for c in candidates),
        rejected=dict(sorted(Counter(c.reason for c in candidates if c.reason).items())),
        labels=dict(sorted(Counter(c.label_name for c in accepted if c.label >= 0).items())),
        spreads=dict(shard.job.spreads),
        sha256=hash_of(parts["tar"]) if accepted else "",
        bytes=parts["tar"].stat().st_size if accepted else 0,
        parquet_bytes=parts["parquet"].stat().st_size,
        parquet_sha256=hash_of(parts["parquet"]),
        thumbnails_bytes=parts["zip"].stat().st_size,
        thumbnails_sha256=hash_of(parts["zip"]),
        passes=shard.passes.as_dict(),
        seconds=round(shard.seconds, 3),
        device=device_name(shard.job.device),
        versions=versions(),
    ).sealed()


def _write_thumbnails(file: BinaryIO, shard: ComputedShard) -> None:
    shown, channels = set(pictured(shard.job.spec, shard.seeds)), shard.job.networks.image_shape[0]
    candidates = (c for c in shard.candidates if c.seed in shown)
    write_thumbnails(file, in_threads(lambda c: thumbnail_of(c, channels), candidates))


def _write_tar(path: Path, accepted: Iterable[Candidate], job: Job, run_digest: str) -> None:
    with synced(path) as file:
        writer = wds.TarWriter(file, encoder=False, mtime=0)
        try:
            for sample in in_threads(lambda c: {"__key__": c.key, **files_of(c, job, run_digest)}, accepted):
                writer.write(sample)
            writer.close()
        except BaseException:
            # Left open, it would write again when it is collected, to a file long closed, and say so on the terminal.
            with contextlib.suppress(OSError):
                writer.close()
            raise
