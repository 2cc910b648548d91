"""One shard, from a request to its manifest, made in the process that calls: each process loads the networks once.

Where a GPU's memory runs out, the shard is computed again with half the batch, and so are those after it.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass

from reds_core.errors import ModelError, described
from reds_core.jobs.job import Job, in_memory
from reds_core.jobs.prepare import prepare
from reds_core.jobs.thumbnails import pictured
from reds_core.runs.manifest import Manifest
from reds_core.runs.plan import plan
from reds_core.runs.shards import ComputedShard, write_shard
from reds_core.spec.digest import digest
from reds_core.spec.fields import Spec
from reds_core.spec.files import files
from reds_core.storage.folder import Folder
from reds_core.variants.run_seeds import run_seeds


@dataclass(frozen=True)
class Request:
    """What a process needs to know to make any shard of a run."""

    spec: Spec
    digest: str
    folder: Folder
    batch: int | None
    allow_code: bool
    paths: tuple[str, ...]  # where the user's own code lies


_jobs: dict[tuple[str, str, int | None], Job] = {}


def make(request: Request, device: str, threads: int, index: int) -> Manifest:
    """Makes a shard in this process.

    Args:
        request: of the run.
        device: that the networks run on.
        threads: of the CPU.
        index: of the shard.

    Raises:
        ModelError: a network does not fit, or a file of the spec has changed. RunError: the shard cannot be written.
    """
    return write(request, compute(request, device, threads, index))


def compute(request: Request, device: str, threads: int, index: int) -> ComputedShard:
    """Does everything about a shard that needs the networks. Arguments and errors as for `make`."""
    job = load(request, device, threads)
    seeds, began = plan(request.spec)[index], time.monotonic()
    shown = frozenset(pictured(request.spec, seeds))
    with _foreign_code():
        (candidates, passes), job = in_memory(job, lambda job: run_seeds(job, seeds, shown))
    _jobs[_key(request, device)] = job
    return ComputedShard(job, index, seeds, candidates, passes, time.monotonic() - began)


def write(request: Request, shard: ComputedShard) -> Manifest:
    """Encodes a shard's images and puts it into the run's folder."""
    return write_shard(request.folder, request.digest, shard)


def load(request: Request, device: str, threads: int) -> Job:
    """Returns the request's networks on a device, loaded by the first call."""
    key = _key(request, device)
    if key not in _jobs:
        import torch

        torch.set_num_threads(threads)
        sys.path += [p for p in request.paths if p not in sys.path]
        _jobs.clear()
        with _foreign_code():
            _jobs[key] = prepare(request.spec, device, request.batch, request.allow_code)
    # After loading: what was loaded is then what the digest says. Files are hashed again only if their size or time changed; the
    # user's images as they were listed, since each is compared with its hash when it is read.
    job = _jobs[key]
    if digest(request.spec, job.own.sources if job.own else None) != request.digest:
        named = ", ".join(str(file.path) for file in files(request.spec)) or "the code that the spec names"
        raise ModelError(
            f"a file of the spec was changed during the run, one of: {named}. The finished shards were made with the old file; "
            "put it back to continue, or run again to start another run"
        )
    return job


@contextlib.contextmanager
def _foreign_code() -> Iterator[None]:
    """Turns what would end the program into an error: a network that calls sys.exit() must not end a run as if all were well.

    No Ctrl-C arrives here: threads hear none, and worker processes ignore it.
    """
    try:
        yield
    except Exception:
        raise
    except BaseException as error:
        raise RuntimeError(f"the code that the spec names raised {described(error)}") from error


def forget() -> None:
    """Releases the networks."""
    _jobs.clear()


def cores() -> int:
    """Returns the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _key(request: Request, device: str) -> tuple[str, str, int | None]:
    return request.digest, device, request.batch
