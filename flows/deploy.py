"""A spec as a scheduled deployment: Prefect's server keeps the schedule, `prefect worker start` on any machine that reaches it runs the flow."""

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

from flows.augment import augment, make_shards
from reds_core.errors import UserError

ROOT = Path(__file__).parent.parent  # where a worker finds this package's code
HEARTBEAT, SILENCE = 60, 300  # seconds; a server that is restarted must not make its healthy runs look dead
ENDED = ("Completed", "Failed", "Cancelled", "Crashed", "TimedOut")


def deploy(
    name: str, pool: str, parents: str, schedule: Schedule, concurrency: int, notify: str | None, parameters: dict[str, Any]
) -> str:
    """Registers the flow with these parameters and returns the deployment's full name.

    Args:
        name: of the deployment; one of the same name is replaced.
        pool: a work pool of type process whose workers make shards.
        parents: the pool for runs that only wait for others, if `parameters["split"]` is set; else not used.
        schedule: when to run.
        concurrency: runs of the deployment at once; the others wait.
        notify: a notification block that hears of runs that failed, "TYPE/NAME".
        parameters: the flow's, with absolute paths: a worker starts in a folder of its own.

    Raises:
        UserError: there is no such pool or block.
    """
    block = _block(notify) if notify else None
    flows: list[tuple[Any, str, dict[str, Any]]]
    if parameters["split"]:
        flows = [(augment, parents, {"schedules": [schedule]}), (make_shards, pool, {})]
    else:
        flows = [(augment, pool, {"schedules": [schedule]})]
    for used in {flow_pool for _, flow_pool, _ in flows}:
        _check_pool(used)
    registered = []
    for flow, flow_pool, options in flows:
        parent = {"concurrency_limit": concurrency, "parameters": parameters} if flow is augment else {}
        source: Any = flow.from_source(source=str(ROOT), entrypoint=f"flows/augment.py:{flow.fn.__name__}")
        # Prefect prints a table of the one deployment; the program says so in a line.
        with contextlib.redirect_stdout(io.StringIO()):
            registered.append(
                source.deploy(
                    name=name, work_pool_name=flow_pool, print_next_steps=False, ignore_warnings=True,
                    job_variables={"env": {"PREFECT_FLOWS_HEARTBEAT_FREQUENCY": str(HEARTBEAT)}}, **parent, **options,
                )
            )  # fmt: skip
    _automate(_crash_the_silent(name, registered))
    if block:
        _automate(_tell_of_failures(name, registered[0], block))
    return f"{augment.name}/{name}"


def cron(text: str, timezone: str) -> Schedule:
    """A schedule such as "0 2 * * *" in "Europe/Berlin". Raises UserError if it cannot be read."""
    try:
        return Cron(text, timezone=str(ZoneInfo(timezone)))
    except (ValueError, ZoneInfoNotFoundError) as error:
        raise UserError(f"the schedule {text!r} in {timezone} cannot be read: {error}") from error


def _check_pool(name: str) -> None:
    try:
        with get_client(sync_client=True) as client:
            found = client.read_work_pool(name)
    except ObjectNotFound as error:
        raise UserError(f"there is no work pool {name!r}; `prefect work-pool create {name} --type process` makes one") from error
    if found.type != "process":
        raise UserError(f"the work pool {name!r} is of type {found.type}; workers that run this flow need one of type process")


def _block(notify: str) -> Any:
    kind, _, name = notify.partition("/")
    try:
        with get_client(sync_client=True) as client:
            return client.read_block_document_by_name(name, kind).id
    except ObjectNotFound as error:
        raise UserError(
            f"there is no notification block {notify!r}; give TYPE/NAME, such as slack-webhook/night, of a block that the server has"
        ) from error


def _crash_the_silent(name: str, deployments: list[Any]) -> Automation:
    """A run whose machine died would stay "running" for ever, and hold what it holds: without a heartbeat it counts as crashed."""
    beat = "prefect.flow-run.heartbeat"
    return Automation(
        name=f"{augment.name}/{name}: crashed without a heartbeat",
        trigger=EventTrigger(
            match={"prefect.resource.id": ["prefect.flow-run.*"]}, match_related=_of(deployments), for_each={"prefect.resource.id"},
            after={beat}, expect={beat, *(f"prefect.flow-run.{state}" for state in ENDED)},
            posture=Posture.Proactive, threshold=1, within=timedelta(seconds=SILENCE),
        ),
        actions=[ChangeFlowRunState(state=StateType.CRASHED, message=f"no heartbeat for {SILENCE} s")],
    )  # fmt: skip


def _tell_of_failures(name: str, deployment: Any, block: Any) -> Automation:
    """Tells a notification block of every run that failed or crashed, with the reason."""
    return Automation(
        name=f"{augment.name}/{name}: tell of failures",
        trigger=EventTrigger(
            expect={f"prefect.flow-run.{state}" for state in ("Failed", "Crashed", "TimedOut")},
            match={"prefect.resource.id": ["prefect.flow-run.*"]}, match_related=_of([deployment]),
            posture=Posture.Reactive, threshold=1,
        ),
        actions=[
            SendNotification(
                block_document_id=block,
                subject="{{ flow.name }}/{{ deployment.name }}: {{ flow_run.state.name }}",
                body="{{ flow_run.name }} ({{ flow_run|ui_url }}): {{ flow_run.state.message }}",
            )
        ],
    )  # fmt: skip


def _of(deployments: list[Any]) -> dict[str, Any]:
    return {"prefect.resource.role": "deployment", "prefect.resource.id": [f"prefect.deployment.{d}" for d in deployments]}


def _automate(automation: Automation) -> None:
    """Registers an automation, or changes the one of its name."""
    try:
        found: Any = Automation.read(name=automation.name)
    except ValueError:
        automation.create()
    else:
        automation.id = found.id
        automation.update()
