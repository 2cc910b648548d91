"""Prefect's environment when nobody set one up: an API inside this process, quiet, with a home of its own.

Call `settle` before prefect is imported for the first time: it reads its settings then.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

QUIET = {
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    # The flow prints what matters itself; Prefect would add a traceback for every mistake in a spec.
    "PREFECT_LOGGING_LEVEL": "CRITICAL",
    "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore",
    "PREFECT_CLI_PROMPT": "false",
    "PREFECT_SHOW_WELCOME_MESSAGE": "false",
}
EMBEDDED = {
    "PREFECT_SERVER_ALLOW_EPHEMERAL_MODE": "true",
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",  # the default of 20 is too short on a busy machine
}


def settle() -> bool:
    """Sets what the user did not set. Returns whether the embedded API will be used."""
    embedded = not os.environ.get("PREFECT_API_URL")
    defaults = dict(QUIET)
    if embedded:
        defaults |= EMBEDDED | {"PREFECT_HOME": str(home())}
    for key, value in defaults.items():
        os.environ.setdefault(key, value)
    return embedded


def home() -> Path:
    """Where the embedded API keeps its database: $REDS_PREFECT_HOME, or a folder in the user's cache."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(os.environ.get("REDS_PREFECT_HOME") or cache / "reds" / "prefect")


@contextlib.contextmanager
def first_start() -> Iterator[None]:
    """One process at a time sets up a new home: several would race to create its database."""
    folder = Path(os.environ.get("PREFECT_HOME", home()))
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".reds-start").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
