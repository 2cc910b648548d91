"""This process: its memory, and the processes that it has started."""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
import threading
import time
from pathlib import Path

PARENT_POLL = 0.5  # seconds
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # malloc.h


def return_memory() -> None:
    """Makes glibc return large blocks at once: batches of many different sizes would fragment its heap, and a long run would grow.

    Large means 32 MB, glibc's own limit: with 1 MB, page faults for every layer's activations took a third of the time.
    """
    if sys.platform == "linux":
        mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # other C libraries have no such function
        if mallopt:
            mallopt(M_MMAP_THRESHOLD, 2**25)
            mallopt(M_TRIM_THRESHOLD, 2**28)


def child_processes() -> list[int]:
    """Returns the processes that this one has started: workers, and the embedded API. An empty list where there is no /proc."""
    found = []
    for listing in Path("/proc/self/task").glob("*/children"):
        with contextlib.suppress(OSError):
            found += [int(pid) for pid in listing.read_text().split()]
    return found


def end_with(parent: int) -> None:
    """Makes this process end when its parent does, however the parent ends."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(PARENT_POLL)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
