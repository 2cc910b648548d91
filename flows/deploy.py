"""A spec as a scheduled deployment.

Prefect's server keeps the schedule; workers (`prefect worker start`), on any machine that reaches the server, run the flow.
"""

from __future__ import annotations

import contextlib
import io
from datetime import timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from prefect.automations import Automation
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import StateType
from prefect.events import EventTrigger, Posture
from prefect.events.actions import ChangeFlowRunState, SendNotification
from prefect.exceptions import ObjectNotFound
from prefect.schedules import Cron, Schedule

from flows.augment import augment
from flows.child_runs import make_shards
from reds_core.errors import UserError

ROOT = Path(__file__).parent.parent  # where a worker finds this package's code
HEARTBEAT, SILENCE = 60, 300  # seconds; a restart of the server must not make healthy runs look dead
ALIVE = (
    "Running", "Scheduled", "Late", "AwaitingConcurrencySlot", "AwaitingRetry", "Completed", "Failed", "Cancelled", "Crashed",
    "TimedOut",
)  # fmt: skip


def deploy(
    name: str,
    pool: str,
    parents: str,
    schedule: Schedule,
    concurrency: int,
    notify: str | None,
    parameters: dict[str, Any],
    replace: bool = False,
) -> str:
    """Registers the flow with these parameters and returns the deployment's full name.

    Args:
        name: of the deployment; one of the same name and spec is replaced.
        pool: a work pool of type process whose workers make shards.
        parents: the pool for runs that only wait for child runs, if `parameters["split"]` is set; else not used.
        schedule: when to run.
        concurrency: runs of the deployment at once; the others wait.
        notify: a notification block that is told of failed runs, "TYPE/NAME".
        parameters: the flow's, with absolute paths: a worker starts in a folder of its own.
        replace: whether to replace one of the same name and another spec.

    Raises:
        UserError: there is no such pool or block, or a deployment of another spec has this name.
    """
    if not replace:
        _check_name(name, parameters["spec"])
    block = _block(notify) if notify else None
    shared = bool(parameters["split"])
    for used in {pool, parents} if shared else {pool}:
        _check_pool(used)
    children = [_registered(make_shards, name, pool)] if shared else []
    where = parents if shared else pool
    deployed = [
        _registered(augment, name, where, concurrency_limit=concurrency, parameters=parameters, schedules=[schedule]),
        *children,
    ]
    if not shared:
        _forget(f"{make_shards.name}/{name}")
    _automate(f"{augment.name}/{name}: crashed without a heartbeat", _crash_the_silent(deployed))
    _automate(f"{augment.name}/{name}: tell of failures", _tell_of_failures(deployed[0], block) if block else None)
    return f"{augment.name}/{name}"


def _registered(flow: Any, name: str, pool: str, **options: Any) -> Any:
    """Registers a flow as a deployment and returns its id."""
    source = flow.from_source(source=str(ROOT), entrypoint=f"{flow.fn.__module__.replace('.', '/')}.py:{flow.fn.__name__}")
    # Prefect prints a table of the one deployment; the program says so in a line.
    with contextlib.redirect_stdout(io.StringIO()):
        return source.deploy(
            name=name, work_pool_name=pool, print_next_steps=False, ignore_warnings=True,
            job_variables={"env": {"PREFECT_FLOWS_HEARTBEAT_FREQUENCY": str(HEARTBEAT)}}, **options,
        )  # fmt: skip


def _forget(deployment: str) -> None:
    """Removes a deployment that an earlier registration made and that this one does not need."""
    with contextlib.suppress(ObjectNotFound), get_client(sync_client=True) as client:
        client.delete_deployment(client.read_deployment_by_name(deployment).id)


def cron(text: str, timezone: str) -> Schedule:
    """Returns a schedule such as "0 2 * * *" in "Europe/Berlin". Raises UserError if it cannot be read."""
    try:
        return Cron(text, timezone=str(ZoneInfo(timezone)))
    except (ValueError, ZoneInfoNotFoundError) as error:
        raise UserError(f"the schedule {text!r} in {timezone} cannot be read: {error}") from error


def _check_name(name: str, spec: str) -> None:
    with get_client(sync_client=True) as client:
        try:
            found = client.read_deployment_by_name(f"{augment.name}/{name}")
        except ObjectNotFound:
            return
    other = (found.parameters or {}).get("spec")
    if other != spec:
        raise UserError(
            f"the deployment {augment.name}/{name} is that of another spec, {other}; change the name in {spec}, or replace it",
            parameter="replace",
        )


def _check_pool(name: str) -> None:
    try:
        with get_client(sync_client=True) as client:
            found = client.read_work_pool(name)
    except ObjectNotFound as error:
        raise UserError(
            f"there is no work pool {name!r}; create it with `prefect work-pool create {name} --type process`"
        ) from error
    if found.type != "process":
        raise UserError(f"the work pool {name!r} is of type {found.type}; workers that run this flow need one of type process")


def _block(notify: str) -> Any:
    kind, _, name = notify.partition("/")
    try:
        with get_client(sync_client=True) as client:
            return client.read_block_document_by_name(name, kind).id
    except ObjectNotFound as error:
        raise UserError(
            f"there is no notification block {notify!r}; give TYPE/NAME, such as slack-webhook/night, of a block that the "
            "server has"
        ) from error


def _crash_the_silent(deployments: list[Any]) -> dict[str, Any]:
    """Returns the automation that marks a run without a sign of life as crashed.

    A run whose machine died would otherwise seem to run for ever, and keep its place among the runs at once.
    """
    beat, taken = "prefect.flow-run.heartbeat", "prefect.flow-run.Pending"
    return {
        "trigger": EventTrigger(
            match={"prefect.resource.id": ["prefect.flow-run.*"]}, match_related=_of(deployments), for_each={"prefect.resource.id"},
            after={beat, taken}, expect={beat, *(f"prefect.flow-run.{state}" for state in ALIVE)},
            posture=Posture.Proactive, threshold=1, within=timedelta(seconds=SILENCE),
        ),
        "actions": [ChangeFlowRunState(state=StateType.CRASHED, message=f"no heartbeat for {SILENCE} s")],
    }  # fmt: skip


def _tell_of_failures(deployment: Any, block: Any) -> dict[str, Any]:
    """Returns the automation that tells a notification block of every run that failed or crashed, with the reason."""
    return {
        "trigger": EventTrigger(
            expect={f"prefect.flow-run.{state}" for state in ("Failed", "Crashed", "TimedOut")},
            match={"prefect.resource.id": ["prefect.flow-run.*"]}, match_related=_of([deployment]),
            posture=Posture.Reactive, threshold=1,
        ),
        "actions": [
            SendNotification(
                block_document_id=block,
                subject="{{ flow.name }}/{{ deployment.name }}: {{ flow_run.state.name }}",
                body="{{ flow_run.name }} ({{ flow_run|ui_url }}): {{ flow_run.state.message }}",
            )
        ],
    }  # fmt: skip


def _of(deployments: list[Any]) -> dict[str, Any]:
    return {"prefect.resource.role": "deployment", "prefect.resource.id": [f"prefect.deployment.{d}" for d in deployments]}


def _automate(name: str, wanted: dict[str, Any] | None) -> None:
    """Registers an automation, or changes the one of this name; removes it if none is wanted."""
    try:
        found: Any = Automation.read(name=name)
    except ValueError:
        found = None
    if wanted is None:
        if found:
            found.delete()
        return
    automation = Automation(name=name, **wanted)
    if found:
        automation.id = found.id
        automation.update()
    else:
        automation.create()
