"""Tables for the terminal: forecasts, runs, kinds."""

from __future__ import annotations

import math
import sys
import types
import typing
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

import numpy as np
from pydantic import BaseModel
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from reds_core.errors import UserError
from reds_core.jobs.job import Job
from reds_core.models.imported import Description
from reds_core.models.published import StyleGan1, StyleGan2, StyleGan3
from reds_core.runs.totals import Run
from reds_core.spec.fields import Spec
from reds_core.studies.fits import Fits
from reds_core.studies.forecast import QUANTILES, Forecast
from reds_core.studies.settings import Setting, recommended

UNREACHED = ("step_underflow", "turned", "implausible")  # why a trajectory ended before a candidate
MOST_LISTED, MOST_SKIPPED = 10, 20  # names in a line, files that are not used
LOUD = 0.1  # of a tolerance: noise that a user should know about
HOPE = {
    True: "Widen a tolerance, or change trajectory.step.",
    False: "Try more seeds; a judge that contradicts them all may know other classes, or see other pixels (input_range, mean).",
}
LEAST_SHARD, MANY = 2.5, 20  # seconds, as measured by tests.benchmarks.workers; shards for which it matters

# Tables that go to a file or a pipe need not fit a terminal.
console = Console(highlight=False, width=None if sys.stdout.isatty() else 160)


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        name = column.removeprefix(">")
        table.add_column(name, justify="right" if column != name else "left", overflow="fold")
    return table


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
            f"[bold red]{f.short_seeds} of {f.tried_seeds} seeds had fewer than "
            f"{job.spec.trajectory.directions} directions[/bold red]: what is held leaves no more."
        )
    if not f.accepted:
        console.print("[bold red]Nothing was accepted of these seeds.[/bold red] " + HOPE[job.spec.walks])


def _show_fits(spec: Spec, f: Fits) -> None:
    """Prints how well own images can be reconstructed, the worst of them, and the files that are not used."""
    table = _table(f"Reconstructions of {len(f.names)} of {f.images} images", "", *(f">{q:.0%} below" for q in QUANTILES))

    def line(title: str, values: Sequence[float], digits: int) -> None:
        table.add_row(title, *(f"{v:.{digits}f}" for v in np.quantile(values, QUANTILES)))

    line("distance, spreads of all pixels", f.distances, 3)
    line("PSNR, dB", f.psnr, 1)
    for name in f.after:
        line(f"drift of {escape(name)}, before", f.before[name], 3)
        line(f"drift of {escape(name)}, led to the image's", f.after[name], 3)
    console.print(table)
    worst = sorted(zip(f.distances, f.names, strict=True), reverse=True)[:MOST_LISTED]
    console.print("The farthest: " + ", ".join(f"{escape(name)} ({distance:.2f})" for distance, name in worst) + ".")
    share = len(f.yield_nothing) / max(1, len(f.names))
    console.print(
        f"{share:.0%} yield nothing: farther than fit.distance {spec.seeds.fit.distance:g}, or a held attribute could not be met"
        + (f" ({_few(f.yield_nothing)})." if f.yield_nothing else ".")
    )
    if f.contradicted:
        what = "They yield nothing." if spec.judge and spec.judge.seeds == "strict" else "They are used all the same."
        console.print(f"The judge contradicts the labels of {len(f.contradicted)}: {_few(f.contradicted)}. {what}")
    if f.in_colour:
        console.print(f"{f.in_colour} are in colour, and the generator is grey: they are taken as grey.")
    for name, why in f.unreadable:
        console.print(f"[bold red]{escape(name)}[/bold red]: {escape(why)}")
    if f.skipped:
        console.print(f"[bold]{len(f.skipped)} file{'s are' if len(f.skipped) > 1 else ' is'} not used:[/bold]")
        for name, why in f.skipped[:MOST_SKIPPED]:
            console.print(f"  {escape(name)}: {escape(why)}")
        if len(f.skipped) > MOST_SKIPPED:
            console.print(f"  and {len(f.skipped) - MOST_SKIPPED} more")
    console.print()


def _few(names: Sequence[str]) -> str:
    shown = ", ".join(escape(name) for name in names[:MOST_LISTED])
    return shown + (", ..." if len(names) > MOST_LISTED else "")


def _show_job(job: Job) -> None:
    c, h, w = job.networks.image_shape
    gen = job.networks.generator
    classes = f", {len(gen.class_names)} classes" if gen.class_names else ""
    console.print(f"[bold]{escape(job.spec.name)}[/bold]: the spec, its files and its networks are fine")
    console.print(
        f"generator {escape(gen.name)}: {gen.space} space of {gen.dim} dimensions{classes}, images {c}x{h}x{w}; "
        + (f"Jacobians by {job.derivatives.in_words}; " if job.derivatives.modes else "")
        + f"on {job.device}, {job.batch} images at a time\n"
    )


