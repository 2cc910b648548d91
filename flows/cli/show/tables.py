"""Tables for the terminal: forecasts, runs, kinds."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

import numpy as np
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.measure import Measurement
from rich.table import Table

from flows.cli.show.advice import advice
from reds_core.jobs.job import Job
from reds_core.runs.totals import Run, differences
from reds_core.spec.fields import Spec
from reds_core.studies.fits import Fits
from reds_core.studies.forecast import QUANTILES, Forecast
from reds_core.studies.settings import Setting, recommended
from reds_core.words import counted, some

LOST, FAR = ("step_underflow", "turned"), ("implausible",)  # why a trajectory ended before a candidate
LONG = 10_000  # columns: no table is as wide
WIDE = 132  # columns: narrower terminals get narrower tables
MOST_LISTED, MOST_SKIPPED = 10, 20  # names in a line, files that are not used
LOUD = 0.1  # of a tolerance: noise that a user should know about
# For seeds alone, of which nothing is held.
HOPE = "Try more seeds; a judge that contradicts them all may know other classes, or see other pixels (input_range, mean)."
LEAST_SHARD, MANY = 2.5, 20  # seconds, as measured by tests.benchmarks.workers; shards for which it matters

# Tables that go to a file or a pipe need not fit a terminal.
console = Console(highlight=False, width=None if sys.stdout.isatty() else 160)


def table_of(title: str, *columns: str) -> Table:
    """Returns an empty table; a column that begins with > is one of numbers."""
    table = Table(title=title, box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        name = column.removeprefix(">")
        table.add_column(name, justify="right" if column != name else "left", overflow="fold")
    return table


def print_table(table: Table) -> None:
    """Prints a table below its title, which may be wider than the table."""
    title, table.title = table.title, None
    if title:
        console.print(f"[bold]{title}[/bold]")
    console.print(table)


def show_forecast(job: Job, f: Forecast, shards: int, fits: Fits | None = None) -> None:
    """Prints what `reds check` found; `fits` if the run starts from own images."""
    _show_job(job)
    if fits is not None:
        _show_fits(job.spec, fits)
    if f.attributes:
        _show_attributes(job, f)
    if not job.spec.walks:
        console.print("Nothing is walked: the run has " + ("seeds alone." if fits is None else "images and their reconstructions."))
    elif job.spec.trajectory.method == "corrected":
        _show_reached(f)
    else:
        _show_tolerances(f)
    console.print()
    _show_verdicts(f, job.spec)
    _show_cost(f, shards)
    if f.short_seeds:
        console.print(
            f"[bold red]{f.short_seeds} of {counted(f.tried_seeds, 'seed')} had fewer than "
            f"{counted(job.spec.trajectory.directions, 'direction')}[/bold red]: what is held leaves no more."
        )
    if not f.accepted:
        console.print("[bold red]Nothing was accepted of these seeds.[/bold red]" + ("" if job.spec.walks else f" {HOPE}"))
        if job.spec.walks:
            _show_advice(f.rejected)


def _show_advice(rejected: Mapping[str, int]) -> None:
    """Prints what would cure the reasons that candidates were rejected for."""
    for line in advice(rejected):
        console.print(f"  {escape(line)}")


def _show_fits(spec: Spec, f: Fits) -> None:
    """Prints how well own images can be reconstructed, the worst of them, and the files that are not used."""
    table = table_of(
        f"Reconstructions of {len(f.names)} of {counted(f.images, 'image')}", "", *(f">{q:.0%} below" for q in QUANTILES)
    )

    def line(title: str, values: Sequence[float], digits: int) -> None:
        table.add_row(title, *(f"{v:.{digits}f}" for v in np.quantile(values, QUANTILES)))

    line("distance, spreads of all pixels", f.distances, 3)
    line("PSNR, dB", f.psnr, 1)
    how = "with its residual" if spec.seeds.fit.residual else "led to the image's"
    for name in f.after:
        line(f"drift of {escape(name)}, before", f.before[name], 3)
        line(f"drift of {escape(name)}, {how}", f.after[name], 3)
    print_table(table)
    worst = sorted(zip(f.distances, f.names, strict=True), reverse=True)[:MOST_LISTED]
    console.print("The farthest: " + ", ".join(f"{escape(name)} ({distance:.2f})" for distance, name in worst) + ".")
    share = len(f.yield_nothing) / max(1, len(f.names))
    console.print(
        f"{share:.0%} yield nothing: farther than fit.distance {spec.seeds.fit.distance:g}, or a held attribute could not be met"
        + (f" ({escape(some(f.yield_nothing))})." if f.yield_nothing else ".")
    )
    if f.contradicted:
        what = "They yield nothing." if spec.judge and spec.judge.seeds == "strict" else "They are used all the same."
        console.print(f"The judge contradicts the labels of {len(f.contradicted)}: {escape(some(f.contradicted))}. {what}")
    if f.in_colour:
        console.print(f"{f.in_colour} {'is' if f.in_colour == 1 else 'are'} in colour, and the generator is grey: taken as grey.")
    for name, why in f.unreadable:
        console.print(f"[bold red]{escape(name)}[/bold red]: {escape(why)}")
    if f.skipped:
        console.print(f"[bold]{counted(len(f.skipped), 'file is', 'files are')} not used:[/bold]")
        for name, why in f.skipped[:MOST_SKIPPED]:
            console.print(f"  {escape(name)}: {escape(why)}")
        if len(f.skipped) > MOST_SKIPPED:
            console.print(f"  and {len(f.skipped) - MOST_SKIPPED} more")
    console.print()


def _show_job(job: Job) -> None:
    c, h, w = job.networks.image_shape
    gen = job.networks.generator
    classes = f", {counted(len(gen.class_names), 'class', 'classes')}" if gen.class_names else ""
    console.print(f"[bold]{escape(job.spec.name)}[/bold]: the spec, its files and its networks are fine")
    console.print(
        f"{escape(gen.title.removeprefix('the '))}: {gen.space} space of {counted(gen.dim, 'dimension')}{classes}, "
        f"images {c}x{h}x{w}; "
        + (f"Jacobians by {job.derivatives.in_words}; " if job.derivatives.modes else "")
        + f"on {job.device}, {counted(job.batch, 'image')} at a time\n"
    )


def _show_attributes(job: Job, f: Forecast) -> None:
    if console.width >= WIDE:
        quantiles = [f">{q:.0%} below" for q in QUANTILES]
        table = table_of(
            "Attributes (drifts and effects in spreads)", "attribute", "role", ">spread", "unit", ">limit", ">meet it", *quantiles
        )
    else:
        quantiles = [f">{q:.0%}" for q in QUANTILES]
        table = table_of("Attributes: that share lies below, in spreads", "attribute", ">spread", ">limit", ">meet it", *quantiles)
    for a in f.attributes:
        values = [f"{a.passed:.0%}", *("-" if math.isnan(v) else f"{v:.3f}" for v in a.quantiles)]
        if console.width >= WIDE:
            table.add_row(escape(a.name), a.role, f"{a.spread:.4g}", escape(a.unit), a.limit, *values)
        else:
            table.add_row(escape(a.name), f"{a.spread:.4g}", a.limit, *values)
    print_table(table)
    if console.width < WIDE:
        for a in f.attributes:
            console.print(f"Spread of {escape(a.name)}, which is {a.role}: in {escape(a.unit)}.")
    for name, noise in job.noise.items():
        if noise > LOUD * job.spec.levels[name]:
            console.print(
                f"[bold red]{escape(name)} is noisy[/bold red]: two measurements of one image differ by up to {noise:.2g} spreads, "
                f"{noise / job.spec.levels[name]:.0%} of its tolerance."
            )


def _show_reached(f: Forecast) -> None:
    """Prints how well corrected trajectories can hold: their drifts follow the tolerances, so what counts is how far they got."""
    held = " and ".join(f"{escape(a.name)} ({a.limit})" for a in f.attributes if a.role == "held")
    for reasons, why, cure in (
        (LOST, f"no step leads there that holds {held}", "A larger tolerance, a shorter step or fewer held attributes reach more."),
        (FAR, "they lie further out than where the generator was trained", "A shorter step or fewer waypoints stay nearer."),
    ):
        ended = {reason: f.rejected[reason] for reason in reasons if f.rejected[reason]}
        if not ended:
            continue
        share = sum(ended.values()) / max(1, f.tried)
        counts = ", ".join(f"{reason} {count}" for reason, count in ended.items())
        print_as = "[bold red]{}[/bold red]" if share > 0.5 else "{}"
        in_words = f"{share:.0%}" if share >= 0.01 else "Less than 1%"
        console.print(print_as.format(f"{in_words} of the candidates were not reached: {why}") + f" ({counts}).")
        if share > 0.1:
            console.print(cure)


def _show_tolerances(f: Forecast) -> None:
    for a in f.attributes:
        if a.role == "held" and f.tried and not math.isnan(a.quantiles[0]):
            half, most = a.quantiles[1:3]
            console.print(
                f"Half of the candidates would meet a tolerance of {half:.2g} for {escape(a.name)}, three quarters {most:.2g}."
            )


def _show_verdicts(f: Forecast, spec: Spec) -> None:
    seeds = counted(f.tried_seeds, "image" if spec.seeds.images else "seed")
    title = f"Of {counted(f.tried, 'candidate')} of {seeds}" if spec.walks else f"Of {seeds}"
    table = table_of(title, "verdict", ">count", ">share")
    for reason, count in [("accepted", f.accepted), *f.rejected.most_common()]:
        table.add_row(escape(reason), str(count), f"{count / max(1, f.tried):.0%}")
    print_table(table)
    if f.by_waypoint:
        console.print("Accepted by waypoint: " + ", ".join(f"{w}: {share:.0%}" for w, share in f.by_waypoint) + "\n")


def _show_cost(f: Forecast, shards: int) -> None:
    table = table_of(
        "The whole run, by these seeds", "shards", ">seeds", ">samples", ">forward equivalents", ">each sample", ">time", ">disk"
    )
    per = f"{f.equivalents / max(1, f.samples):.0f}"
    size = f"{f.bytes / 1e6:.1f} MB"
    table.add_row(str(shards), str(f.seeds), f"about {f.samples}", f"{f.equivalents:,}", per, _duration(f.seconds), size)
    print_table(table)
    if shards > MANY and f.seconds / shards < LEAST_SHARD:
        console.print(
            f"A shard takes about {f.seconds / shards:.1f} s; below {LEAST_SHARD:g} s, scheduling takes more than 1 % of the time. "
            "Raise shards.seeds."
        )


def show_settings(spec: Spec, found: Sequence[Setting], rejected: Mapping[str, int]) -> None:
    """Prints what other settings of a spec reach, and which one to take; `rejected` are the spec's own rejects by reason."""
    effects = [f">effect: {name}" for name in spec.varied]
    table = table_of("Other settings, on the same seeds", "--set", ">reached", ">accepted", *effects, ">label kept", ">cost")
    table.columns[0].no_wrap = True
    for s in found:
        changes = escape("\n".join(s.changes)) or "(as it is)"
        values = [_figure(s.effects[name], ".2f") for name in spec.varied]
        shares = f"{s.reached:.0%}", f"{s.accepted:.0%}"
        table.add_row(changes, *shares, *values, _figure(s.agreed, ".1%"), _figure(s.equivalents, ".1f"))
    print_table(table)
    console.print("Effect: median of the accepted, in spreads. Cost: forward equivalents of each. Label kept: before any filter.")
    best = recommended(found)
    if best is None:
        console.print("None of these accepts half of its candidates and keeps their labels.")
        if found[0].accepted:  # else the forecast has said what to change
            _show_advice(rejected)
    elif best.changes:
        looser = ", which holds less" if any(change.startswith("held") for change in best.changes) else ""
        console.print(f"The largest change, at no more than twice the least cost{looser}:")
        # One line, whatever its length, so that it can be copied.
        console.print(f"  {escape(' '.join(f'--set {change}' for change in best.changes))}", soft_wrap=True)
    else:
        console.print("The spec as it is changes most for its cost.")
    for name in spec.levels:
        if spec.attributes[name].kind == "classifier":
            console.print("If only the label must stay, hold the decision, and more may vary:")
            console.print(f"  --set {escape(f'held.{name}')}.decision=0.9", soft_wrap=True)


