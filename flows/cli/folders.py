"""`reds verify`, `reds report` and `reds list`: what has been made."""

from __future__ import annotations

from typing import Annotated

import typer

from flows.cli.options import RunFolder


def verify(folder: RunFolder) -> None:
    """Hash and decode every shard of a run, and name each damaged or missing one."""
    from flows.cli.checks import existing
    from reds_core.runs.manifest import cure, read_manifests
    from reds_core.runs.totals import totals
    from reds_core.runs.verify import verify_run
    from reds_core.storage.places import near

    place = existing(folder)
    found = verify_run(place)
    problems = [p for shard in found.values() for p in shard]
    for problem in problems:
        print(problem)
    with near(place, ".json") as here:
        summed = totals(read_manifests(here))
    if problems:
        bad = sum(bool(p) for p in found.values())
        print(f"{folder}: {bad} of {len(found)} shards damaged or missing; for each, {cure(place)}")
        raise typer.Exit(1)
    print(f"{folder}: {len(found)} shards whole, {summed.samples} samples, {summed.accepted} variants")


def report(folder: RunFolder) -> None:
    """Rebuild report.html and the dataset card of a finished or partial run."""
    from flows.cli.checks import existing
    from reds_core.reports.page import write_report

    print(write_report(existing(folder)))


def list_(out: Annotated[str, typer.Argument(metavar="[DIR]", help="The folder of all runs, or its URL.")] = "outputs") -> None:
    """List the runs under a folder, newest first, with their state and totals."""
    from flows.cli.checks import existing
    from flows.cli.tables import show_runs
    from reds_core.runs.totals import runs

    show_runs(runs(existing(out)), out)
