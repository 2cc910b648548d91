"""`reds export`: a training set from one or more runs."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from typer.core import TyperCommand

from reds_core.errors import UserError
from reds_core.words import counted, some

if TYPE_CHECKING:
    from rich.table import Table

    from reds_core.exports.manifest import Export
    from reds_core.exports.plan import Plan
    from reds_core.spec.fields import Spec
    from reds_core.storage.folder import Folder

MOST_CLASSES, SHOWN = 20, 10  # classes that are all shown; those that are shown of more


class ExportCommand(TyperCommand):
    """Names both folders where one is missing: the parser takes a single one for DEST, and would say that RUN is missing."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        try:
            return super().parse_args(ctx, args)
        except typer.BadParameter as error:
            if error.param is None or error.param.name not in ("run", "dest"):
                raise
            raise UserError("give each run's folder, and last the folder to fill: reds export RUN... DEST") from error


def export(
    run: Annotated[
        list[str], typer.Argument(metavar="RUN", help="Runs' folders, outputs/NAME/DIGEST, or URLs.", show_default=False)
    ],
    dest: Annotated[str, typer.Argument(metavar="DEST", help="The folder to fill, or its URL.", show_default=False)],
    format_: Annotated[
        Literal["webdataset", "imagefolder"], typer.Option("--format", help="Tars for loaders, or images in a folder a class.")
    ] = "webdataset",
    per_class: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="At most N samples of a class, from all its seeds.", show_default="all")
    ] = None,
    per_seed: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="At most N samples of a seed, far apart.", show_default="all")
    ] = None,
    split: Annotated[str, typer.Option(metavar="NAME=SHARE,...", help="Splits, such as train=0.9,val=0.1.")] = "train=1",
    shards: Annotated[int, typer.Option(metavar="N", min=1, help="At least N tars a split; a loader's workers want one each.")] = 8,
    roles: Annotated[str, typer.Option(metavar="A,B", help="Roles of the samples to take.")] = "variant,seed,source",
    dry_run: Annotated[bool, typer.Option("--dry-run", metavar="", help="Show the counts, and write nothing.")] = False,
) -> None:
    """Put a training set together from RUNs: balanced, varied, split by seed.

    Shards are checked first. Limits keep what looks most different. Run it again to continue; reds verify DEST checks it.
    """
    from flows.cli.checks import existing
    from flows.cli.progress import Steps
    from reds_core.errors import ShardDamaged
    from reds_core.exports.export import check_dest, write_export
    from reds_core.exports.inputs import open_runs
    from reds_core.exports.plan import planned
    from reds_core.exports.request import Request, roles_of, splits_of
    from reds_core.storage.places import folder_at

    request = Request(format_, per_class, per_seed, splits_of(split), shards, roles_of(roles))
    place = folder_at(dest)
    try:
        runs = open_runs([existing(name) for name in run])
        check_dest(place, runs, request)
        with contextlib.ExitStack() as stack:
            with Steps(sys.stderr) as progress:
                plan = stack.enter_context(planned(runs, request, progress.tell))
            show_plan(plan)
            if dry_run:
                print("Nothing was written.")
                return
            with Steps(sys.stderr) as progress:
                said, made = write_export(plan, place, progress.tell)
    except ShardDamaged as error:
        raise ShardDamaged(f"{error}. `reds verify` names all that is wrong with a run") from error
    print(_last_line(place, said, made))


def show_plan(plan: Plan) -> None:
    """Prints how many samples of each class would be written, and what is lacking."""
    from rich.markup import escape

    from flows.cli.show.tables import console, print_table

    print_table(_table(plan))
    for note in _notes(plan):
        console.print(escape(note))
    for line in _lacks(plan):
        console.print(escape(line))


