"""`reds verify`, `reds report` and `reds list`: what has been made."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli.options import RunFolder
from reds_core.words import counted

if TYPE_CHECKING:
    from reds_core.storage.folder import Folder


def verify(folder: RunFolder) -> None:
    """Hash and decode every shard of a run or an export, and name each damaged or missing one."""
    from flows.cli.checks import existing
    from reds_core.exports.manifest import is_export
    from reds_core.runs.manifest import cure, read_manifests
    from reds_core.runs.totals import totals
    from reds_core.runs.verify import STRAY, verify_run
    from reds_core.spec.load import load_spec
    from reds_core.storage.places import on_disk

    place = existing(folder)
    if is_export(place):
        _verify_export(place)
        return
    found = verify_run(place)
    for problem in (p for problems in found.values() for p in problems):
        print(problem)
    strays = found.pop(STRAY, [])
    bad = sum(bool(problems) for problems in found.values())
    with on_disk(place, "spec.yaml", ".json") as here:
        summed, walks = totals(read_manifests(here)), load_spec(here.path / "spec.yaml").walks
    if bad:
        print(f"{folder}: {bad} of {counted(len(found), 'shard')} damaged or missing; for each, {cure(place)}")
    if strays:
        print(f"{folder}: tars that are not shards of the run: {len(strays)}; move them elsewhere")
    if bad or strays:
        raise typer.Exit(1)
    held = f"{counted(summed.samples, 'sample')}, {counted(summed.accepted, 'variant' if walks else 'accepted seed')}"
    print(f"{folder}: {counted(len(found), 'shard')} intact, {held}")


def _verify_export(folder: Folder) -> None:
    from reds_core.exports.verify import CURE, verify_export

    found = verify_export(folder)
    for problem in found.problems:
        print(problem)
    if found.problems:
        print(f"{folder}: {counted(len(found.problems), 'problem')}; {CURE}")
        raise typer.Exit(1)
    what = f"{counted(found.samples, 'image')} intact"
    if found.shards:
        what = f"{counted(found.shards, 'shard')} intact, {counted(found.samples, 'sample')}"
    print(f"{folder}: {what}")


def report(folder: RunFolder) -> None:
    """Rebuild report.html and the dataset card of a finished or partial run."""
    from flows.cli.checks import existing
    from reds_core.reports.page import write_report

    print(write_report(existing(folder)))


def list_(out: Annotated[str, typer.Argument(metavar="[DIR]", help="The folder of all runs, or its URL.")] = "outputs") -> None:
    """List the runs under a folder, newest first, with their state and totals."""
    from flows.cli.checks import existing
    from flows.cli.show.tables import show_runs
    from reds_core.runs.totals import runs

    show_runs(runs(existing(out)), out)
