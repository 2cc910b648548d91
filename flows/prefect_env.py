"""Prefect's environment where nobody has set one up: a quiet API that this process starts, with a home of its own.

Call `settle` before prefect is imported for the first time: it reads its settings then.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import subprocess
import sys
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
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # malloc.h


def settle() -> bool:
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


def tie_to_this_process() -> None:
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


def reach() -> None:
    """Starts the embedded API, or greets the server at PREFECT_API_URL. Raises UserError if nobody answers there."""
    import httpx
    from prefect.client.orchestration import get_client

    try:
        with get_client(sync_client=True) as client:
            client.hello()
    except httpx.TransportError as error:
        raise UserError(
            f"no Prefect server answers at PREFECT_API_URL, {os.environ.get('PREFECT_API_URL')}: {error or type(error).__name__}; "
            "start one with "
            "`prefect server start`, or correct the address"
        ) from error


def child_processes() -> list[int]:
    """Returns the processes that this one has started: workers, and the embedded API. None where there is no /proc."""
    found = []
    for listing in Path("/proc/self/task").glob("*/children"):
        with contextlib.suppress(OSError):
            found += [int(pid) for pid in listing.read_text().split()]
    return found


@contextlib.contextmanager
def first_start() -> Iterator[None]:
    """Lets one process at a time set up a new home: several would race to create its database."""
    folder = Path(os.environ.get("PREFECT_HOME", home()))
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".reds-start").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def return_memory() -> None:
    """Makes glibc return large blocks at once: batches of ever different sizes would fragment its heap, and a long run would grow.

    Large means 32 MB, glibc's own limit: with 1 MB, page faults for every layer's activations took a third of the time.
    """
    if sys.platform == "linux":
        mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # other C libraries have no such function
        if mallopt:
            mallopt(M_MMAP_THRESHOLD, 2**25)
            mallopt(M_TRIM_THRESHOLD, 2**28)
