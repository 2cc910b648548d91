"""The flow: a spec -> pending shards, made here or by child runs -> report and totals."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from prefect import flow, runtime, task
from prefect.cache_policies import NO_CACHE

from flows.artifacts import show
from flows.child_runs import WAITING, made_by_children
from flows.engines import EngineName
from flows.parameters import Parameters, wanted_until
from flows.shards import announce, made_here
from reds_core.errors import RunError
from reds_core.runs.plan import counting, plan, shard_range
from reds_core.runs.run_folder import grown, opened, pending
from reds_core.runs.totals import Totals, in_words
from reds_core.runs.until import Quota, Tally, quota_of
from reds_core.spec.fields import Spec
from reds_core.storage.folder import Folder
from reds_core.words import counted


@task(cache_policy=NO_CACHE, task_run_name="report")
def make_report(folder: Folder, made: int) -> Totals:
    """Writes report.html and the card of all finished shards and, if any was made now, the UI's artifacts. Returns totals."""
    from reds_core.reports.page import write_pages
    from reds_core.reports.summary import summarised

    with summarised(folder) as summary:
        report = write_pages(summary)
        if made:  # the server keeps every artifact for ever: a run that did nothing has nothing new to show
            show(summary, report)
        return summary.totals


def _run_name() -> str:
    return Path(str(runtime.flow_run.parameters.get("spec", "augment"))).stem


@flow(name="augment", flow_run_name=_run_name, task_runner=WAITING)  # type: ignore[arg-type]
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
    until: str | None = None,
) -> dict[str, Any]:
    """Makes the shards of a spec that are not finished yet, and the report of all.

    Args:
        spec: path of the spec's file.
        out: folder of all runs, a path or a URL.
        engine: where shards are made, "local", "processes" or "ray"; see flows.engines.
        workers: how many make shards at once; None: one for each device, or core.
        device: "auto", "cpu", "cuda", or one GPU such as "cuda:1".
        batch: images evaluated at once; None: by the images' size.
        shards: "A:B", only shards A <= k < B.
        overrides: "key.path=value", as in `reds run --set`.
        allow_code: whether code that the spec names may run.
        fresh: removes what an earlier run of the spec made.
        grow: makes the next `seeds.count` seeds if all before are finished, so that every run adds new ones.
        least_accepted: the share of candidates, or of those that `keep` can keep, below which the run counts as failed; its
            shards are kept.
        split: shards of a child run, in a deployment whose workers share a run; None makes all of them here.
        until: "per_class=N" or "per_class=N,seeds=M": makes seeds until every class has N accepted variants (of a run of seeds
            alone, seeds), whatever `seeds.count` is; at most M.

    Returns:
        The run's totals, with its "folder" and the number of shards made "now"; with `until`, also "classes": how many accepted
        samples each has.

    Raises:
        UserError: the input is wrong. RunError: a shard could not be made, the others are; or too few candidates were accepted, at
            all or of a class.
    """
    announce("run", id=str(runtime.flow_run.id or ""))
    parameters = Parameters(
        spec=spec, out=out, engine=engine, workers=workers, device=device, batch=batch, overrides=tuple(overrides or ()),
        allow_code=allow_code,
    )  # fmt: skip
    asked = wanted_until(until, grow, shards)
    loaded, place = parameters.loaded(), parameters.place()
    quota = None if asked is None else quota_of(loaded, asked)
    if grow and not fresh:
        loaded = grown(loaded, place)
    wanted = shard_range(shards, len(plan(loaded)))
    if fresh:
        with opened(loaded, place, fresh=True):
            pass  # this locks all shards, which child runs could not get past
    tally = Tally()
    if quota is None:
        folder, made, failures = _made(parameters, loaded, place, wanted, split)
    else:
        folder, made, failures = _made_until(parameters, quota, place, split, tally)
    # Shards that failed are reported before a report that failed.
    report = make_report(folder, made, return_state=True)
    if failures:
        raise RunError(
            f"{len(failures)} of {counted(made, 'shard')} failed ({_ranges(sorted(failures))}): {next(iter(failures.values()))}. "
            "Run again to make them" + ("" if report.is_completed() else f". No report was written: {report.message}")
        )
    summed: Totals = report.result()
    _check_accepted(summed, least_accepted * loaded.most_accepted, folder)
    result = {**summed.as_dict(), "folder": str(folder), "now": made}
    if quota is None:
        return result
    lacking = quota.failure(tally)
    if lacking:
        raise RunError(f"{folder}: {lacking}")
    return {**result, "classes": quota.counts(tally)}


def _made(
    parameters: Parameters, spec: Spec, out: Folder, wanted: range, split: int | None
) -> tuple[Folder, int, dict[int, Exception]]:
    """Makes the wanted shards that are missing.

    Returns:
        The run's folder, how many shards were missing, and the errors of those that still are.
    """
    # Children lock what they make; this run locks nothing.
    with opened(spec, out, wanted if split is None else range(0)) as folder:
        todo = pending(folder, spec, wanted)
        if todo or not wanted.start:  # of later steps of a run, those that were made before are not worth a line
            announce("start", todo=len(todo), planned=len(wanted), folder=folder, seeds=spec.seeds.number)
        if split is None:
            return folder, len(todo), made_here(parameters, spec, folder, todo)
        return folder, len(todo), made_by_children(parameters, spec, folder, todo, split)


def _made_until(
    parameters: Parameters, quota: Quota, out: Folder, split: int | None, tally: Tally
) -> tuple[Folder, int, dict[int, Exception]]:
    """Makes shards until the quota is met, or no more should be made. Adds what they hold to the tally; returns as `_made` does."""
    spec, made, begun, count = quota.spec, 0, 0, quota.first
    while True:
        step = counting(spec, count)
        shards = range(begun, len(plan(step)))
        folder, new, failures = _made(parameters, step, out, shards, split)
        made += new
        if failures:
            return folder, made, failures
        tally.add(folder, spec, shards)
        more = quota.next(tally)
        if more <= count:
            return folder, made, {}
        if new:
            announce("step", short=quota.short(tally), per_class=quota.until.per_class, seeds=count, more=more - count)
        begun, count = count // spec.shards.seeds, more


def _check_accepted(summed: Totals, least: float, folder: Folder) -> None:
    """Raises RunError if a smaller share of the candidates than `least` was accepted."""
    if summed.candidates and summed.share < least:
        raise RunError(
            f"{summed.share:.0%} of {counted(summed.candidates, 'candidate')} were accepted, less than the {least:.0%} "
            f"that is required: {in_words(summed.rejected)}. The shards are kept in {folder}; `reds check` shows what was measured "
            "and what to change"
        )


def _ranges(numbers: list[int]) -> str:
    """Returns sorted numbers in words: "0-3, 7"."""
    starts = [n for i, n in enumerate(numbers) if not i or numbers[i - 1] != n - 1]
    ends = [n for i, n in enumerate(numbers) if i + 1 == len(numbers) or numbers[i + 1] != n + 1]
    return ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in zip(starts, ends, strict=True))
