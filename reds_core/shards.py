"""Shards: WebDataset tars, each with a table of all its candidates and a manifest that is written last.

    shard-00000.tar       the accepted samples
    shard-00000.parquet   a row for every candidate
    shard-00000.json      the manifest: counts, figures, hashes. No manifest, no shard

Every file is written under a `.part-` name, synced, and checked before it gets its own; the manifest goes last. So a kill at any
instant leaves nothing that looks finished, and a shard that is made anew replaces the old one only when it is complete. Shard k
always holds the same seeds, whatever else a run makes. In an object store files appear whole: `reds_core.publish` puts them there, in the
same order. What reads and checks shards is in `reds_core.verify`; what a run's shards add up to, in `reds_core.runs`.
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
from reds_core.disk import disk, locked, scratch
from reds_core.errors import OutputError, RunError, StorageError, UserError
from reds_core.job import Job
from reds_core.patience import is_refusal
from reds_core.publish import KINDS, publish
from reds_core.samples import SCHEMA, files_of, row_of
from reds_core.seeds import plan
from reds_core.spec import Spec, digest, dump, load_spec
from reds_core.storage import Folder, fetched, names, near, read, remove, size, written
from reds_core.types import Candidate, Passes
from reds_core.verify import hash_of, indices, intact, read_manifest, seal, seems_intact, stem, tar_problems

PAGE_NAMES = ("report.html", "README.md", "samples.parquet", "croissant.json")  # the last describes the one before
PART = ".part-"
MOST = 2**40  # more shards than any run has


def run_folder(spec: Spec, out: Folder) -> Folder:
    """Where a run of this spec lives: out/name/digest."""
    return out / spec.name / digest(spec)


@contextlib.contextmanager
def opened(spec: Spec, out: Folder, shards: range | None = None, fresh: bool = False) -> Iterator[Folder]:
    """The run's folder, created, and cleared of what a killed run left behind; if `fresh`, of all shards.

    Args:
        spec: of the run.
        out: the folder of all runs.
        shards: those that this run will write; all, if None or `fresh`. On a disk they are locked: another run may write others meanwhile.

    Raises:
        OutputError: it cannot be written.
        RunError: another run is writing to it.
    """
    folder = run_folder(spec, out)
    mine = range(MOST) if shards is None or fresh else shards
    if not isinstance(folder, Path):
        with _users_mistakes(folder):
            if fresh:
                remove(folder, *(name for name in names(folder) if _is_own(name)))
            write_small(folder, "spec.yaml", dump(_longest(spec, folder)).encode())
        yield folder
        return
    with contextlib.ExitStack() as stack:
        with disk(folder):
            folder.mkdir(parents=True, exist_ok=True)
            if mine:
                stack.enter_context(locked(folder / ".lock", mine.start, len(mine)))
            with pages_of(folder):
                if fresh:
                    for path in (p for p in folder.iterdir() if _is_own(p.name)):
                        path.unlink()
                _clear(folder, mine)
                write_small(folder, "spec.yaml", dump(_longest(spec, folder)).encode())
        yield folder


@contextlib.contextmanager
def pages_of(folder: Path) -> Iterator[None]:
    """The files of a run that belong to no shard, for this process alone."""
    with disk(folder, "make it writable, or a copy of it"), locked(folder / ".lock-pages", 0, 1, wait=True):
        yield


@contextlib.contextmanager
def _users_mistakes(folder: Folder) -> Iterator[None]:
    """What a store refuses before anything was made is the user's to put right."""
    try:
        yield
    except StorageError as error:
        if isinstance(error.__cause__, FileNotFoundError):
            raise OutputError(
                f"{folder} cannot be written: there is no such bucket; make it, or choose another with --out"
            ) from error
        if not is_refusal(error.__cause__):
            raise
        raise OutputError(str(error)) from error


def pending(folder: Folder, spec: Spec, among: range | None = None) -> list[int]:
    """The shards of the plan, or those `among` it, that are missing, damaged, or shorter than the plan.

    Reads every finished tar on a disk. Of a far folder it reads the manifests, and compares them with one listing.
    """
    todo = []
    with near(folder, ".json") as here:
        sizes = {} if isinstance(folder, Path) else names(folder)
        planned = plan(spec)
        for index in range(len(planned)) if among is None else among:
            manifest = read_manifest(here, index)
            if (
                manifest is None
                or manifest["seeds"] < len(planned[index])
                or not (intact(here, index, manifest) if isinstance(folder, Path) else seems_intact(sizes, index, manifest))
            ):
                todo.append(index)
    return todo


def made_meanwhile(folder: Folder, spec: Spec, index: int) -> dict[str, Any] | None:
    """The manifest of a shard that another run has finished in a store since `pending` looked; on a disk, locks keep others away."""
    found = None if isinstance(folder, Path) else read_manifest(folder, index)
    if isinstance(folder, Path) or found is None or found["seeds"] < len(plan(spec)[index]):
        return None
    sizes = {name: size(folder, name) for name in (f"{stem(index)}.tar", f"{stem(index)}.parquet")}
    return found if seems_intact(sizes, index, found) else None


def grown(spec: Spec, out: Folder) -> Spec:
    """The spec with more seeds than its folder holds: the next `seeds.count` of them, once all before are finished."""
    folder = run_folder(spec, out)
    longest = _longest(spec, folder)
    if read(folder, "spec.yaml") is None or pending(folder, longest):
        return longest
    return _counting(longest, longest.seeds.count + spec.seeds.count)


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


def _is_own(name: str) -> bool:
    """Whether a file of this name is one that a run writes into its folder."""
    return name in ("spec.yaml", *PAGE_NAMES) or bool(indices([name]))


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


def _clear(folder: Path, mine: range) -> None:
    """Removes unfinished files: those of a killed run, and tars and tables without a manifest. What others are writing stays."""
    for path in folder.iterdir():
        name = path.name.removeprefix(PART)
        ours = [index for index in indices([name]) if index in mine]
        if name != path.name:
            unfinished = bool(ours) or not indices([name])
        else:
            unfinished = bool(ours) and not path.with_suffix(".json").is_file()
        if unfinished:
            path.unlink(missing_ok=True)


def _longest(spec: Spec, folder: Folder) -> Spec:
    """The spec with the largest count that the folder was ever asked for: a smaller run deletes nothing."""
    try:
        with fetched(folder, "spec.yaml") as path:
            before = load_spec(path).seeds.count if path.is_file() else 0
    except (UserError, FileNotFoundError):
        before = 0  # damaged: written anew; or a new folder
    return _counting(spec, max(spec.seeds.count, before))


def _counting(spec: Spec, count: int) -> Spec:
    return spec.model_copy(update={"seeds": spec.seeds.model_copy(update={"count": count})})
