"""Prefect servers for tests: each in a home of its own, whose database was set up once."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

from tests.support.programs import outside, wait_until

# The scheduler would add runs of its own to those that a test asks for.
QUIET = {"PREFECT_SERVER_ANALYTICS_ENABLED": "false", "PREFECT_SERVER_SERVICES_SCHEDULER_ENABLED": "false"}


def new_home(home: Path, shared: Path) -> Path:
    """Fills a Prefect home with an empty database, made once in the folder `shared`: a server takes five seconds to make one."""
    made = shared / "prefect-home"
    with (shared / ".prefect-home").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not made.exists():
            half = shared / "prefect-home.part"
            words = [sys.executable, "-m", "prefect", "server", "database", "upgrade", "--yes"]
            subprocess.run(words, env=outside() | QUIET | {"PREFECT_HOME": str(half)}, capture_output=True, timeout=240, check=True)
            half.rename(made)
    shutil.copytree(made, home, dirs_exist_ok=True)
    return home


class Server:
    """A server that can be killed and started again, at the same URL."""

    def __init__(self, home: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.home, self.api = home, f"http://127.0.0.1:{self.port}/api"
        self.start()

    def start(self) -> None:
        command = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(self.port)]
        environment = outside() | QUIET | {"PREFECT_HOME": str(self.home)}
        with (self.home / "log").open("ab") as log:
            self.process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
        wait_until(self.answers, 120, lambda: (self.home / "log").read_text())

    def answers(self) -> bool:
        with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
            return True
        return False

    def kill(self) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    close = kill