def _show_attributes(job: Job, f: Forecast) -> None:
    quantiles = [f">{q:.0%} below" for q in QUANTILES]
    table = _table(
        "Attributes (drifts and effects in spreads)", "attribute", "role", ">spread", "unit", ">limit", ">meet it", *quantiles
    )
    for a in f.attributes:
        values = [f"{v:.3f}" for v in a.quantiles]
        table.add_row(escape(a.name), a.role, f"{a.spread:.4g}", escape(a.unit), a.limit, f"{a.passed:.0%}", *values)
    console.print(table)
    for name, noise in job.noise.items():
        if noise > LOUD * job.spec.levels[name]:
            console.print(
                f"[bold red]{escape(name)} is noisy[/bold red]: two measurements of one image differ by up to {noise:.2g} spreads, "
                f"{noise / job.spec.levels[name]:.0%} of its tolerance."
            )


def _show_reached(f: Forecast) -> None:
    """Prints how well corrected trajectories can hold: their drifts follow the tolerances, so what counts is how far they got."""
    ended = {reason: f.rejected[reason] for reason in UNREACHED if f.rejected[reason]}
    if not ended:
        return
    share = sum(ended.values()) / max(1, f.tried)
    why = ", ".join(f"{reason} {count}" for reason, count in ended.items())
    held = " and ".join(f"{escape(a.name)} ({a.limit})" for a in f.attributes if a.role == "held")
    print_as = "[bold red]{}[/bold red]" if share > 0.5 else "{}"
    console.print(
        print_as.format(f"{share:.0%} of the candidates were not reached: no step leads there that holds {held}") + f" ({why})."
    )
    if share > 0.1:
        console.print("A larger tolerance, a shorter step or fewer held attributes reach more.")


def _show_tolerances(f: Forecast) -> None:
    for a in f.attributes:
        if a.role == "held" and f.tried:
            half, most = a.quantiles[1:3]
            console.print(
                f"Half of the candidates would meet a tolerance of {half:.2g} for {escape(a.name)}, three quarters {most:.2g}."
            )


def _show_verdicts(f: Forecast, spec: Spec) -> None:
    seeds = f"{f.tried_seeds} {'images' if spec.seeds.images else 'seeds'}"
    table = _table(f"Of {f.tried} candidates of {seeds}" if spec.walks else f"Of {seeds}", "verdict", ">count", ">share")
    for reason, count in [("accepted", f.accepted), *f.rejected.most_common()]:
        table.add_row(escape(reason), str(count), f"{count / max(1, f.tried):.0%}")
    console.print(table)
    if f.by_waypoint:
        console.print("Accepted by waypoint: " + ", ".join(f"{w}: {share:.0%}" for w, share in f.by_waypoint) + "\n")


def _show_cost(f: Forecast, shards: int) -> None:
    table = _table(
        "The whole run, by these seeds", "shards", ">seeds", ">samples", ">forward equivalents", ">each sample", ">time", ">disk"
    )
    per = f"{f.equivalents / max(1, f.samples):.0f}"
    size = f"{f.bytes / 1e6:.1f} MB"
    table.add_row(str(shards), str(f.seeds), f"about {f.samples}", f"{f.equivalents:,}", per, _duration(f.seconds), size)
    console.print(table)
    if shards > MANY and f.seconds / shards < LEAST_SHARD:
        console.print(
            f"A shard takes about {f.seconds / shards:.1f} s; below {LEAST_SHARD:g} s, scheduling takes more than 1 % of the time. "
            "Raise shards.seeds."
        )


def show_settings(spec: Spec, found: Sequence[Setting]) -> None:
    """Prints what other settings of a spec reach, and which one to take."""
    effects = [f">effect: {name}" for name in spec.varied]
    table = _table("Other settings, on the same seeds", "--set", ">reached", ">accepted", *effects, ">label kept", ">cost")
    table.columns[0].no_wrap = True
    for s in found:
        changes = escape("\n".join(s.changes)) or "(as it is)"
        values = [_figure(s.effects[name], ".2f") for name in spec.varied]
        shares = f"{s.reached:.0%}", f"{s.accepted:.0%}"
        table.add_row(changes, *shares, *values, _figure(s.agreed, ".1%"), _figure(s.equivalents, ".1f"))
    console.print(table)
    console.print("Effect: median of the accepted, in spreads. Cost: forward equivalents of each. Label kept: before any filter.")
    best = recommended(found)
    if best is None:
        console.print("None of these accepts half of its candidates. Widen a limit, or hold fewer attributes.")
    elif best.changes:
        console.print("The largest change for its cost: " + escape(" ".join(f"--set {change}" for change in best.changes)))
    else:
        console.print("The spec as it is changes most for its cost.")
    for name in spec.levels:
        if spec.attributes[name].kind == "classifier":
            console.print(
                f"If only the label must stay, hold the decision, and more may vary: --set {escape(f'held.{name}')}.decision=0.9"
            )


