"""One process per device, or several on the CPU; each loads the networks once.

Prefect's own process pool loses a run when one worker dies. Here every slot has a pool of one process. One that fails, dies or
hangs is replaced alone: once a GPU's context has failed, every later call in it fails. `failures` decides where the shard is tried
next, and which slots are left.
"""

from __future__ import annotations

import itertools
import multiprocessing
import os
import signal
import threading
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool

from flows.engines.base import Deadline, made_by_another, stopped
from flows.engines.failures import Failures, in_words
from flows.process import end_with, return_memory
from reds_core.errors import RedsError, UserError, WorkerDied
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
        # Two processes on one GPU fail together; where all are on one device, a process is all that can fail.
        distinct = list(dict.fromkeys(devices))
        self.places = [distinct.index(device) for device in devices] if len(distinct) > 1 else list(range(len(devices)))
        self.failures = Failures(len(set(self.places)))
        self.thread, self.seen = threading.local(), itertools.count()

    def here(self) -> str:
        return self.devices[self._home()]

    def _home(self) -> int:
        """Returns the calling thread's slot; another one of the same device or of the next, if that device is left."""
        if not hasattr(self.thread, "slot"):
            self.thread.slot = next(self.seen) % self.slots
        slot: int = self.thread.slot
        usable = self.failures.usable()
        return slot if self.places[slot] in usable else self._at(usable[slot % len(usable)])

    def _at(self, place: int) -> int:
        """Returns a slot at a place, the calling thread's own if it is there."""
        slots = [slot for slot, other in enumerate(self.places) if other == place]
        own: int = self.thread.slot
        return own if own in slots else slots[own % len(slots)]

    def __call__(self, index: int) -> Manifest:
        place = self.failures.place_for(index, self.places[self._home()])
        slot = self._at(place)
        with self.busy[slot]:
            if self.closed:
                raise stopped()
            found = made_by_another(self.request, index)
            if found is not None:
                return found
            try:
                future = self.pools[slot].submit(in_words, make, self.request, self.devices[slot], self.threads, index)
                manifest = self.deadline.result(future.result, self.devices[slot], index)
            except Exception as error:
                if self.closed:
                    raise stopped() from error
                if not isinstance(error, RedsError) or isinstance(error, UserError | WorkerDied):
                    self._replace(slot)
                if isinstance(error, BrokenProcessPool):
                    error = WorkerDied(f"the worker on {self.devices[slot]} died while it made shard {index}")
                raise self.failures.failed(index, place, self.devices[slot], error) from None
            self.failures.made(index, place)
            return manifest

    def _replace(self, slot: int) -> None:
        """Starts a slot's process anew."""
        _kill(self.pools[slot])
        self.pools[slot] = _pool()

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
