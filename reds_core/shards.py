"""Shards on disk: WebDataset tars, each with a table of all its candidates and a manifest that is written last.

    shard-00000.tar       the accepted samples
    shard-00000.parquet   a row for every candidate
    shard-00000.json      the manifest: counts, figures, hashes. No manifest, no shard

Every file is written under a `.part-` name, synced, and checked before it gets its own; the manifest goes last. So a kill at any
instant leaves nothing that looks finished, and a shard that is made anew replaces the old one only when it is complete. Shard k
always holds the same seeds, whatever else a run makes. What reads and checks shards is in `reds_core.verify`; what a
run's shards add up to, in `reds_core.runs`.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
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
from reds_core.errors import OutputError, RedsError, RunError
from reds_core.job import Job
from reds_core.samples import SCHEMA, files_of, row_of
from reds_core.seeds import plan
from reds_core.spec import Spec, digest, dump, load_spec
from reds_core.types import Candidate, Passes
from reds_core.verify import hash_of, intact, read_manifest, seal, stem, tar_problems

PART = ".part-"
KINDS = ("tar", "parquet", "json")
USERS_MISTAKES = (
    errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENAMETOOLONG, errno.ELOOP
)  # fmt: skip


def run_folder(spec: Spec, out: Path) -> Path:
    """Where a run of this spec lives: out/name/digest."""
    return out / spec.name / digest(spec)


@contextlib.contextmanager
def opened(spec: Spec, out: Path, fresh: bool = False) -> Iterator[Path]:
    """The run's folder, created, locked, and cleared of what a killed run left behind; if `fresh`, of all shards.

    Raises:
        OutputError: it cannot be written.
        RunError: another run is writing to it.
    """
    folder = run_folder(spec, out)
    with contextlib.ExitStack() as stack:
        with disk(folder):
            folder.mkdir(parents=True, exist_ok=True)
            stack.enter_context(_locked(folder))
            if fresh:
                _wipe(folder)
            _clear(folder)
            write_small(folder, "spec.yaml", dump(_longest(spec, folder)).encode())
        yield folder


@contextlib.contextmanager
def disk(folder: Path) -> Iterator[None]:
    """Turns the operating system's errors about a folder into ones that say what to do."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise RunError(f"the disk is full: {folder}. What is finished is kept; make room and run again") from error
        if error.errno in USERS_MISTAKES:
            raise OutputError(f"{folder} cannot be written: {error.strerror}; choose another folder with --out") from error
        raise RunError(f"{error.filename or folder}: {error.strerror or error}. What is finished is kept; run again") from error


def pending(folder: Path, spec: Spec) -> list[int]:
    """The shards of the plan that are missing, damaged, or shorter than the plan. Reads every finished tar."""
    todo = []
    for index, seeds in enumerate(plan(spec)):
        manifest = read_manifest(folder, index)
        whole = manifest is not None and intact(folder, index, manifest)
        if not whole or not manifest or manifest["seeds"] < len(seeds):
            todo.append(index)
    return todo


def grown(spec: Spec, out: Path) -> Spec:
    """The spec with more seeds than its folder holds: the next `seeds.count` of them, once all before are finished."""
    folder = run_folder(spec, out)
    longest = _longest(spec, folder)
    if not (folder / "spec.yaml").is_file() or pending(folder, longest):
        return longest
    return _counting(longest, longest.seeds.count + spec.seeds.count)


def write_shard(
    folder: Path,
    job: Job,
    run_digest: str,
    index: int,
    seeds: range,
    candidates: Sequence[Candidate],
    passes: Passes,
    seconds: float,
) -> dict[str, Any]:
    """Writes one shard and returns its manifest.

    Args:
        folder: the run's folder.
        seeds: the shard's seeds; `candidates` are all of theirs, accepted or not.
        passes, seconds: what they cost.

    Raises:
        RunError, OutputError: the disk is full or cannot be written. Nothing unfinished is left, an older shard is untouched.
    """
    accepted = [c for c in candidates if c.accepted]
    parts = {kind: folder / f"{PART}{stem(index)}.{kind}" for kind in KINDS}
    with disk(folder):
        try:
            _write_tar(parts["tar"], accepted, job, run_digest)
            _write_table(parts["parquet"], candidates)
            variants = [c for c in candidates if c.role == "variant"]
            manifest = {
                "schema": SCHEMA,
                "digest": run_digest,
                "index": index,
                "first_seed": seeds.start,
                "seeds": len(seeds),
                "samples": len(accepted),
                "accepted": sum(c.accepted for c in variants),
                "rejected": dict(sorted(Counter(c.reason for c in variants if c.reason).items())),
                "labels": dict(sorted(Counter(c.label_name for c in accepted if c.label >= 0).items())),
                "spreads": dict(job.spreads),
                **_hashes(parts["tar"], parts["parquet"]),
                "passes": passes.as_dict(),
                "seconds": round(seconds, 3),
                "device": device_name(job.device),
                "versions": versions(),
            }
            manifest["manifest_sha256"] = seal(manifest)
            with _synced(parts["json"]) as file:
                file.write(json.dumps(manifest, indent=1, ensure_ascii=False, allow_nan=False).encode())
            problems = tar_problems(parts["tar"], manifest)
            if problems:
                raise RunError(f"{parts['tar']} is not what was written to it: {problems[0]}; is the disk failing?")
            # From here on the old shard, if there was one, is gone, and the new one is complete.
            (folder / f"{stem(index)}.json").unlink(missing_ok=True)
            for kind in ("parquet", "tar", "json"):
                os.replace(parts[kind], folder / f"{stem(index)}.{kind}")
            _sync_folder(folder)
        finally:
            for part in parts.values():
                with contextlib.suppress(OSError):
                    part.unlink(missing_ok=True)
    return manifest


def _wipe(folder: Path) -> None:
    """Removes a run's own files, and nothing else, from its folder."""
    for path in folder.iterdir():
        if path.name in ("spec.yaml", "report.html", "README.md", "croissant.json", "samples.parquet") or path.match(
            "shard-[0-9]*.*"
        ):
            path.unlink()


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


def write_small(folder: Path, name: str, content: bytes) -> None:
    """A small file, all or nothing."""
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


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """One writer a folder. The kernel releases the lock of a process that dies."""
    with (folder / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise RunError(f"another run is writing to {folder}; wait for it, or stop it") from error
        yield


def _clear(folder: Path) -> None:
    """Removes unfinished files: those of a killed run, and tars and tables without a manifest."""
    for path in folder.glob(f"{PART}*"):
        path.unlink(missing_ok=True)  # a report that is being written may have taken its own away
    for path in (*folder.glob("shard-[0-9]*.tar"), *folder.glob("shard-[0-9]*.parquet")):
        if not path.with_suffix(".json").is_file():
            path.unlink()


def _longest(spec: Spec, folder: Path) -> Spec:
    """The spec with the largest count that the folder was ever asked for: a smaller run deletes nothing."""
    try:
        before = load_spec(folder / "spec.yaml").seeds.count if (folder / "spec.yaml").is_file() else 0
    except RedsError:
        before = 0  # damaged: written anew
    return _counting(spec, max(spec.seeds.count, before))


def _counting(spec: Spec, count: int) -> Spec:
    return spec.model_copy(update={"seeds": spec.seeds.model_copy(update={"count": count})})
