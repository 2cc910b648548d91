"""One shard, from a request to its manifest, in whatever process it is asked for: networks are loaded once in each.

Where a GPU's memory ends, the shard is computed again with half the batch, and so are those after it.
"""

from __future__ import annotations

import os
import sys
import time
from dataclasses import dataclass
from typing import Any

from reds_core.errors import ModelError
from reds_core.runs.plan import plan
from reds_core.runs.shards import write_shard
from reds_core.spec.digest import digest
from reds_core.spec.fields import Spec
from reds_core.spec.files import files
from reds_core.storage.folders import Folder
from reds_core.types import Candidate, Passes
from reds_core.variants.job import Job, in_memory
from reds_core.variants.prepare import prepare
from reds_core.variants.run_seeds import run_seeds

Manifest = dict[str, Any]


@dataclass(frozen=True)
class Request:
    """What a process needs to know to make any shard of a run."""

    spec: Spec
    digest: str
    folder: Folder
    batch: int | None
    allow_code: bool
    paths: tuple[str, ...]  # where the user's own code lies


@dataclass(frozen=True)
class Made:
    """A shard that is computed and not written yet."""

    job: Job
    index: int
    candidates: list[Candidate]
    passes: Passes
    seconds: float


_jobs: dict[tuple[str, str, int | None], Job] = {}


def make(request: Request, device: str, threads: int, index: int) -> Manifest:
    """Makes one shard on `device`, with `threads` of the CPU, in the process that it is called in.

    Raises:
        ModelError: a network does not fit, or a file of the spec is no longer what it was. RunError: the shard cannot be written.
    """
    return write(request, compute(request, device, threads, index))


def compute(request: Request, device: str, threads: int, index: int) -> Made:
    """Everything about a shard that needs the networks."""
    job = load(request, device, threads)
    began = time.monotonic()
    (candidates, passes), job = in_memory(job, lambda job: run_seeds(job, plan(request.spec)[index]))
    _jobs[_key(request, device)] = job
    return Made(job, index, candidates, passes, time.monotonic() - began)


def write(request: Request, made: Made) -> Manifest:
    """Encodes a shard's images and puts it where it belongs."""
    seeds = plan(request.spec)[made.index]
    return write_shard(request.folder, made.job, request.digest, made.index, seeds, made.candidates, made.passes, made.seconds)


def load(request: Request, device: str, threads: int) -> Job:
    """The request's networks on a device, loaded by the first call."""
    key = _key(request, device)
    if key not in _jobs:
        import torch

        torch.set_num_threads(threads)
        sys.path += [p for p in request.paths if p not in sys.path]
        _jobs.clear()
        _jobs[key] = prepare(request.spec, device, request.batch, request.allow_code)
    # After loading: what was loaded is then what the digest says. Files are hashed again only if their size or time changed.
    if digest(request.spec) != request.digest:
        named = ", ".join(str(path) for _, path, _, _ in files(request.spec)) or "the code that the spec names"
        raise ModelError(
            f"a file of the spec was changed while the run went on, one of: {named}. The finished shards are of the old one; put it "
            "back to continue them, or run again for a run of its own"
        )
    return _jobs[key]


def forget() -> None:
    """Lets the networks go."""
    _jobs.clear()


def cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _key(request: Request, device: str) -> tuple[str, str, int | None]:
    return request.digest, device, request.batch
