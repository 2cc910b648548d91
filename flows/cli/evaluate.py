"""`reds evaluate`: what a run teaches a classifier."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli.options import AllowCode, Batch, Device

if TYPE_CHECKING:
    from reds_core.evaluation.files import Panel

DATA = "a folder of class folders, a .csv or .parquet with file and label, or tars"


def evaluate(
    run: Annotated[str, typer.Argument(metavar="RUN", help="A run's folder, outputs/NAME/DIGEST, or its URL.", show_default=False)],
    train: Annotated[str, typer.Option(metavar="DATA", help=f"Real training images: {DATA}.", show_default=False)],
    test: Annotated[str, typer.Option(metavar="DATA", help="Real test images, likewise.", show_default=False)],
    arms: Annotated[
        str | None, typer.Option(metavar="A,B", help="What is compared, of the arms above.", show_default="all")
    ] = None,
    per_class: Annotated[str, typer.Option(metavar="N,N", help="Real training images in each class.")] = "20",
    repeats: Annotated[int, typer.Option(metavar="N", min=1, help="Draws of real images, the same for all arms.")] = 5,
    steps: Annotated[int, typer.Option(metavar="N", min=2, help="Of the optimiser, in each training.")] = 400,
    model: Annotated[
        str,
        typer.Option(metavar="NAME", help="small, timm:NAME, timm:NAME=FILE for a state dict, or module:function(shape, classes)."),
    ] = "small",
    group: Annotated[
        str | None,
        typer.Option(metavar="COLUMN", help="Of the test table: the worst of label and COLUMN is shown.", show_default=False),
    ] = None,
    classic: Annotated[
        str, typer.Option(metavar="A,B", help="Classic augmentation: flips do not suit digits.")
    ] = "crops,flips,colours",
    to: Annotated[
        str | None, typer.Option(metavar="DIR", help="Where the files go, or a URL.", show_default="RUN/evaluation")
    ] = None,
    device: Device = "auto",
    batch: Batch = None,
    allow_code: AllowCode = False,
) -> None:
    """Train a classifier on few real images, alone and with what RUN made; test it on real images.

    Arms: real, classic, sampled (fresh samples), variants, unfiltered (all that was measured), and sources (your reconstructions).

    The last four also come as NAME+classic, with crops, flips and colours.

    Writes evaluation.csv, evaluation.png and evaluation.md. Stop it at any time: it continues at the next training.
    """
    from flows.cli.checks import existing
    from flows.cli.progress import Steps
    from reds_core.evaluation.evaluate import Settings, evaluation
    from reds_core.evaluation.files import finished, panels_of, write_pages, write_rows
    from reds_core.storage.places import folder_at

    folder = existing(run)
    place = folder / "evaluation" if to is None else folder_at(to)
    settings = Settings(names(arms), numbers(per_class), repeats, steps, model, group, names(classic) or [])
    with Steps(sys.stderr) as progress:
        asked = evaluation(folder, train, test, settings, device, batch, allow_code, progress.say)
        rows = finished(place, asked)
        done = [(int(r["per_class"]), int(r["repeat"]), str(r["arm"])) for r in rows]
        total, before = len(asked.todo), sum(key in set(done) for key in asked.todo)
        progress.at("trainings", before, total)
        if before:
            progress.off_terminal(f"{before} of {total} were finished before")
        for trained, row in enumerate(asked.rows(done, progress.say), before + 1):
            rows.append(row)
            write_rows(place, asked, rows)
            progress.at("trainings", trained, total)
            progress.off_terminal(f"{row['arm']}, {row['per_class']} a class, repeat {row['repeat'] + 1}: {row['accuracy']:.1%}")
    write_pages(place, asked, rows)
    for panel in panels_of(rows):
        show(panel)
    for warning in asked.warnings:
        print(f"reds: warning: {warning}", file=sys.stderr)
    print(f"{place}: evaluation.csv, evaluation.png, evaluation.md")


def show(panel: Panel) -> None:
    """Prints what was found with a number of real images a class."""
    from rich import box
    from rich.table import Table

    from flows.cli.show.tables import print_table

    title = f"{panel.per_class} real images a class"
    table = Table(title=title, box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("arm")
    for column in ("extra", "accuracy", "to classic, 95 %", "worst"):
        table.add_column(column, justify="right")
    table.add_column("")
    for line in panel.lines:
        to, worst = line.to_classic, f"{line.worst_group:.1%}"
        extra, accuracy = f"{line.images_extra:,.0f}", f"{line.accuracy:.1%}"
        table.add_row(line.arm, extra, accuracy, to.points if to else "", worst, to.verdict if to else "")
    print_table(table)
    for arm, beside in panel.beside_sampled.items():
        if beside.verdict:
            print(f"{arm} beside {arm.replace('variants', 'sampled')}: {beside.points}, {beside.verdict}")


def names(listed: str | None) -> list[str] | None:
    """Returns the names in a list with commas; None if there is no list."""
    return None if listed is None else [name.strip() for name in listed.split(",") if name.strip()]


def numbers(listed: str) -> list[int]:
    """Returns the whole numbers in a list with commas. Raises BadParameter if one is none, or below 1."""
    try:
        found = sorted({int(n) for n in names(listed) or []})
    except ValueError:
        found = []
    if not found or found[0] < 1:
        raise typer.BadParameter(f"{listed!r} is no list of whole numbers from 1, such as 5,20", param_hint="--per-class")
    return found
