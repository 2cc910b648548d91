"""The flow: a spec -> pending shards, a task each -> report and totals.

Prefect schedules, names, retries and shows the work; what is finished is decided by the manifests on disk alone, which Prefect's
cache could not see.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from prefect import flow, runtime, task
from prefect.cache_policies import NO_CACHE
from prefect.futures import as_completed
from prefect.task_runners import ThreadPoolTaskRunner

from flows.artifacts import ProgressArtifact, show
from flows.engines import Engine, Manifest, Request, let_code_in, open_engine
from reds_core.errors import RedsError, RunError, UserError
from reds_core.runs import Totals, as_dict, told
from reds_core.seeds import plan, shard_range
from reds_core.shards import grown, opened, pending
from reds_core.spec import check_files, digest, load_spec
from reds_core.storage import Folder, folder_at

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
    return engine(index)


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
    engine: Literal["local", "processes"] = "local",
    workers: int | None = None,
    device: str = "auto",
    batch: int | None = None,
    shards: str | None = None,
    overrides: list[str] | None = None,
    allow_code: bool = False,
    fresh: bool = False,
    least_accepted: float = 0.0,
    grow: bool = False,
) -> dict[str, Any]:
    """Makes the shards of a spec that are not finished yet.

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

    Returns:
        The run's totals, with its "folder" and the number of shards made "now".

    Raises:
        UserError: the input is wrong. RunError: a shard could not be made, the others are; or too few candidates were accepted.
    """
    loaded = load_spec(spec, overrides or [])
    check_files(loaded)
    place = folder_at(out)
    paths = let_code_in(Path(spec)) if allow_code else ()
    if grow and not fresh:
        loaded = grown(loaded, place)
    wanted = shard_range(shards, len(plan(loaded)))
    with opened(loaded, place, wanted, fresh) as folder:
        todo = [k for k in pending(folder, loaded) if k in wanted]
        _tell("start", todo=len(todo), planned=len(wanted), folder=folder, seeds=loaded.seeds.count)
        request = Request(loaded, digest(loaded), folder, batch, allow_code, paths)
        failures = _make_all(todo, request, engine, workers, device) if todo else {}
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


def _make_all(todo: list[int], request: Request, engine: str, workers: int | None, device: str) -> dict[int, Exception]:
    """Makes shards and returns the errors of those that could not be made. A wrong input stops all of it."""
    maker = open_engine(engine, request, device, workers)
    shown = ProgressArtifact(request.spec.name, len(todo))
    failures: dict[int, Exception] = {}
    try:
        futures = {make_shard.submit(index, maker, maker.where): index for index in todo}
        for future in as_completed(list(futures)):
            outcome = future.result(raise_on_failure=False)
            if isinstance(outcome, UserError):
                raise outcome
            if isinstance(outcome, Exception):
                failures[futures[future]] = outcome
            else:
                _tell("shard", manifest=outcome)
                shown.step()
    finally:
        maker.close()
    return failures
