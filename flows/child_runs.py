"""One run shared by several workers: a child run for every range of shards, taken by whichever worker of the pool is free.

The parent computes nothing: it submits, waits, and makes sure that no range is lost. A worker that joins late takes what is queued;
a child that crashed is submitted again by its task's retry. What a parent had submitted before it died is found by its key, not
submitted twice.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import time
from typing import Any
from uuid import UUID

import httpx
from prefect import flow, get_run_logger, runtime, task
from prefect.cache_policies import NO_CACHE
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import FlowRun
from prefect.deployments import run_deployment
from prefect.futures import as_completed
from prefect.states import Crashed
from prefect.task_runners import ThreadPoolTaskRunner

from flows.artifacts import ProgressArtifact
from flows.parameters import Parameters
from flows.shards import made_here
from reds_core.errors import DeviceFailed, ModelError, RedsError, RunError, SpecError, WorkerDied
from reds_core.runs.plan import plan, shard_range
from reds_core.runs.run_folder import opened, pending
from reds_core.spec.digest import digest
from reds_core.spec.fields import Spec
from reds_core.storage.folder import Folder

WAITING: ThreadPoolTaskRunner[Any] = ThreadPoolTaskRunner(max_workers=128)  # a thread for every child run that is waited for
POLL, WARN_AFTER = 5.0, 120.0  # seconds; a child that waits longer for a worker is worth a warning
NOT_TAKEN = (
    "no worker has taken %r yet; start another one with `prefect worker start`. If parents and children share a pool, this run "
    "itself occupies a worker with --limit 1: give parents a pool of their own"
)
GIVE_UP_AFTER = 3600.0  # seconds without an answer from the server


@flow(name="make-shards")
def make_shards(parameters: Parameters, shards: str) -> Any:
    """Makes, as a child run, the shards of a range "A:B" that are not finished yet.

    Returns:
        How many it made; the state Crashed if shards failed by what may be the fault of this worker's device: the parent then
        submits the range again, for any worker.

    Raises:
        UserError: the input is wrong. RunError: a shard could not be made, or another run is making them.
    """
    spec = parameters.loaded()
    wanted = shard_range(shards, len(plan(spec)))
    with opened(spec, parameters.place(), wanted) as folder:
        todo = pending(folder, spec, wanted)
        try:
            failures = made_here(parameters, spec, folder, todo)
        except ModelError as error:
            if isinstance(error.__cause__, RedsError | None):
                raise
            # The network may be wrong, or this machine's device is, which the parent finds out on another one.
            return Crashed(message=str(error))
    if not failures:
        return len(todo)
    why = f"{len(failures)} of {len(todo)} shards failed: {next(iter(failures.values()))}"
    if any(isinstance(error, DeviceFailed | WorkerDied) for error in failures.values()):
        return Crashed(message=why)
    raise RunError(why)


def made_by_children(parameters: Parameters, spec: Spec, folder: Folder, todo: list[int], split: int) -> dict[int, Exception]:
    """Has shards made by child runs of this run's own deployment, `split` shards each. Returns the errors of those not made."""
    if not todo:
        return {}
    name = runtime.deployment.name
    if name is None:
        raise SpecError("split", ["only a run of a deployment has child runs; `reds deploy --split` makes one"])
    starts = sorted({k // split * split for k in todo})
    shown = ProgressArtifact(spec.name, len(starts))
    shared = parameters.of_child(spec.seeds.number)
    # Equal requests share a child; a changed file makes another one.
    key = hashlib.sha256(json.dumps([digest(spec), shared]).encode()).hexdigest()[:16]
    futures = {
        make_range.submit(at, at + split, f"make-shards/{name}", key, {"parameters": shared, "shards": f"{at}:{at + split}"}): at
        for at in starts
    }
    errors: dict[int, Exception] = {}
    for future in as_completed(list(futures)):
        outcome = future.result(raise_on_failure=False)
        if isinstance(outcome, Exception):
            errors[futures[future]] = outcome
        shown.step()
    # Whatever the children say of themselves, the folder decides.
    lost = RunError("its child run has ended, and it is not there")
    return {k: errors.get(k // split * split, lost) for k in pending(folder, spec, among=range(todo[0], todo[-1] + 1))}


class ChildCrashed(RunError):
    """A child's process, machine or device died."""


def _is_away(error: object) -> bool:
    """Returns whether the server did not answer, or answered that it cannot."""
    answered = isinstance(error, httpx.HTTPStatusError) and error.response.status_code < 500
    return isinstance(error, httpx.TransportError | httpx.HTTPStatusError) and not answered


def _crashed(task: Any, run: Any, state: Any) -> bool:
    """Returns whether to try a child again: one that crashed, or whose server was away. A child's own error would come again."""
    error = state.result(raise_on_failure=False)
    return isinstance(error, ChildCrashed) or _is_away(error)


@task(
    cache_policy=NO_CACHE,
    retries=4,
    retry_delay_seconds=[2, 20, 60, 300],
    retry_condition_fn=_crashed,
    task_run_name="shards {first}:{end}",
)
def make_range(first: int, end: int, deployment: str, key: str, parameters: dict[str, Any]) -> None:
    """Has shards first <= k < end made by a child run.

    Args:
        first, end: the range.
        deployment: of the flow `make_shards`, by its full name.
        key: of the run; a range of equal keys shares a child.
        parameters: the child's.

    Raises:
        RunError: the child did not complete.
    """
    child = _attached(deployment, f"{key}-{first}-{end}", f"shards {first}:{end}", parameters)
    run = _finished(child.id)
    state = run.state
    if state is not None and not state.is_completed():
        error = ChildCrashed if state.is_crashed() else RunError
        raise error(f"the run {run.name!r} ended as {state.name}: {state.message}")


def _attached(deployment: str, key: str, name: str, parameters: dict[str, Any]) -> FlowRun:
    """Returns the child run of this key: one that is queued or running, or else a new one."""
    attempts = itertools.count()
    while True:
        found: Any = run_deployment(
            deployment, parameters=parameters, timeout=0, flow_run_name=name, idempotency_key=f"{key}-{next(attempts)}"
        )
        run: FlowRun = found
        if run.state is None or not run.state.is_final():
            return run


def _finished(run_id: UUID) -> FlowRun:
    """Returns a child run once it has ended. Waits for a server that is away for a while."""
    began, warned = time.monotonic(), False
    heard = began
    with get_client(sync_client=True) as client:
        while True:
            try:
                run = client.read_flow_run(run_id)
            except httpx.HTTPError as error:
                if not _is_away(error) or time.monotonic() - heard > GIVE_UP_AFTER:
                    raise
                time.sleep(POLL)
                continue
            heard = time.monotonic()
            if run.state is not None and run.state.is_final():
                return run
            if not warned and run.start_time is None and time.monotonic() - began > WARN_AFTER:
                warned = True
                get_run_logger().warning(NOT_TAKEN, run.name)
            time.sleep(POLL)