def _figure(value: float, form: str) -> str:
    """Returns a number, or a dash for one that could not be measured."""
    return format(value, form) if math.isfinite(value) else "-"


def show_runs(runs: list[Run], out: str) -> None:
    """Prints what `reds list` found."""
    if not runs:
        console.print(f"no runs under {escape(out)}")
        return
    columns = ("changed (UTC)", "state", ">samples", ">accepted", ">MB")
    rows = [(*_figures_of(r), escape(str(r.folder))) for r in runs]
    table = table_of("", *columns, "run")
    for row in rows:
        table.add_row(*row)
    if Measurement.get(console, console.options.update(max_width=LONG), table).maximum <= console.width:
        console.print(table)
    else:  # a folder that is broken over lines could not be copied
        for changed, state, samples, accepted, size, folder in rows:
            console.print(f"{changed}, {state}: {samples} samples, {accepted} accepted, {size} MB\n  {folder}", soft_wrap=True)
    for folder, changes in differences(runs).items():
        if changes:
            console.print(f"{escape(folder)}: {escape(some(changes))}")


def _figures_of(run: Run) -> tuple[str, str, str, str, str]:
    """Returns when a run was changed, its state, and how much it has made."""
    t = run.totals
    accepted = f"{t.accepted} ({t.accepted / t.candidates:.0%})" if t.candidates else "0"
    changed = datetime.fromtimestamp(run.changed, UTC).strftime("%Y-%m-%d %H:%M")
    return changed, run.state, str(t.samples), accepted, f"{t.bytes / 1e6:.1f}"


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
