"""What worker processes of the engine `processes` do in tests in place of a shard. Imports no torch: they start at once."""

from __future__ import annotations

import os
import threading
from typing import Any

from reds_core.errors import ModelError


def on_a_gpu_that_is_gone(request: Any, device: str, threads: int, index: int) -> dict[str, Any]:
    """Ends the process on cpu:0, and makes every shard on other devices."""
    if device == "cpu:0":
        os._exit(1)
    return {"index": index, "device": device}


def on_a_gpu_that_fails(request: Any, device: str, threads: int, index: int) -> dict[str, Any]:
    """Raises RuntimeError on cpu:0, and makes every shard on other devices."""
    if device == "cpu:0":
        raise RuntimeError("cuFFT error: CUFFT_EXEC_FAILED")
    return {"index": index, "device": device}


def on_a_gpu_that_seems_misused(request: Any, device: str, threads: int, index: int) -> dict[str, Any]:
    """Raises a user's mistake on cpu:0, and makes every shard on other devices."""
    if device == "cpu:0":
        raise ModelError("the network answers otherwise from call to call")
    return {"index": index, "device": device}


def a_mistake(request: Any, device: str, threads: int, index: int) -> dict[str, Any]:
    """Raises a user's mistake everywhere."""
    raise ModelError("the network does not fit")


def a_shard_that_fails(request: Any, device: str, threads: int, index: int) -> dict[str, Any]:
    """Raises RuntimeError for shard 0."""
    if index == 0:
        raise RuntimeError("odd")
    return {"index": index, "device": device}


class TwoPartError(Exception):
    """One that is pickled, but cannot be read again, and brings what cannot be pickled if it is asked to."""

    def __init__(self, text: str, *, lock: Any) -> None:
        super().__init__(text)
        self.lock = lock


def an_error_that_does_not_travel(request: Any, device: str, threads: int, index: int) -> dict[str, Any]:
    """Raises an error that cannot be pickled for shard 0, and for others one that cannot be read again."""
    raise TwoPartError("the cause", lock=threading.Lock() if index == 0 else None)


def a_poisonous_shard(request: Any, device: str, threads: int, index: int) -> dict[str, Any]:
    """Ends every process that makes shard 0."""
    if index == 0:
        os._exit(1)
    return {"index": index, "device": device}


def start(parent: int) -> None:
    """Starts a worker, without a watch over its parent."""
