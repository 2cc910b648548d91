"""`python -m flows` as other processes, most of them forked from one that has imported what every run imports.

A program spends three seconds of a core on imports alone; the standard library's fork server pays for them once. A fork has what a
program has: a process id, an environment, a working directory, output that is not a terminal, signals, an exit code. It cannot be
started with a library put before the system's (LD_PRELOAD), and its parent is the fork server; tests of such things, and one whole
run, start the program.
"""

from __future__ import annotations

import atexit
import contextlib
import itertools
import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flows import prefect_env
from tests.support import ROOT

Environment = Mapping[str, str]

FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["tests.support.preloaded"])
NUMBERS = itertools.count()


@dataclass(frozen=True)
class Program:
    """A process, and the files that hold what it prints."""

    pid: int
    ended: Callable[[float], int | None]  # the exit code, once it has one, after these seconds at most; minus a signal's number
    stdout: Path
    stderr: Path

    def returncode(self) -> int | None:
        return self.ended(0)

    def wait(self, seconds: float) -> int:
        """Returns its exit code. Raises TimeoutError if it goes on for longer."""
        code = self.ended(seconds)
        if code is None:
            raise TimeoutError(f"the program still runs after {seconds:g} s:\n{self.log()}")
        return code

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)

    def kill_all(self) -> None:
        """Kills it, and what it started in its session."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self.ended(20)

    def log(self) -> str:
        """Returns all that it has printed so far."""
        return self.stdout.read_text() + self.stderr.read_text()


Reds = Callable[..., subprocess.CompletedProcess[str]]  # `reds`, called with words
Start = Callable[[tuple[object, ...], Environment, Path], Program]


def outside() -> dict[str, str]:
    """Returns this process's environment for programs: they find this tree, use one thread, and know of no server or store."""
    keep = {k: v for k, v in os.environ.items() if not k.startswith(("PREFECT_", "AWS_"))}
    return keep | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "COLUMNS": "160", "DO_NOT_TRACK": "1"}


def started(words: tuple[object, ...], environment: Environment, cwd: Path) -> Program:
    """Starts `python -m flows WORDS`, the program itself."""
    stdout, stderr = _outputs(cwd)
    command = [sys.executable, "-m", "flows", *map(str, words)]
    with stdout.open("w") as out, stderr.open("w") as err:
        process = subprocess.Popen(command, cwd=cwd, env=environment, stdout=out, stderr=err, start_new_session=True)

    def ended(seconds: float) -> int | None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            return process.wait(seconds)
        return None

    return Program(process.pid, ended, stdout, stderr)


def forked(words: tuple[object, ...], environment: Environment, cwd: Path) -> Program:
    """Starts `python -m flows WORDS` by a fork that has its imports already."""
    stdout, stderr = _outputs(cwd)
    process = FORKS.Process(target=_main, args=([*map(str, words)], dict(environment), str(cwd), str(stdout), str(stderr)))
    process.start()
    assert process.pid

    def ended(seconds: float) -> int | None:
        process.join(seconds)
        return process.exitcode

    return Program(process.pid, ended, stdout, stderr)


def _outputs(cwd: Path) -> tuple[Path, Path]:
    """Makes two new files, beside the working directory: tests look at what programs leave in it."""
    number = next(NUMBERS)
    stdout, stderr = (cwd.parent / f"{cwd.name}-program{number}.{kind}" for kind in ("out", "err"))
    stdout.touch()
    stderr.touch()
    return stdout, stderr


def _main(words: list[str], environment: dict[str, str], cwd: str, stdout: str, stderr: str) -> None:
    os.setsid()
    os.chdir(cwd)
    for descriptor, (name, flags) in enumerate(((os.devnull, os.O_RDONLY), (stdout, os.O_WRONLY), (stderr, os.O_WRONLY))):
        file = os.open(name, flags)
        os.dup2(file, descriptor)
        os.close(file)
    sys.stdout, sys.stderr = (os.fdopen(descriptor, "w", buffering=1, closefd=False) for descriptor in (1, 2))
    os.environ.clear()
    os.environ.update(environment)
    prefect_env.set_environment()
    from prefect.context import refresh_global_settings_context

    refresh_global_settings_context()
    sys.argv = ["reds", *words]
    try:
        runpy.run_module("flows", run_name="__main__", alter_sys=True)
    finally:
        atexit._run_exitfuncs()  # which multiprocessing's processes skip


def finished(program: Program, seconds: float = 240) -> subprocess.CompletedProcess[str]:
    """Waits for a program to end, and returns its exit code and what it printed."""
    code = program.wait(seconds)
    return subprocess.CompletedProcess("reds", code, program.stdout.read_text(), program.stderr.read_text())


def children_of(pid: int) -> list[int]:
    """Returns the processes that a process has started and that still live."""
    found: list[int] = []
    for listing in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):  # the thread has ended
            found += map(int, listing.read_text().split())
    return found


def wait_until(condition: Callable[[], Any], seconds: float, why: Callable[[], str]) -> Any:
    """Returns what the condition returns once it is true. Raises AssertionError with `why` after so many seconds."""
    until = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < until, why()
        time.sleep(0.1)
    return found
