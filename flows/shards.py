"""Shards as tasks, in the process that the flow runs in: a task for each shard, a thread for each that the engine can make at once.

Prefect names, retries and shows them. What is finished is decided by the manifests alone, which Prefect's cache could not see.
"""

from __future__ import annotations

import contextlib
import random
import threading
from collections.abc import Callable, Iterator
from typing import Any

from prefect import runtime, task
from prefect.cache_policies import NO_CACHE
from prefect.futures import as_completed
from prefect.task_runners import ThreadPoolTaskRunner

from flows.artifacts import ProgressArtifact
from flows.engines.base import Engine
from flows.engines.registry import open_engine
from flows.parameters import Parameters
from reds_core.errors import RedsError, RunError, ShardDamaged, StorageError, UserError, WorkerDied
from reds_core.runs.manifest import Manifest, indices, stem
from reds_core.spec.fields import Spec
from reds_core.storage.folder import Folder

Listener = Callable[[str, dict[str, Any]], None]  # "start", "shard" or "retry", and figures

# Shards that fail, each wherever it is tried, before the first one is made: the others would too. In a folder that holds finished
# shards more are waited for: those that failed before come first.
HOPELESS = 3

_listeners: list[Listener] = []
_one = threading.RLock()


def listen(listener: Listener) -> None:
    """Calls `listener` with every event of the flows that run in this process."""
    _listeners.append(listener)


@contextlib.contextmanager
def heard_by(listener: Listener) -> Iterator[None]:
    """Does the same as `listen`, for the block alone."""
    listen(listener)
    try:
        yield
    finally:
        _listeners.remove(listener)


def announce(event: str, **figures: Any) -> None:
    """Sends an event to every listener."""
    # Shards announce themselves from threads of their own, and listeners count.
    with _one:
        for listener in _listeners:
            listener(event, figures)


def _may_pass(error: object) -> bool:
    """Returns whether a shard may succeed next time: if it or its worker was lost, but not by a wrong input or a full disk."""
    return not isinstance(error, RedsError) or isinstance(error, WorkerDied | ShardDamaged)


def _decide_and_announce_retry(task: Any, run: Any, state: Any) -> bool:
    """Returns whether to make a failed shard again, and announces it if so. Prefect asks only while tries are left."""
    error = state.result(raise_on_failure=False)
    if not _may_pass(error):
        return False
    announce("retry", error=str(error))
    return True


def _shard_and_device(parameters: dict[str, Any]) -> str:
    return f"{stem(parameters['index'])} on {parameters['engine'].here()}"


@task(
    cache_policy=NO_CACHE,
    retries=4,
    retry_condition_fn=_decide_and_announce_retry,
    task_run_name=_shard_and_device,  # type: ignore[arg-type]
)
def make_shard(index: int, engine: Engine) -> Manifest:
    """Makes one shard on the device of the calling thread, unless another run has made it meanwhile, and announces it.

    It does so itself: the flow looks at none before it has submitted all, which takes minutes for 50,000.
    """
    manifest = engine(index)
    announce("shard", manifest=manifest)
    return manifest


def in_order(folder: Folder, todo: list[int]) -> list[int]:
    """Returns the shards in the order in which this run makes them.

    Where nothing keeps other runs out, each takes an order of its own: in the same one, all would do the same work.
    """
    return todo if folder.has_locks else random.Random(str(runtime.flow_run.id)).sample(todo, len(todo))


def _hopeless(failed: int, todo: int, error: Exception) -> str:
    return f"{failed} shards failed before one of {todo} was made: {error}. Remove the cause, and run again to make them"


def made_here(parameters: Parameters, spec: Spec, folder: Folder, todo: list[int]) -> dict[int, Exception]:
    """Makes shards and returns the errors of those that could not be made. Raises at once what would stop them all."""
    if not todo:
        return {}
    shown = ProgressArtifact(spec.name, len(todo))
    engine = open_engine(parameters.engine, parameters.request(folder, spec), parameters.device, parameters.workers)
    failures: dict[int, Exception] = {}
    made, most = 0, HOPELESS if not indices(folder.files(), "json") else 4 * HOPELESS
    threads: ThreadPoolTaskRunner[Any] = ThreadPoolTaskRunner(max_workers=engine.slots)
    # The runner waits for its threads when it ends. The engine is closed first, so that threads which wait for it give up.
    with threads as runner, contextlib.closing(engine):
        futures: dict[Any, int] = {
            runner.submit(make_shard, {"index": index, "engine": engine}): index for index in in_order(folder, todo)
        }
        for future in as_completed(list(futures)):
            outcome = future.result(raise_on_failure=False)
            if isinstance(outcome, UserError | StorageError):
                raise outcome
            if isinstance(outcome, Exception):
                failures[futures[future]] = outcome
                if len(failures) == most < len(todo) and not made:
                    raise RunError(_hopeless(most, len(todo), outcome))
            else:
                made += 1
                shown.step()
    # Whatever the workers say, the folder decides.
    lost = set(todo) - set(indices(folder.files(), "json")) - set(failures)
    return failures | {index: RunError(f"it was made, but is not in {folder}: do all workers see the same one?") for index in lost}
