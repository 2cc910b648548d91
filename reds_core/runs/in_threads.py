"""Work on many samples in threads, in order: images are encoded and decoded outside of Python's lock."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import torch

Item = TypeVar("Item")
Result = TypeVar("Result")

AHEAD = 4  # items for each thread: enough that none waits, and few in memory
MOST_THREADS = 8


def in_threads(call: Callable[[Item], Result], items: Iterable[Item], threads: int | None = None) -> Iterator[Result]:
    """Yields `call` of every item, in order; raises what it raises.

    Args:
        call: what to do.
        items: with what.
        threads: how many; None: as many as torch uses, up to a few.
    """
    threads = threads or min(MOST_THREADS, torch.get_num_threads())
    with ThreadPoolExecutor(threads) as pool:
        ahead: deque[Future[Result]] = deque()
        for item in items:
            ahead.append(pool.submit(call, item))
            if len(ahead) > AHEAD * threads:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()
