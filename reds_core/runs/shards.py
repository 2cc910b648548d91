"""Shards: WebDataset tars, each with a table of all its candidates and a manifest that is written last.

    shard-00000.tar       the accepted samples
    shard-00000.parquet   a row for every candidate
    shard-00000.json      the manifest: counts, figures, hashes. No manifest, no shard

Every file is written under a `.part-` name, synced, and checked before it gets its own; the manifest goes last. So a kill at any
instant leaves nothing that looks finished, and a shard that is made anew replaces the old one only when it is complete. Shard k
always holds the same seeds, whatever else a run makes. In an object store files appear whole: `reds_core.runs.publish` puts them there, in the
same order. What reads and checks shards is in `reds_core.runs.verify`; what a run's shards add up to, in `reds_core.runs.totals`.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import PIL
import torch
import webdataset as wds

from reds_core import __version__
from reds_core.errors import RunError
from reds_core.runs.manifest import hash_of, seal, stem
from reds_core.runs.publish import KINDS, publish
from reds_core.runs.samples import SCHEMA, files_of, row_of
from reds_core.runs.verify import tar_problems
from reds_core.storage.folders import Folder, written
from reds_core.storage.local import disk, scratch
from reds_core.types import Candidate, Passes
from reds_core.variants.job import Job

PART = ".part-"


def write_shard(
    folder: Folder,
    job: Job,
    run_digest: str,
    index: int,
    seeds: range,
    candidates: Sequence[Candidate],
    passes: Passes,
    seconds: float,
) -> dict[str, Any]:
    """Writes one shard and returns its manifest; or, in an object store, that of another run which was faster.

    Args:
        folder: the run's folder.
        seeds: the shard's seeds; `candidates` are all of theirs, accepted or not.
        passes, seconds: what they cost.

    Raises:
        StorageError, OutputError, RunError: the disk is full or cannot be written, the store refuses or does not answer. Nothing
            unfinished looks finished, an older shard is untouched.
    """
    with _bench(folder, index) as parts, disk(parts["tar"].parent):
        _write_tar(parts["tar"], (c for c in candidates if c.accepted), job, run_digest)
        _write_table(parts["parquet"], candidates)
        manifest = {
            "schema": SCHEMA, "digest": run_digest, "index": index, "first_seed": seeds.start, "seeds": len(seeds), **_counts(candidates),
            "spreads": dict(job.spreads), **_hashes(parts["tar"], parts["parquet"]), "passes": passes.as_dict(),
            "seconds": round(seconds, 3), "device": device_name(job.device), "versions": versions(),
        }  # fmt: skip
        manifest["manifest_sha256"] = seal(manifest)
        with _synced(parts["json"]) as file:
            file.write(json.dumps(manifest, indent=1, ensure_ascii=False, allow_nan=False).encode())
        problems = tar_problems(parts["tar"], manifest)
        if problems:
            raise RunError(f"{parts['tar']} is not what was written to it: {problems[0]}; is the disk failing?")
        if not isinstance(folder, Path):
            return publish(parts, folder, manifest)
        # From here on the old shard, if there was one, is gone, and the new one is complete.
        (folder / f"{stem(index)}.json").unlink(missing_ok=True)
        for kind in ("parquet", "tar", "json"):
            os.replace(parts[kind], folder / f"{stem(index)}.{kind}")
        _sync_folder(folder)
    return manifest


@contextlib.contextmanager
def _bench(folder: Folder, index: int) -> Iterator[dict[str, Path]]:
    """Where a shard's files are made: beside their places on a disk, or on a disk of their own on their way to a store."""
    if not isinstance(folder, Path):
        with scratch() as here:
            yield {kind: here / f"{stem(index)}.{kind}" for kind in KINDS}
        return
    parts = {kind: folder / f"{PART}{stem(index)}.{kind}" for kind in KINDS}
    try:
        yield parts
    finally:
        for part in parts.values():
            with contextlib.suppress(OSError):
                part.unlink(missing_ok=True)


def versions() -> dict[str, str]:
    """What made a shard."""
    return {
        "reds": __version__,
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "numpy": np.__version__,
        "webdataset": wds.__version__,
        "pillow": PIL.__version__,
    }


def device_name(device: torch.device) -> str:
    """A device's model, not its number: equal GPUs make equal manifests."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def _counts(candidates: Sequence[Candidate]) -> dict[str, Any]:
    accepted, variants = [c for c in candidates if c.accepted], [c for c in candidates if c.role == "variant"]
    return {
        "samples": len(accepted),
        "accepted": sum(c.accepted for c in variants),
        "rejected": dict(sorted(Counter(c.reason for c in variants if c.reason).items())),
        "labels": dict(sorted(Counter(c.label_name for c in accepted if c.label >= 0).items())),
    }


def _hashes(tar: Path, table: Path) -> dict[str, Any]:
    return {"sha256": hash_of(tar), "bytes": tar.stat().st_size, "parquet_sha256": hash_of(table)}


def _write_tar(path: Path, accepted: Iterable[Candidate], job: Job, run_digest: str) -> None:
    with _synced(path) as file:
        writer = wds.TarWriter(file, encoder=False, mtime=0)
        try:
            for candidate in accepted:
                writer.write({"__key__": candidate.key, **files_of(candidate, job, run_digest)})
            writer.close()
        except BaseException:
            # Left open, it would write again when it is collected, to a file long closed, and say so on the terminal.
            with contextlib.suppress(OSError):
                writer.close()
            raise


def _write_table(path: Path, candidates: Sequence[Candidate]) -> None:
    with _synced(path) as file:
        pd.DataFrame([row_of(c) for c in candidates]).to_parquet(file, index=False, compression="zstd")


def write_small(folder: Folder, name: str, content: bytes) -> None:
    """A small file, all or nothing."""
    if not isinstance(folder, Path):
        with written(folder) as here:
            (here / name).write_bytes(content)
        return
    part = folder / f"{PART}{name}"
    try:
        with _synced(part) as file:
            file.write(content)
        os.replace(part, folder / name)
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)


@contextlib.contextmanager
def _synced(path: Path) -> Iterator[Any]:
    """A file that is on the disk, not in a cache, when the block ends."""
    with path.open("wb") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
