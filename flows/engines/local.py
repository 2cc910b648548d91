"""Shards one after another in this process; while one is computed, the one before is written.

After an error that is not this package's own, the networks and the GPU may be unusable for as long as the process lives. From then
on new processes make the shards, on this device and on the machine's others of its kind.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import CancelledError, ThreadPoolExecutor

from flows.engines.base import made_by_another, stopped
from flows.engines.processes import Processes
from reds_core.errors import RedsError, WorkerDied, described
from reds_core.runs.manifest import Manifest
from reds_core.runs.shards import ComputedShard
from reds_core.runs.worker import Request, compute, cores, forget, load, write


class Local:
    """This process, with all of its cores."""

    slots = 2  # no more, or a slow disk would let shards pile up in memory

    def __init__(self, request: Request, device: str, others: Callable[[], list[str]] | None = None) -> None:
        """Loads the networks.

        Args:
            request: of the run.
            device: that they run on.
            others: gives the devices to go on with after an error: this one, and more.

        Raises:
            ModelError: they do not fit.
        """
        from reds_core.jobs.prepare import pick_device

        self.request, self.device = request, str(pick_device(device))
        self.others = others or (lambda: [self.device])
        # One thread computes all shards: torch keeps buffers for every thread that ever computed, and tasks come from many.
        self.computing, self.writing = ThreadPoolExecutor(1), ThreadPoolExecutor(1)
        self.closed, self.changing = False, threading.Lock()
        self.instead: Processes | None = None
        # A network that does not fit is found before the first task.
        self.computing.submit(load, request, self.device, cores()).result()

    def here(self) -> str:
        return self.instead.here() if self.instead else self.device

    def __call__(self, index: int) -> Manifest:
        if self.instead:
            return self.instead(index)
        try:
            shard = self.computing.submit(self._computed, index).result()
        except Exception as error:
            # A pool that is shut down cancels what waits, and accepts nothing more.
            if self.closed:
                raise stopped() from error
            if isinstance(error, RedsError):
                raise
            self._go_on_elsewhere()
            raise WorkerDied(f"shard {index} failed on {self.device}: {described(error)}") from error
        if isinstance(shard, Manifest):
            return shard
        try:
            return self.writing.submit(write, self.request, shard).result()
        except (CancelledError, RuntimeError) as error:
            if self.closed:
                raise stopped() from error
            raise

    def _computed(self, index: int) -> ComputedShard | Manifest:
        return made_by_another(self.request, index) or compute(self.request, self.device, cores(), index)

    def _go_on_elsewhere(self) -> None:
        """Lets processes make all further shards."""
        with self.changing:
            if self.instead is None and not self.closed:
                self.instead = Processes(self.request, self.others())
                self.computing.submit(forget)  # after the shard in hand

    def close(self) -> None:
        with self.changing:
            self.closed = True
        for threads in (self.computing, self.writing):
            threads.shutdown(wait=False, cancel_futures=True)
        if self.instead:
            self.instead.close()
        forget()
