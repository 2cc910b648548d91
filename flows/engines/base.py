"""What every engine offers, and how long it waits for a worker.

An engine is called with a shard's index and returns its manifest. Calls come from the flow's task threads, of which there are as
many as the engine has slots. A worker that dies or hangs costs the shard in hand, which the task's retry makes again.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol, TypeVar

from reds_core.errors import RunError, WorkerDied
from reds_core.runs.manifest import Manifest
from reds_core.runs.run_folder import made_meanwhile
from reds_core.runs.worker import Request

T = TypeVar("T")

FIRST_LIMIT = 6 * 3600.0  # seconds for a shard while none is finished to compare with
LEAST_LIMIT = 900.0
PORTION = 60.0  # seconds after which the limit is computed again
LEAST_PORTION = 0.05  # a wait of a few microseconds cannot be told from an error of the shard's own


class Engine(Protocol):
    """Makes shards, from any thread."""

    request: Request
    slots: int  # shards that can be made at once

    def here(self) -> str:
        """Returns the device that the calling thread's shards are made on, for people."""

    def __call__(self, index: int) -> Manifest:
        """Makes a shard, unless another run has: it asks when the device is free, just before the work begins."""

    def close(self) -> None:
        """Stops what it has started. Calls that wait, and later ones, raise RunError."""


class Deadline:
    """How long a worker may take for a shard: many times what the slowest shard took; after that it is taken for dead."""

    def __init__(self) -> None:
        self.slowest = 0.0  # seconds

    def limit(self) -> float:
        """Returns the seconds that a shard may take."""
        return max(LEAST_LIMIT, 20 * self.slowest) if self.slowest else FIRST_LIMIT

    def result(self, wait: Callable[..., T], device: str, index: int) -> T:
        """Returns what `wait(timeout=seconds)` returns, polling, because the first finished shard may shorten the limit.

        Raises:
            WorkerDied: the limit is reached.
        """
        began = time.monotonic()
        while True:
            started = time.monotonic()
            portion = max(LEAST_PORTION, min(PORTION, self.limit() - (started - began)))
            try:
                made = wait(timeout=portion)
            except TimeoutError as error:
                if time.monotonic() - started < 0.9 * portion:
                    raise  # the shard's own: that of a network disk, for example
                waited = time.monotonic() - began
                if waited < self.limit():
                    continue
                raise WorkerDied(
                    f"the worker on {device} did not finish shard {index} in {waited:.0f} s and was stopped"
                ) from error
            self.slowest = max(self.slowest, time.monotonic() - began)
            return made


def stopped() -> RunError:
    """Returns the error of a shard requested after its run has ended."""
    return RunError("the run was stopped before this shard")


def made_by_another(request: Request, index: int) -> Manifest | None:
    """Returns the manifest of a shard that another run has made since this one began, if one has."""
    return made_meanwhile(request.folder, request.spec, index)
