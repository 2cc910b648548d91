"""The flow: a spec -> pending shards, a task each -> report and totals.

Prefect schedules, names, retries and shows the work; what is finished is decided by the manifests on disk alone, which Prefect's
cache could not see.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from prefect import flow, runtime, task
from prefect.cache_policies import NO_CACHE
from prefect.futures import as_completed
from prefect.task_runners import ThreadPoolTaskRunner

from flows.artifacts import ProgressArtifact, show
from flows.children import make_range
from flows.engines import Engine, let_code_in, open_engine
from flows.options import Engine as EngineName
from reds_core.errors import RedsError, RunError, SpecError, StorageError, UserError
from reds_core.runs import Totals, as_dict, told
from reds_core.seeds import plan, shard_range
from reds_core.shards import grown, made_meanwhile, opened, pending
from reds_core.spec import check_files, digest, load_spec
from reds_core.storage import Folder, folder_at
from reds_core.work import Manifest, Request

Listener = Callable[[str, dict[str, Any]], None]  # "start", "shard" or "retry", and figures

TASKS: ThreadPoolTaskRunner[Any] = ThreadPoolTaskRunner(max_workers=32)  # threads only wait for a slot of the engine

_listeners: list[Listener] = []


def listen(listener: Listener) -> None:
    """Calls `listener` with every event of the flows that run in this process."""
    _listeners.append(listener)


def _tell(event: str, **figures: Any) -> None:
    for listener in _listeners:
        listener(event, figures)


def _worth_another_try(task: Any, run: Any, state: Any) -> bool:
    """A dead worker is; a wrong input or a full disk is not."""
    error = state.result(raise_on_failure=False)
    retry = not isinstance(error, RedsError) or "worker on" in str(error)
    if retry:
        _tell("retry", error=str(error))
    return retry


@task(cache_policy=NO_CACHE, retries=2, retry_condition_fn=_worth_another_try, task_run_name="shard-{index:05d} on {where}")
def make_shard(index: int, engine: Engine, where: str) -> Manifest:
    """One shard, on a free slot of the engine; `where` is for people."""
    asked = engine.request
    return made_meanwhile(asked.folder, asked.spec, index) or engine(index)


@task(cache_policy=NO_CACHE, task_run_name="report")
def make_report(folder: Folder) -> Totals:
    """report.html, the dataset card and the UI's artifacts, of all finished shards."""
    from reds_core.report import write_pages
    from reds_core.summary import summarised

    with summarised(folder) as summary:
        show(summary, write_pages(summary))
        return summary.totals


def _run_name() -> str:
    return Path(str(runtime.flow_run.parameters.get("spec", "augment"))).stem


@flow(name="augment", flow_run_name=_run_name, task_runner=TASKS)  # type: ignore[arg-type]
def augment(
    spec: str,
    out: str = "outputs",
    engine: EngineName = "local",
    workers: int | None = None,
    device: str = "auto",
    batch: int | None = None,
    shards: str | None = None,
    overrides: list[str] | None = None,
    allow_code: bool = False,
    fresh: bool = False,
    least_accepted: float = 0.0,
    grow: bool = False,
    split: int | None = None,
) -> dict[str, Any]:
    """Makes the shards of a spec that are not finished yet, and the report of all.

    Args:
        spec: path of the spec's file.
        out: folder of all runs, a path or a URL.
        engine, workers, device, batch: where and in what portions shards are made; see flows.engines.
        shards: "A:B", only shards A <= k < B.
        overrides: "key.path=value", as in `reds run --set`.
        allow_code: whether code that the spec names may run.
        fresh: removes what an earlier run of the spec made.
        grow: makes the next `seeds.count` seeds if all before are finished, so that every run adds new ones.
        least_accepted: the share of candidates below which the run counts as failed; its shards are kept.
        split: shards of a child run, in a deployment whose workers share a run; None makes all of them here.

    Returns:
        The run's totals, with its "folder" and the number of shards made "now".

    Raises:
        UserError: the input is wrong. RunError: a shard could not be made, the others are; or too few candidates were accepted.
    """
    asked = _Asked(spec, out, overrides, allow_code, engine, workers, device, batch)
    if grow and not fresh:
        asked.spec = grown(asked.spec, asked.out)
    wanted = shard_range(shards, len(plan(asked.spec)))
    # Children lock what they make themselves; this run only looks on.
    with opened(asked.spec, asked.out, wanted if split is None else range(0), fresh) as folder:
        todo = pending(folder, asked.spec, wanted)
        _tell("start", todo=len(todo), planned=len(wanted), folder=folder, seeds=asked.spec.seeds.count)
        failures = _made_here(asked, folder, todo) if split is None else _made_by_children(asked, folder, todo, split)
    summed = make_report(folder)
    if failures:
        names = ", ".join(str(k) for k in sorted(failures))
        raise RunError(
            f"{len(failures)} of {len(todo)} shards failed ({names}): {next(iter(failures.values()))}. Run again to make them"
        )
    if summed.candidates and summed.share < least_accepted:
        raise RunError(
            f"{summed.share:.0%} of {summed.candidates} candidates were accepted, fewer than the {least_accepted:.0%} asked for: "
            f"{told(summed.rejected)}. The shards are kept in {folder}; `reds check` suggests tolerances"
        )
    return {**as_dict(summed), "folder": str(folder), "now": len(todo)}


