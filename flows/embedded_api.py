"""Prefect's API where nobody serves one: a process that is started here, watched, and ends with this one, however this one ends.

Prefect would start it too, but wait two minutes for a process that died at once, ask for it through the user's proxy, and keep what
it said to itself.
"""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path

from reds_core.errors import RedsError, UserError
from reds_core.storage.disk import writing

ROOM = 2**20  # bytes; a new database and its journal take a few of these
PATIENCE = "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS"  # Prefect's own name for how long it may take
LINES = 100  # of what the API has said
RAISED = re.compile(r"[A-Za-z_][\w.]*(Error|Exception|Exit): .+")
CURE = "name another folder in REDS_PREFECT_HOME"


def started(home: Path) -> str:
    """Starts the API with its database in a folder, and returns its URL.

    Raises:
        UserError: the folder cannot be written, or the API does not come up.
    """
    with first_start(home):
        # The child listens at this very socket: no other program can take the port meanwhile.
        with socket.socket() as listening:
            listening.bind(("127.0.0.1", 0))
            url = f"http://127.0.0.1:{listening.getsockname()[1]}/api"
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", "flows.embedded_api", str(os.getpid()), str(listening.fileno())],
                env=_environment(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                errors="replace", pass_fds=[listening.fileno()],
            )  # fmt: skip
        atexit.register(_stop, process)
        said: deque[str] = deque(maxlen=LINES)
        # Somebody has to read, or the pipe fills up and the API stops.
        listener = threading.Thread(target=_listen, args=(process, said), daemon=True)
        listener.start()
        why = _waited(process, url)
    if why:
        _stop(process)
        listener.join(1)
        raise UserError(
            f"Prefect's embedded API {why}: {_reason(said)}. Its database may be damaged, or that of a newer Prefect: remove "
            f"{home}, on which no run depends, or {CURE}"
        )
    return url


@contextlib.contextmanager
def first_start(home: Path) -> Iterator[None]:
    """Lets one process at a time set up a new home: several would race to create its database.

    Raises:
        UserError: the folder cannot be written, or its disk is full.
    """
    with contextlib.ExitStack() as stack:
        try:
            with writing(home, CURE, parameter=""):
                home.mkdir(parents=True, exist_ok=True)
                _check_room(home / ".reds-room")
                file = stack.enter_context((home / ".reds-start").open("w"))
                fcntl.flock(file, fcntl.LOCK_EX)
                _check_database(home)
        except UserError:
            raise
        except RedsError as error:
            raise UserError(f"Prefect's embedded API needs a folder for its database: {error}; or {CURE}") from error
        yield


def _check_room(file: Path) -> None:
    """Raises OSError if a disk has no room for a database."""
    try:
        with file.open("wb") as probe:
            probe.write(bytes(ROOM))
            probe.flush()
            os.fsync(probe.fileno())
    finally:
        file.unlink(missing_ok=True)


def _check_database(home: Path) -> None:
    """Raises OSError if the files of the database are there and cannot be written, those of another user for example."""
    for file in home.glob("prefect.db*"):
        with file.open("r+b"):
            pass


def _environment() -> dict[str, str]:
    package = str(Path(__file__).parent.parent)
    return os.environ | {
        "PYTHONPATH": os.pathsep.join(filter(None, [package, os.environ.get("PYTHONPATH")])),
        "PREFECT_UI_ENABLED": "0",
        # What Prefect itself tells an API that it starts for one program.
        "PREFECT__SERVER_EPHEMERAL": "1",
        "PREFECT__SERVER_FINAL": "1",
    }


def _listen(process: subprocess.Popen[str], said: deque[str]) -> None:
    assert process.stdout
    with process.stdout:
        said.extend(process.stdout)


def _waited(process: subprocess.Popen[str], url: str) -> str:
    """Waits until the API answers. Returns "", or what is wrong with it."""
    import httpx

    patience = float(os.environ.get(PATIENCE, 120))
    until = time.monotonic() + patience
    with httpx.Client(trust_env=False, timeout=5) as client:  # without the user's proxies
        while time.monotonic() < until:
            if process.poll() is not None:
                return f"ended with the exit code {process.returncode} before it answered"
            with contextlib.suppress(httpx.HTTPError):
                if client.get(f"{url}/health").status_code == httpx.codes.OK:
                    return ""
            time.sleep(0.1)
    return f"has not answered in {patience:g} s"


def _reason(said: deque[str]) -> str:
    """Returns the line that says why, of what a program printed before it died: its last exception, or its last words."""
    lines = [line.strip() for line in said if line.strip()]
    return next((line for line in reversed(lines) if RAISED.match(line)), lines[-1] if lines else "it said nothing")


def _stop(process: subprocess.Popen[str]) -> None:
    process.terminate()
    try:
        process.wait(5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _serve(parent: int, descriptor: int) -> None:
    """Serves the API at a bound socket until the process `parent` ends."""
    from flows.process import end_with

    end_with(parent)  # before the imports, which take seconds
    import uvicorn

    config = uvicorn.Config("prefect.server.api.server:create_app", factory=True, log_level="error", lifespan="on")
    uvicorn.Server(config).run(sockets=[socket.socket(fileno=descriptor)])
    sys.exit(3)  # it is stopped by a signal; if it returns, its start has failed


if __name__ == "__main__":
    _serve(int(sys.argv[1]), int(sys.argv[2]))
