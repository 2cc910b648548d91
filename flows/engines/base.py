"""Where shards are made: in this process, in one process per device, or on a Ray cluster (flows.engines.ray).

An engine is called with a shard's index and returns its manifest; calls come from the flow's task threads, of which there are as many as the
engine can serve at once. Prefect's own process pool loses a run when one worker dies, so every device here has a pool of one process: when
it dies or hangs, that process alone is replaced, and the task's retry makes the shard again.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol

from reds_core.errors import RunError, WorkerDied
from reds_core.runs.manifest import Manifest
from reds_core.runs.worker import Request

FIRST_PATIENCE = 6 * 3600.0  # seconds for a shard when none is finished yet to compare with
LEAST_PATIENCE = 900.0
PORTION = 60.0  # seconds after which patience is asked again


class Engine(Protocol):
    """Makes shards, from any thread."""

    request: Request
    slots: int  # shards that can be on their way at once

    def here(self) -> str:
        """The device that the calling thread's shards are made on, for people."""

    def __call__(self, index: int) -> Manifest: ...

    def close(self) -> None:
        """Ends what it has started. Calls that wait, and later ones, raise RunError."""


class Patience:
    """How long a shard's worker is waited for: many times what the slowest shard took, or it is taken for dead."""

    def __init__(self) -> None:
        self.slowest = 0.0

    def __call__(self) -> float:
        return max(LEAST_PATIENCE, 20 * self.slowest) if self.slowest else FIRST_PATIENCE

    def result(self, wait: Callable[..., Manifest], device: str, index: int) -> Manifest:
        """What `wait(timeout=seconds)` returns. Raises WorkerDied when patience ends, which the first shard of all may shorten."""
        began = time.monotonic()
        while True:
            asked = time.monotonic()
            limit = max(0.0, min(PORTION, self() - (asked - began)))
            try:
                manifest = wait(timeout=limit)
            except TimeoutError as error:
                if time.monotonic() - asked < 0.9 * limit:
                    raise  # the shard's own: a network disk, for example
                waited = time.monotonic() - began
                if waited < self():
                    continue
                raise WorkerDied(
                    f"the worker on {device} did not finish shard {index} in {waited:.0f} s and was stopped"
                ) from error
            self.slowest = max(self.slowest, time.monotonic() - began)
            return manifest


def stopped() -> RunError:
    """What becomes of shards that were asked for when their run has ended."""
    return RunError("the run was stopped before this shard")