def _table(plan: Plan) -> Table:
    """Returns the counts by class and split; of many classes, those of which there are fewest."""
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    names, counts = list(plan.request.splits), plan.counts
    table = Table(title="Samples", box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("class", overflow="fold")
    columns = ["available", "chosen", *(names if len(names) > 1 else [])]
    for column in columns:
        table.add_column(column, justify="right")
    shown = counts if len(counts) <= MOST_CLASSES else counts.sort_values("chosen", kind="stable").head(SHOWN)
    for label, row in shown.iterrows():
        table.add_row(escape(plan.names[int(str(label))]) or "no label", *(f"{row[column]:,}" for column in columns))
    rest = counts.drop(index=shown.index)
    if len(rest):
        others = counted(len(rest), "other class", "other classes")
        table.add_row(others, *(_range(int(rest[c].min()), int(rest[c].max())) for c in columns))
    if len(counts) > 1:
        table.add_row("all", *(f"{counts[column].sum():,}" for column in columns), style="bold")
    return table


def _range(least: int, most: int) -> str:
    return f"{least:,}" if least == most else f"{least:,} to {most:,}"


def _notes(plan: Plan) -> Iterator[str]:
    """Yields what a user should know before the export is written, a line each."""
    from reds_core.exports.export import sizes_of

    for run in plan.index.runs:
        if run.so_far:
            yield f"{run.folder} is not complete ({run.so_far}): what is finished is used."
    if plan.twice:
        yield f"{counted(plan.twice, 'sample')} left out: another one of the same seed has the same image."
    if plan.short:
        few = [f"{plan.names[label] or 'no label'} ({count})" for label, count in plan.short.items()]
        yield f"Too few seeds to be in every split, so missing from at least one: {some(few, SHOWN)}."
    for name, size in sizes_of(plan).items():
        if not size.samples:
            yield f"{name}: has no sample at all. A seed goes to one split as a whole, so that more seeds are needed."
        elif plan.request.format == "webdataset" and size.shards < plan.request.shards:
            yield f"{name}: {counted(size.samples, 'sample')} fill {counted(size.shards, 'shard')}, not {plan.request.shards}."


def _lacks(plan: Plan) -> Iterator[str]:
    """Yields which classes have too few samples, what it would take, and the command for it."""
    lacks = plan.lacks
    for lack in lacks[:SHOWN]:
        start = f"{lack.name or 'no label'}: {lack.found:,} of {lack.wanted:,}; "
        if not lack.seeds:
            yield start + "no seed has given any"
        elif lack.run.spec.seeds.images is not None:
            yield start + f"{lack.each:.3g} an image so far, so about {counted(lack.seeds, 'more image')}"
        else:
            yield start + f"{lack.each:.3g} a seed so far, so about {counted(lack.seeds, 'more seed')}"
    if len(lacks) > SHOWN:
        yield f"and {len(lacks) - SHOWN} more classes have too few: at least {min(lack.found for lack in lacks[SHOWN:]):,}"
    # Whatever a class lacks, seeds of all classes come in turn: the counts are of the same seeds, and must not be added up.
    for digest in dict.fromkeys(lack.run.digest for lack in lacks):
        counts = [lack.seeds for lack in lacks if lack.run.digest == digest and lack.seeds]
        if len(counts) > 1:
            spec = next(lack.run.spec for lack in lacks if lack.run.digest == digest)
            what = "image" if spec.seeds.images is not None else "seed"
            most = counted(max(counts), f"more {what}")
            yield f"These are the same {what}s: about {most} of {spec.name} would do for all of them."
    if lacks and _fills(plan, lacks[0].run.spec):
        yield f"To make them by the spec {lacks[0].run.spec.name}: reds run SPEC --until per_class={lacks[0].wanted}"
        return
    needed: dict[str, int] = {}
    for lack in lacks:
        if lack.seeds and lack.run.spec.seeds.images is None:
            count = lack.seeds + sum(m.seeds for m in lack.run.manifests)
            needed[lack.run.spec.name] = max(needed.get(lack.run.spec.name, 0), count)
    for name, count in needed.items():
        yield f"That would do for the spec {name}: reds run SPEC --set seeds.count={count}"


def _fills(plan: Plan, spec: Spec) -> bool:
    """Returns whether a run until each class has enough of what it accepts would fill the export: nothing else may limit it."""
    is_alone = len({run.digest for run in plan.index.runs}) == 1 and spec.seeds.images is None
    return is_alone and plan.request.per_seed is None and spec.candidate_role in plan.request.roles


def _last_line(dest: Folder, said: Export, made: int) -> str:
    """Returns what was written, and how it is loaded."""
    total = sum(size.samples for size in said.splits.values())
    shards = sum(size.shards for size in said.splits.values())
    parts = ", ".join(f"{name} {size.samples:,}" for name, size in said.splits.items())
    what = f"{counted(total, 'sample')} in {counted(shards, 'shard')}" if shards else counted(total, "image")
    # The loader takes folders on a disk; docs/training-sets.md says how a bucket is read.
    load = "" if "://" in str(dest) else f'; datasets.load_dataset("{dest}") loads it'
    return f"{dest}: {what} ({parts})" + ("" if made else ", nothing was left to do") + load