def _figure(value: float, form: str) -> str:
    """Returns a number, or a dash for one that could not be measured."""
    return format(value, form) if math.isfinite(value) else "-"


def show_import(found: Description, path: Path) -> None:
    """Prints what `reds import` made, and how a spec names it."""
    a, origin = found.architecture, found.provenance
    classes = f", {a.classes} classes" if a.classes else ""
    space = f"w of {a.w_dim} dimensions" if isinstance(a, StyleGan1 | StyleGan2 | StyleGan3) else f"z of {a.z_dim} dimensions"
    height, width = a.size if isinstance(a, StyleGan2) else (a.resolution, a.resolution)
    print(f"{origin.file}: {origin.format}, {a.colours}x{height}x{width} images, space {space}{classes}")
    for note in origin.notes:
        print(f"note: {note}")
    print(f"licence: {origin.licence}")
    print(f"{path} and {path.with_suffix('.json').name}")
    print(f"generator: {{kind: {a.kind}, path: {path}}}")


def show_runs(runs: list[Run], out: str) -> None:
    """Prints what `reds list` found."""
    if not runs:
        console.print(f"no runs under {escape(out)}")
        return
    table = _table("", "changed (UTC)", "state", ">samples", ">accepted", ">MB", "run")
    for r in runs:
        t = r.totals
        accepted = f"{t.accepted} ({t.accepted / t.candidates:.0%})" if t.candidates else "0"
        changed = datetime.fromtimestamp(r.changed, UTC).strftime("%Y-%m-%d %H:%M")
        table.add_row(changed, r.state, str(t.samples), accepted, f"{t.bytes / 1e6:.1f}", escape(str(r.folder)))
    console.print(table)


def show_kinds() -> None:
    """Prints every kind with a line on what it is."""
    for group, members in _kinds().items():
        table = _table(group, "kind", "what it is")
        for name, what in members.items():
            text = what if isinstance(what, str) else (what.__doc__ or "").strip().split("\n")[0]
            table.add_row(f"[bold]{name}[/bold]", escape(text))
        console.print(table)
    console.print("[dim]reds kinds NAME shows a kind's fields; reds schema the whole spec.[/dim]")


def show_kind(name: str) -> None:
    """Prints the fields of every kind of this name."""
    found = [(g, m[name]) for g, m in _kinds().items() if name in m]
    if not found:
        known = sorted({k for members in _kinds().values() for k in members})
        raise UserError(f"there is no kind {name!r}; there are: {', '.join(known)}")
    for group, what in found:
        console.print(f"[bold]{name}[/bold] ({group.lower()})")
        console.print(escape(what if isinstance(what, str) else (what.__doc__ or "").strip()))
        if not isinstance(what, str):
            table = _table("", "field", "type", "default", "meaning")
            for key, kind, default, meaning in _fields(what):
                table.add_row(key, escape(kind), escape(default), escape(meaning))
            console.print(table)


def _kinds() -> dict[str, dict[str, Any]]:
    from reds_core.features import AnyFeature
    from reds_core.generators import AnyGenerator
    from reds_core.models import AnyNetwork
    from reds_core.spec.fields import METHODS

    def members(union: Any) -> dict[str, Any]:
        return {get_args(c.model_fields["kind"].annotation)[0]: c for c in get_args(get_args(union)[0])}

    return {
        "Generators": members(AnyGenerator),
        "Features": members(AnyFeature),
        "Networks (of features and the judge)": members(AnyNetwork),
        "Trajectory methods": METHODS,
    }


def _fields(model: type[BaseModel]) -> Iterator[tuple[str, str, str, str]]:
    for name, info in model.model_fields.items():
        default = (
            "required" if info.is_required() else "" if info.default is None else str(info.get_default(call_default_factory=True))
        )
        yield name, _type_name(info.annotation), default, info.description or ""


def _type_name(kind: Any) -> str:
    """Returns a type as a person would say it."""
    origin = get_origin(kind)
    args = [a for a in get_args(kind) if a is not Ellipsis]
    if origin is Annotated:
        return _type_name(args[0])
    if origin in (typing.Union, types.UnionType):
        return " | ".join(dict.fromkeys(_type_name(a) for a in args if a is not type(None)))
    if origin is Literal:
        return " | ".join(str(a) for a in args)
    if origin is tuple:
        return "[" + ", ".join(_type_name(a) for a in args) + (", ...]" if Ellipsis in get_args(kind) else "]")
    if origin is dict:
        return f"{{{_type_name(args[0])}: {_type_name(args[1])}}}"
    plain = {"str": "text", "float": "number", "int": "integer", "bool": "true | false", "Path": "file", "Any": "anything"}
    return plain.get(getattr(kind, "__name__", str(kind)), getattr(kind, "__name__", str(kind)).lower())


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
