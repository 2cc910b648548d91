"""Shards on a Ray cluster: the one at $RAY_ADDRESS, or one on this machine, started here and stopped with the run.

A shard is a Ray task that asks for a GPU, or a core; Ray finds the place, and its worker processes keep the networks. One that
dies, alone or with its node, or hangs, costs the shard in hand, which the Prefect task's retry makes again. Every node needs this
package, and a folder or bucket that all of them see.
"""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from dataclasses import dataclass
from functools import partial
from typing import Any

from flows.engines.base import Deadline, made_by_another, stopped
from flows.engines.failures import Failures
from reds_core.errors import ModelError, RedsError, UserError, WorkerDied, described
from reds_core.runs.manifest import Manifest
from reds_core.runs.worker import Request, cores, make

GPU_WAIT = 60.0  # seconds for a node with a GPU to join the cluster
HELD = 60.0  # seconds that a shard keeps a GPU which failed from others
CPU = "a core"
QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ENABLE_AUTO_CONNECT": "0"}  # a call after the end must start nothing


@dataclass(frozen=True)
class Answer:
    """What a worker has made, or why not, and on which GPU."""

    place: str
    made: Manifest | RedsError


class LeftError(RedsError):
    """A GPU that is not to be used any more."""


_has_failed = False


def make_or_end(request: Request, device: str, threads: int, index: int, left: frozenset[str]) -> Answer:
    """Makes a shard. Ends the process if it fails: a GPU's context may have failed for good, and Ray would send it the next shard.

    Args:
        request, device, threads, index: as for `make`.
        left: GPUs that are not to be used any more. Ray, which hands them out, does not know: a shard that comes to one of them
            keeps it from others for a while, and is given back.
    """
    global _has_failed
    place = f"{socket.gethostname()}, GPU {os.environ.get('CUDA_VISIBLE_DEVICES', '')}" if device == "cuda" else CPU
    if _has_failed:
        os._exit(1)
    if place in left:
        time.sleep(HELD)
        return Answer(place, LeftError(place))
    try:
        return Answer(place, make(request, device, threads, index))
    except Exception as error:
        if isinstance(error, RedsError) and not isinstance(error, UserError):
            return Answer(place, error)
        _has_failed = True
        threading.Timer(1, os._exit, (1,)).start()  # after the answer
        return Answer(place, error if isinstance(error, RedsError) else WorkerDied(f"shard {index} failed: {described(error)}"))


