"""One run shared by several workers: a child run for every range of shards, taken by whichever worker of the pool is free.

The parent computes nothing: it submits, waits, and sees to it that none is lost. A worker that joins late takes what is queued; a child
that crashed is submitted again by its task's retry. What a parent that died had submitted is found again by its key, and not doubled.
"""

from __future__ import annotations

import itertools
import time
from typing import Any
from uuid import UUID

import httpx
from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import FlowRun
from prefect.deployments import run_deployment

from reds_core.errors import RunError

POLL, PATIENCE = 2.0, 120.0  # seconds; a child that waits longer for a worker is worth a warning


class ChildCrashed(RunError):
    """A child's process or machine died."""


def _crashed(task: Any, run: Any, state: Any) -> bool:
    """What ended by an error of its own would end so again; and a server that was away while it was asked is asked again."""
    return isinstance(state.result(raise_on_failure=False), ChildCrashed | httpx.TransportError)


@task(cache_policy=NO_CACHE, retries=3, retry_condition_fn=_crashed, task_run_name="shards {first}:{end}")
def make_range(first: int, end: int, deployment: str, key: str, parameters: dict[str, Any]) -> None:
    """Shards first <= k < end, by a child run.

    Args:
        first, end: the range.
        deployment: of the flow `make_shards`, by its full name.
        key: of the run and the range; equal keys share a child.
        parameters: the child's.

    Raises:
        RunError: the child did not complete.
    """
    child = _attached(deployment, f"{key}-{first}-{end}", f"shards {first}:{end}", parameters)
    run = _finished(child.id)
    state = run.state
    if state is None or not state.is_completed():
        ended = f"{state.name}: {state.message}" if state else "gone"
        error = ChildCrashed if state is None or state.is_crashed() else RunError
        raise error(f"the run {run.name!r} ended as {ended}")


def _attached(deployment: str, key: str, name: str, parameters: dict[str, Any]) -> FlowRun:
    """The child run of this key: one that is queued or at work, or else a new one."""
    for attempt in itertools.count():
        found: Any = run_deployment(
            deployment, parameters=parameters, timeout=0, flow_run_name=name, idempotency_key=f"{key}-{attempt}"
        )
        run: FlowRun = found
        if run.state is None or not run.state.is_final():
            return run
    raise AssertionError  # never reached: count() does not end


def _finished(run_id: UUID) -> FlowRun:
    """A child run that has come to its end. A server that is away for a while is waited for."""
    began, warned = time.monotonic(), False
    while True:
        try:
            with get_client(sync_client=True) as client:
                run = client.read_flow_run(run_id)
        except httpx.TransportError:
            time.sleep(POLL)
            continue
        if run.state is not None and run.state.is_final():
            return run
        if not warned and run.start_time is None and time.monotonic() - began > PATIENCE:
            warned = True
            get_run_logger().warning(
                f"no worker has taken {run.name!r} yet; start one more with `prefect worker start`. A worker with --limit 1 is taken by this run "
                "itself if both are in one pool: give parents a pool of their own"
            )
        time.sleep(POLL)