@flow(name="make-shards", task_runner=TASKS)  # type: ignore[arg-type]
def make_shards(
    spec: str,
    out: str,
    shards: str,
    engine: EngineName = "local",
    workers: int | None = None,
    device: str = "auto",
    batch: int | None = None,
    overrides: list[str] | None = None,
    allow_code: bool = False,
) -> int:
    """A child run: the shards of a range that are not finished yet. Arguments as for `augment`.

    Returns:
        How many it made.

    Raises:
        UserError: the input is wrong. RunError: a shard could not be made, or another run is making them.
    """
    asked = _Asked(spec, out, overrides, allow_code, engine, workers, device, batch)
    wanted = shard_range(shards, len(plan(asked.spec)))
    with opened(asked.spec, asked.out, wanted) as folder:
        todo = pending(folder, asked.spec, wanted)
        failures = _made_here(asked, folder, todo)
    if failures:
        raise RunError(f"{len(failures)} of {len(todo)} shards failed: {next(iter(failures.values()))}")
    return len(todo)


class _Asked:
    """What a run was asked to do, its spec loaded and its files checked."""

    def __init__(
        self, path: str, out: str, overrides: list[str] | None, allow_code: bool, engine: str, workers: int | None, device: str,
        batch: int | None,
    ) -> None:  # fmt: skip
        self.path, self.overrides, self.allow_code = path, overrides or [], allow_code
        self.engine, self.workers, self.device, self.batch = engine, workers, device, batch
        self.spec, self.out = load_spec(path, self.overrides), folder_at(out)
        check_files(self.spec)
        self.paths = let_code_in(Path(path)) if allow_code else ()

    def of_children(self) -> dict[str, Any]:
        """The parameters of child runs, but for their shards."""
        return {
            "spec": self.path, "out": str(self.out), "engine": self.engine, "workers": self.workers, "device": self.device,
            "batch": self.batch, "allow_code": self.allow_code,
            "overrides": [*self.overrides, f"seeds.count={self.spec.seeds.count}"],
        }  # fmt: skip


def _made_here(asked: _Asked, folder: Folder, todo: list[int]) -> dict[int, Exception]:
    """Makes shards and returns the errors of those that could not be made. What would stop them all stops at once."""
    if not todo:
        return {}
    request = Request(asked.spec, digest(asked.spec), folder, asked.batch, asked.allow_code, asked.paths)
    maker = open_engine(asked.engine, request, asked.device, asked.workers)
    shown = ProgressArtifact(asked.spec.name, len(todo))
    failures: dict[int, Exception] = {}
    try:
        futures = {make_shard.submit(index, maker, maker.where): index for index in todo}
        for future in as_completed(list(futures)):
            outcome = future.result(raise_on_failure=False)
            if isinstance(outcome, UserError | StorageError):
                raise outcome
            if isinstance(outcome, Exception):
                failures[futures[future]] = outcome
            else:
                _tell("shard", manifest=outcome)
                shown.step()
    finally:
        maker.close()
    return failures


def _made_by_children(asked: _Asked, folder: Folder, todo: list[int], split: int) -> dict[int, Exception]:
    """The same, by child runs of this run's own deployment, `split` shards each."""
    if not todo:
        return {}
    name, key = runtime.deployment.name, digest(asked.spec)
    if name is None:
        raise SpecError("split", ["only a run of a deployment has child runs; `reds deploy --split` makes one"])
    starts = sorted({k // split * split for k in todo})
    shown = ProgressArtifact(asked.spec.name, len(starts))
    futures = {
        make_range.submit(at, at + split, f"make-shards/{name}", key, asked.of_children() | {"shards": f"{at}:{at + split}"}): at
        for at in starts
    }
    errors: dict[int, Exception] = {}
    for future in as_completed(list(futures)):
        outcome = future.result(raise_on_failure=False)
        if isinstance(outcome, Exception):
            errors[futures[future]] = outcome
        shown.step()
    # Whatever the children say of themselves, the folder decides.
    lost = RunError("its child run has ended, and it is not there")
    return {k: errors.get(k // split * split, lost) for k in pending(folder, asked.spec, among=range(todo[0], todo[-1] + 1))}
