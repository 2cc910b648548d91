"""Shards one after another in this process; while one is computed, the one before is written."""

from __future__ import annotations

from concurrent.futures import CancelledError, ThreadPoolExecutor

from flows.engines.base import stopped
from reds_core.runs.manifest import Manifest
from reds_core.runs.worker import Request, compute, cores, forget, load, write


class Local:
    """This process, with all of its cores."""

    slots = 2  # no more, or a slow disk would let shards pile up in memory

    def __init__(self, request: Request, device: str) -> None:
        from reds_core.jobs.prepare import pick_device

        self.request, self.device = request, str(pick_device(device))
        # One thread computes all shards: torch keeps buffers for every thread that ever computed, and tasks come from many.
        self.computing, self.writing = ThreadPoolExecutor(1), ThreadPoolExecutor(1)
        self.closed = False
        # A network that does not fit is found before the first task.
        self.computing.submit(load, request, self.device, cores()).result()

    def here(self) -> str:
        return self.device

    def __call__(self, index: int) -> Manifest:
        try:
            shard = self.computing.submit(compute, self.request, self.device, cores(), index).result()
            return self.writing.submit(write, self.request, shard).result()
        except (CancelledError, RuntimeError) as error:
            # A pool that is shut down cancels what waits, and accepts nothing more.
            if self.closed:
                raise stopped() from error
            raise

    def close(self) -> None:
        self.closed = True
        for threads in (self.computing, self.writing):
            threads.shutdown(wait=False, cancel_futures=True)
        forget()
