"""Ctrl-C, SIGTERM and a terminal that is closed (SIGHUP), noticed by a thread of its own.

Python runs a signal's handler in the main thread, between two of its instructions: never, while a network that it called does not
return. The kernel's signal also writes a byte to a pipe, which this thread reads.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

from flows.process import child_processes

# Windows has no SIGHUP.
ENDING = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
PATIENCE = 2.0  # seconds that the main thread has to end in an orderly way
Leave = Callable[[int], None]

_leave: list[Leave] = []


@contextlib.contextmanager
def watched() -> Iterator[None]:
    """Ends the program at Ctrl-C for certain: the second one ends it at once, the first one if the main thread does not hear it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    before = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    threading.Thread(target=_watch, args=(reader,), daemon=True).start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        os.close(writer)


@contextlib.contextmanager
def left_by(leave: Leave) -> Iterator[None]:
    """Calls `leave` with the number of a signal at once, in another thread, for the time of a block."""
    _leave.append(leave)
    # nohup ignores SIGHUP: the program is to outlive its terminal.
    numbers = [n for n in ENDING if n in ENDING[:2] or signal.getsignal(n) != signal.SIG_IGN]
    before = [signal.signal(number, _heard) for number in numbers]
    try:
        yield
    finally:
        _leave.remove(leave)
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


def _heard(number: int, frame: Any) -> None:
    """Leaves a signal to the thread that watches."""


def _watch(reader: int) -> None:
    with os.fdopen(reader, "rb", buffering=0) as pipe:
        while number := pipe.read(1):
            if number[0] not in ENDING:
                continue
            if _leave:
                _leave[-1](number[0])
            elif number[0] == signal.SIGINT:
                ready, _, _ = select.select([pipe], [], [], PATIENCE)
                if not ready or pipe.read(1):  # else the program has ended by itself
                    print("reds: interrupted", file=sys.stderr, flush=True)
                    leave_at_once()


def leave_at_once() -> None:
    """Ends this process and those that it has started. Exit handlers would wait for threads that compute."""
    from reds_core.storage.disk import remove_scratch

    for child in child_processes():
        with contextlib.suppress(OSError):
            os.kill(child, signal.SIGKILL)
    remove_scratch()
    os._exit(130)
