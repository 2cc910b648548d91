"""Where shards are made: in this process, in one process per device, or on a Ray cluster (flows.on_ray).

An engine is called with a shard's index and returns its manifest; calls come from the flow's task threads, of which there are as many as the
engine can serve at once. Prefect's own process pool loses a run when one worker dies, so every device here has a pool of one process: when
it dies or hangs, that process alone is replaced, and the task's retry makes the shard again.
"""

from __future__ import annotations

import itertools
import multiprocessing
import os
import signal
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import CancelledError, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Protocol

from flows.home import return_memory
from reds_core.errors import ModelError, RedsError, RunError, WorkerDied
from reds_core.work import Manifest, Request, compute, cores, forget, load, make, write

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


class Local:
    """Shards one after another in this process, on all of its cores; while one is computed, the one before is written."""

    slots = 2  # no more, or a slow disk would let shards pile up in memory

    def __init__(self, request: Request, device: str) -> None:
        from reds_core.prepare import pick_device

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
            made = self.computing.submit(compute, self.request, self.device, cores(), index).result()
            return self.writing.submit(write, self.request, made).result()
        except (CancelledError, RuntimeError) as error:
            # A pool that is shut down cancels what waits, and takes no more.
            if self.closed:
                raise stopped() from error
            raise

    def close(self) -> None:
        self.closed = True
        for threads in (self.computing, self.writing):
            threads.shutdown(wait=False, cancel_futures=True)
        forget()


class Processes:
    """One process per device, or `workers` on the CPU; each loads the networks once."""

    def __init__(self, request: Request, devices: list[str]) -> None:
        self.request, self.devices, self.slots = request, devices, len(devices)
        self.threads = max(1, cores() // len(devices))
        self.patience, self.closed = Patience(), False
        self.pools = [_pool() for _ in devices]
        self.busy = [threading.Lock() for _ in devices]
        self.deaths = [0] * self.slots  # in a row, of each slot's processes
        self.killed_by: defaultdict[int, set[int]] = defaultdict(set)  # the slots whose processes a shard's making has ended
        self.thread, self.seen = threading.local(), itertools.count()

    def here(self) -> str:
        return self.devices[self._slot()]

    def _slot(self) -> int:
        """The calling thread's, until its device fails."""
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
                manifest = self.patience.result(future.result, self.devices[slot], index)
            except RedsError as error:
                if isinstance(error, WorkerDied):
                    self._replace(slot, index)
                raise
            # It died; or it lives on with what will fail again: in a GPU's context that has failed once every later call fails too.
            except Exception as error:
                self._replace(slot, index)
                why = "" if isinstance(error, BrokenProcessPool) else f": {error or type(error).__name__}"
                raise WorkerDied(f"the worker on {self.devices[slot]} died while it made shard {index}{why}") from error
            self.deaths[slot] = 0
            return manifest

    def _replace(self, slot: int, index: int) -> None:
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
            # A GPU that is gone would take one shard after another with it: this thread shares the next one that works.
            fewest = min(self.deaths)
            self.thread.slot = next(k % self.slots for k in itertools.count(slot + 1) if self.deaths[k % self.slots] == fewest)

    def close(self) -> None:
        self.closed = True
        for pool in self.pools:
            _kill(pool)


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


def open_engine(name: str, request: Request, device: str, workers: int | None) -> Engine:
    """The engine of this name. Raises ModelError for devices that this machine does not have."""
    if name == "local":
        if workers not in (None, 1):
            raise ModelError(f"the local engine is one worker, not {workers}; use --engine processes")
        return Local(request, device)
    if name == "ray":
        from flows.on_ray import Ray

        return Ray(request, device, workers)
    return Processes(request, pick_devices(device, workers))


def pick_devices(device: str, workers: int | None) -> list[str]:
    """A device for every worker: each GPU once (then again, if more workers are asked for), or the CPU."""
    import torch

    from reds_core.prepare import pick_device

    if workers is not None and workers < 1:
        raise ModelError(f"{workers} workers are none; give 1 or more")
    chosen = pick_device(device)
    if chosen.type == "cuda" and chosen.index is None:
        gpus = [f"cuda:{i}" for i in range(torch.cuda.device_count())]
        return [gpus[i % len(gpus)] for i in range(workers or len(gpus))]
    return [str(chosen)] * (workers or (cores() if chosen.type == "cpu" else 1))


def _pool() -> ProcessPoolExecutor:
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(1, mp_context=context, initializer=_start_worker, initargs=(os.getpid(),))


def _start_worker(parent: int) -> None:
    """A worker leaves Ctrl-C to its parent, and ends when the parent does."""
    return_memory()
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _kill(pool: ProcessPoolExecutor) -> None:
    # The executor has no public way to stop a process that hangs before Python 3.14.
    for process in list((pool._processes or {}).values()):
        process.kill()
    pool.shutdown(wait=False, cancel_futures=True)
