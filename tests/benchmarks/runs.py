"""What the benchmarks of what runs teach share: shards and trainings that are continued, by as many processes as one likes.

A small network leaves a GPU idle most of the time, so several processes that share one are faster than one.
"""

from __future__ import annotations

import multiprocessing
import pickle
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from typing import TypeVar

import torch

from reds_core.evaluation.evaluate import Evaluation, Row
from reds_core.evaluation.files import finished, write_rows
from reds_core.runs import worker
from reds_core.runs.plan import plan
from reds_core.runs.run_folder import opened
from reds_core.spec.digest import digest
from reds_core.spec.fields import Spec
from reds_core.storage.folder import Folder

A = TypeVar("A")
B = TypeVar("B")
Training = tuple[int, int, str]  # images a class, repeat, arm


def made(spec: Spec, out: Folder, workers: int) -> Folder:
    """Returns a spec's run in a folder of runs, finished."""
    with opened(spec, out) as folder:
        request = worker.Request(spec, digest(spec), folder, None, False, ())
        there = folder.files()
        missing = [index for index in range(len(plan(spec))) if f"shard-{index:05d}.json" not in there]
        make = partial(worker.make, request, "auto", torch.get_num_threads() if workers == 1 else 1)
        for manifest in each(make, missing, workers):
            print(f"{out}, shard {manifest.index}: {manifest.accepted} accepted, {manifest.rejected}", flush=True)
    return folder


def trainings(asked: Callable[[], Evaluation], place: Folder, workers: int) -> tuple[Evaluation, list[Row]]:
    """Returns an evaluation and its rows, in its order, training what is not trained yet.

    Args:
        asked: makes the evaluation; called once in every process.
        place: where the rows so far are kept.
        workers: processes.
    """
    here = asked()
    found = {_which(row): row for row in finished(place, here)}
    missing = [one for one in here.todo if one not in found]
    for row in each(partial(_trained, asked), missing, workers):
        found[_which(row)] = row
        write_rows(place, here, list(found.values()))
    return here, [found[one] for one in here.todo if one in found]


def quiet(text: str) -> None:
    """Says nothing of what is going on."""


def each(function: Callable[[A], B], items: Iterable[A], workers: int) -> Iterator[B]:
    """Yields a function's values, in order: from this process, or from several, a CPU thread each."""
    if workers == 1:
        yield from map(function, items)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, torch.set_num_threads, (1,)) as pool:
        yield from pool.map(function, items)


_asked: dict[bytes, Evaluation] = {}  # this process's last one, by what makes it


def _trained(asked: Callable[[], Evaluation], one: Training) -> Row:
    key = pickle.dumps(asked)
    if key not in _asked:
        _asked.clear()
        _asked[key] = asked()
    return next(_asked[key].rows([other for other in _asked[key].todo if other != one], quiet))


def _which(row: Row) -> Training:
    return row["per_class"], row["repeat"], row["arm"]
