"""Prefect's environment where nobody has set one up: a quiet API that this process starts, with a home of its own.

Call `set_environment` before prefect is imported for the first time: it reads its settings then.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

from reds_core.errors import UserError

QUIET = {
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    # The program prints what matters itself; Prefect would add a traceback for every mistake in a spec.
    "PREFECT_LOGGING_LEVEL": "CRITICAL",
    "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore",
    "PREFECT_CLI_PROMPT": "false",
    "PREFECT_SHOW_WELCOME_MESSAGE": "false",
}
EMBEDDED = {
    "PREFECT_SERVER_ALLOW_EPHEMERAL_MODE": "true",
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",  # the default of 20 is too short on a busy machine
}


def set_environment() -> bool:
    """Sets the variables that the user has not set. Returns whether the embedded API will be used."""
    embedded = not os.environ.get("PREFECT_API_URL")
    defaults = dict(QUIET)
    if embedded:
        defaults |= EMBEDDED | {"PREFECT_HOME": str(home())}
    for key, value in defaults.items():
        os.environ.setdefault(key, value)
    return embedded


def home() -> Path:
    """Returns where the embedded API keeps its database: $REDS_PREFECT_HOME, or a folder in the user's cache."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(os.environ.get("REDS_PREFECT_HOME") or cache / "reds" / "prefect")


def stop_api_with_this_process() -> None:
    """Makes the embedded API, which is about to start, end with this process: after a SIGKILL nobody else would stop it.

    A shell watches: it remembers this process's children, and stops those of Prefect's when it is gone.
    """
    mine = os.getpid()
    script = (
        # A process that is dead but not yet waited for has no `exe`.
        f'while readlink /proc/{mine}/exe; do seen=$(cat /proc/{mine}/task/*/children); [ "$seen" ] && kept=$seen; sleep 1; done; '
        "for pid in $kept; do [ $pid != $$ ] && grep -q prefect /proc/$pid/cmdline && kill $pid; done"  # the shell is one of them
    )
    nowhere = subprocess.DEVNULL
    subprocess.Popen(["sh", "-c", script], stdin=nowhere, stdout=nowhere, stderr=nowhere, start_new_session=True)


def connect() -> None:
    """Starts the embedded API, or greets the server at PREFECT_API_URL. Raises UserError if nobody answers there."""
    import httpx
    from prefect.client.orchestration import get_client

    try:
        with get_client(sync_client=True) as client:
            client.hello()
    except httpx.TransportError as error:
        raise UserError(
            f"no Prefect server answers at PREFECT_API_URL, {os.environ.get('PREFECT_API_URL')}: {error or type(error).__name__}; "
            "start one with `prefect server start`, or correct the address"
        ) from error


@contextlib.contextmanager
def first_start() -> Iterator[None]:
    """Lets one process at a time set up a new home: several would race to create its database."""
    folder = Path(os.environ.get("PREFECT_HOME", home()))
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".reds-start").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
