"""`reds check` and `reds compare`: what a spec or a method would do, on a few seeds."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from flows.cli.options import AllowCode, Batch, Device, Out, Overrides, SpecPath


def check(
    spec: SpecPath,
    seeds: Annotated[int, typer.Option(metavar="N", min=1, help="How many seeds to try.")] = 4,
    device: Device = "auto",
    batch: Batch = None,
    others: Annotated[bool, typer.Option(help="Also try other steps, limits and numbers of waypoints on these seeds.")] = True,
    set_: Overrides = None,
    allow_code: AllowCode = False,
) -> None:
    """Try SPEC on a few seeds: is it right, what would it accept, what would it cost? Writes nothing."""
    from flows.cli.checks import checked_all
    from flows.cli.progress import Steps
    from flows.cli.show.tables import show_forecast, show_settings
    from reds_core.jobs.prepare import prepare
    from reds_core.runs.plan import plan
    from reds_core.studies.fits import fits_of, spread_over
    from reds_core.studies.forecast import forecast
    from reds_core.studies.settings import Setting, other_settings
    from reds_core.words import counted

    loaded = checked_all(spec, set_ or [], allow_code)
    settings: list[Setting] = []
    with Steps(sys.stderr) as progress:
        progress.say("loading the networks, measuring spreads")
        job = prepare(loaded, device, batch, allow_code)
        count = min(seeds, loaded.seeds.number)
        tried: Sequence[int] = range(loaded.seeds.first, loaded.seeds.first + count)
        if job.own is not None:
            tried = spread_over(loaded.seeds.first, loaded.seeds.number, count)
        if job.own is not None:
            progress.say("reconstructing images")
        fits = None if job.own is None else fits_of(job)
        progress.say(f"trying {counted(count, 'seed' if job.own is None else 'image')}, end to end")
        found = forecast(job, tried, None if fits is None else fits.usable)
        if others and loaded.walks:
            settings = [found.as_it_is, *other_settings(job, tried, found.as_it_is, progress.at)]
    show_forecast(job, found, len(plan(loaded)), fits)
    if settings:
        show_settings(loaded, settings, found.rejected)


def compare(
    spec: SpecPath,
    methods: Annotated[
        str | None, typer.Option(metavar="A,B", help="Methods; the first is what the others are compared with.", show_default="all")
    ] = None,
    out: Out = "outputs",
    device: Device = "auto",
    batch: Batch = None,
    set_: Overrides = None,
    allow_code: AllowCode = False,
) -> None:
    """Compare methods on the seeds of SPEC, at equal effect: drift, flipped labels, cost.

    They are corrected, local, linear, maxc, rand, pca, sefa and interfacegan. Writes compare.csv, compare.png and compare.md to
    DIR/NAME/compare; and truth.csv for the builtin rooms, whose true factors are known.
    """
    from flows.cli.checks import checked
    from flows.cli.progress import Steps
    from reds_core.storage.places import folder_at
    from reds_core.studies import compare as comparison
    from reds_core.studies.comparison_report import write_comparison

    loaded = checked(spec, set_ or [], allow_code)
    folder = folder_at(out) / loaded.name / "compare"
    names = [name.strip() for name in (",".join(comparison.COMPARED) if methods is None else methods).split(",") if name.strip()]
    with Steps(sys.stderr) as progress:
        found = comparison.compare(loaded, names, device, batch, allow_code, progress.print, progress.at)
    with folder.new_files() as here:
        print(write_comparison(found, here).read_text(encoding="utf-8"))
    print(f"{folder}: compare.csv, compare.png, compare.md")
