"""A spec as a scheduled deployment: Prefect's server keeps the schedule, `prefect worker start` on any machine that reaches it runs the flow."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from prefect.client.orchestration import get_client
from prefect.exceptions import ObjectNotFound
from prefect.schedules import Cron

from flows.augment import augment
from reds_core.errors import UserError

ROOT = Path(__file__).parent.parent  # where a worker finds this package's code


def deploy(name: str, pool: str, cron: str, timezone: str, concurrency: int, parameters: dict[str, Any]) -> str:
    """Registers the flow with these parameters and returns the deployment's full name.

    Args:
        name: of the deployment; one of the same name is replaced.
        pool: a work pool of type process that exists.
        cron, timezone: when to run, such as "0 2 * * *" and "Europe/Berlin".
        concurrency: runs of the deployment at once; the others wait.
        parameters: the flow's, with absolute paths: a worker starts in a folder of its own.

    Raises:
        UserError: there is no such pool, or the schedule cannot be read.
    """
    _check_pool(pool)
    try:
        schedule = Cron(cron, timezone=str(ZoneInfo(timezone)))
    except (ValueError, ZoneInfoNotFoundError) as error:
        raise UserError(f"the schedule {cron!r} in {timezone} cannot be read: {error}") from error
    flow: Any = augment.from_source(source=str(ROOT), entrypoint="flows/augment.py:augment")
    # Prefect prints a table of the one deployment; the program says so in a line.
    with contextlib.redirect_stdout(io.StringIO()):
        flow.deploy(
            name=name, work_pool_name=pool, schedules=[schedule], concurrency_limit=concurrency, parameters=parameters,
            print_next_steps=False, ignore_warnings=True,
        )  # fmt: skip
    return f"{augment.name}/{name}"


def _check_pool(name: str) -> None:
    try:
        with get_client(sync_client=True) as client:
            found = client.read_work_pool(name)
    except ObjectNotFound as error:
        raise UserError(f"there is no work pool {name!r}; `prefect work-pool create {name} --type process` makes one") from error
    if found.type != "process":
        raise UserError(f"the work pool {name!r} is of type {found.type}; workers that run this flow need one of type process")
