"""One process per device, or several on the CPU; each loads the networks once.

Prefect's own process pool loses a run when one worker dies. Here every slot has a pool of one process: when it dies or hangs, that
process alone is replaced. A device whose processes die twice in a row is left alone, unless it was the shard that killed them.
"""

from __future__ import annotations

import itertools
import multiprocessing
import os
import signal
import threading
from collections import defaultdict
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool

from flows.engines.base import Deadline, stopped
from flows.process import end_with, return_memory
from reds_core.errors import RedsError, WorkerDied
from reds_core.runs.manifest import Manifest
from reds_core.runs.worker import Request, cores, make


class Processes:
    """One process for each of the devices."""

    def __init__(self, request: Request, devices: list[str]) -> None:
        self.request, self.devices, self.slots = request, devices, len(devices)
        self.threads = max(1, cores() // len(devices))
        self.deadline, self.closed = Deadline(), False
        self.pools = [_pool() for _ in devices]
        self.busy = [threading.Lock() for _ in devices]
        self.deaths = [0] * self.slots  # in a row, of each slot's processes
        self.killed_by: defaultdict[int, set[int]] = defaultdict(set)  # by shard: the slots whose processes died while they made it
        self.thread, self.seen = threading.local(), itertools.count()

    def here(self) -> str:
        return self.devices[self._slot()]

    def _slot(self) -> int:
        """Returns the calling thread's slot: its own, until that device fails."""
        if not hasattr(self.thread, "slot"):
            self.thread.slot = self.thread.home = next(self.seen) % self.slots
        slot: int = self.thread.slot
        return slot

    def __call__(self, index: int) -> Manifest:
        slot = self._slot()
        with self.busy[slot]:
            if self.closed:
                raise stopped()
            try:
                future = self.pools[slot].submit(make, self.request, self.devices[slot], self.threads, index)
                manifest = self.deadline.result(future.result, self.devices[slot], index)
            except RedsError as error:
                if isinstance(error, WorkerDied):
                    self._replace(slot, index)
                raise
            # The process died, or lives on and will fail again: once a GPU's context has failed, every later call in it fails.
            except Exception as error:
                self._replace(slot, index)
                why = "" if isinstance(error, BrokenProcessPool) else f": {error or type(error).__name__}"
                raise WorkerDied(f"the worker on {self.devices[slot]} died while it made shard {index}{why}") from error
            self.deaths[slot] = 0
            return manifest

    def _replace(self, slot: int, index: int) -> None:
        """Starts a slot's process anew, and decides whether the calling thread stays with this device."""
        if self.closed:
            raise stopped()
        _kill(self.pools[slot])
        self.pools[slot] = _pool()
        self.deaths[slot] += 1
        self.killed_by[index].add(slot)
        if len(self.killed_by[index]) > 1:  # it is the shard's fault, and no device's
            for innocent in self.killed_by[index]:
                self.deaths[innocent] = 0
            self.thread.slot = self.thread.home
        elif self.deaths[slot] > 1:
            # A GPU that is gone would fail one shard after another: this thread shares the next one that works.
            fewest = min(self.deaths)
            self.thread.slot = next(k % self.slots for k in itertools.count(slot + 1) if self.deaths[k % self.slots] == fewest)

    def close(self) -> None:
        self.closed = True
        for pool in self.pools:
            _kill(pool)


def _pool() -> ProcessPoolExecutor:
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(1, mp_context=context, initializer=_start_worker, initargs=(os.getpid(),))


def _start_worker(parent: int) -> None:
    """Makes a worker ignore Ctrl-C, which is its parent's to handle, and end when its parent does."""
    return_memory()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with(parent)


def _kill(pool: ProcessPoolExecutor) -> None:
    # The executor has no public way to stop a process that hangs before Python 3.14.
    for process in list((pool._processes or {}).values()):
        process.kill()
    pool.shutdown(wait=False, cancel_futures=True)