class Ray:
    """As many shards at once as the cluster has GPUs, or cores where it has none."""

    def __init__(self, request: Request, device: str, workers: int | None) -> None:
        self.ray, is_own = _connected(workers)
        try:
            self.device, self.slots = self._pick(device, workers)
        except ModelError:
            self.ray.shutdown()
            raise
        self.request, self.deadline, self.closed = request, Deadline(), False
        self.threads = max(1, cores() // self.slots) if is_own and self.device == "cpu" else 1
        self.where = f"{self.device} of Ray" + ("" if is_own else f" at {os.environ['RAY_ADDRESS']}")
        self.free = threading.Semaphore(self.slots)  # whoever holds all of them knows that no call to Ray is under way
        self.under_way: set[Any] = set()
        self.failures = Failures(self.slots if self.device == "cuda" else 1)
        self.places: dict[str, int] = {}  # the numbers of GPUs in `failures`
        self.task = self.ray.remote(make_or_end).options(num_cpus=1, num_gpus=int(self.device == "cuda"), max_retries=0)

    def here(self) -> str:
        return self.where

    def __call__(self, index: int) -> Manifest:
        with self.free:
            if self.closed:
                raise stopped()
            found = made_by_another(self.request, index)
            if found is not None:
                return found
            while True:
                left = frozenset(name for name, place in self.places.items() if place not in self.failures.usable())
                answer = self._made(index, left)
                place = self.places.setdefault(answer.place, min(len(self.places), len(self.failures.strikes) - 1))
                if isinstance(answer.made, Manifest):
                    self.failures.made(index, place)
                    return answer.made
                if not isinstance(answer.made, LeftError):
                    raise self.failures.failed(index, place, answer.place, answer.made)
                if self.closed:
                    raise stopped()

    def _made(self, index: int, left: frozenset[str]) -> Answer:
        from ray.exceptions import RaySystemError, RayTaskError, TaskCancelledError, WorkerCrashedError

        made = self.task.remote(self.request, self.device, self.threads, index, left)
        self.under_way.add(made)
        try:
            answer: Answer = self.deadline.result(partial(self.ray.get, made), self.where, index)
            return answer
        except RayTaskError as error:
            raise error.cause from None  # as it was raised, without Ray's traceback in its message
        except (WorkerCrashedError, RaySystemError) as error:
            if "ModuleNotFoundError" in str(error):
                why = str(error).strip().splitlines()[-1]
                raise ModelError(f"a node of the Ray cluster lacks a package: {why}; install the same on all of them") from error
            if self.closed:
                raise stopped() from error
            raise WorkerDied(f"the worker on {self.where} died while it made shard {index}") from error
        except TaskCancelledError as error:
            raise stopped() from error
        except WorkerDied:
            self.ray.cancel(made, force=True)
            raise
        finally:
            self.under_way.discard(made)

    def close(self) -> None:
        self.closed = True
        for made in list(self.under_way):
            self.ray.cancel(made, force=True)
        # Ray ends the whole process if a thread calls it after its shutdown. Only threads that hold a slot call it, so all slots
        # are taken first.
        for _ in range(self.slots):
            self.free.acquire()
        self.ray.shutdown()  # ends the cluster if it was started here, and otherwise leaves it
        self.free.release(self.slots)

    def _pick(self, device: str, workers: int | None) -> tuple[str, int]:
        """Returns the device of every task, and how many run at once."""
        if device not in ("auto", "cpu", "cuda"):
            raise ModelError(f"Ray chooses the GPUs itself: the device must be cuda, got {device}", parameter="device")
        deadline = time.monotonic() + GPU_WAIT
        while not (gpus := self._count("GPU")) and device == "cuda":
            if time.monotonic() > deadline:
                nodes = sum(node["Alive"] for node in self.ray.nodes())
                raise ModelError(
                    f"no node of the Ray cluster offers a GPU: {nodes} nodes with {self._count('CPU')} cores; use the device cpu",
                    parameter="device",
                )
            time.sleep(1)
        name, most = ("cuda", gpus) if gpus and device != "cpu" else ("cpu", max(1, self._count("CPU")))
        return name, min(workers or most, most)

    def _count(self, resource: str) -> int:
        return int(self.ray.cluster_resources().get(resource, 0))


def _connected(workers: int | None) -> tuple[Any, bool]:
    """Returns Ray, connected, and whether its cluster was started here."""
    if workers is not None and workers < 1:
        raise ModelError(f"workers must be at least 1, got {workers}", parameter="workers")
    for key, value in QUIET.items():
        os.environ.setdefault(key, value)
    address = os.environ.get("RAY_ADDRESS")
    if not address:
        os.environ.setdefault("RAY_AUTH_MODE", "disabled")
    try:
        import ray
    except ImportError as error:
        raise ModelError("the engine ray needs Ray: pip install 'ray>=2.50,<3'") from error
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    handler = signal.getsignal(signal.SIGTERM)
    try:
        if address:
            _knock(address)
            ray.init(address, **quiet)
        else:
            # "local", or Ray would join whatever cluster somebody started on this machine.
            ray.init("local", num_cpus=workers or cores(), include_dashboard=False, **quiet)
    except (OSError, RuntimeError, ValueError) as error:
        where = address or "this machine"
        raise ModelError(f"the Ray cluster at {where} cannot be reached: {str(error).splitlines()[0]}") from error
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, handler)  # Ray sets its own, over Prefect's
    return ray, not address


def _knock(address: str) -> None:
    """Raises OSError if nobody listens at this address: Ray itself would go on trying for minutes."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if colon:
        socket.create_connection((host, int(port)), timeout=10).close()
