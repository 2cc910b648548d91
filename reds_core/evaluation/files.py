"""An evaluation as files: evaluation.csv, written after every training, so that a killed one continues; .png and .md from it."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from reds_core.errors import OutputError
from reds_core.evaluation.arms import ARMS
from reds_core.evaluation.estimates import Difference, Line, difference, lines
from reds_core.evaluation.evaluate import Evaluation, Row
from reds_core.reports.render import render
from reds_core.storage.folder import Folder

TABLE, ABOUT, PICTURE, TEXT = "evaluation.csv", "evaluation.json", "evaluation.png", "evaluation.md"
COLOURS = {"better": "#24764a", "worse": "#a03a3a", "not told apart": "#5b6675", "": "#5b6675"}


def finished(folder: Folder, evaluation: Evaluation) -> list[Row]:
    """Returns the rows of an evaluation that are in a folder already.

    Raises:
        OutputError: the folder holds another evaluation's, or they cannot be read.
    """
    about, table = folder.read(ABOUT), folder.read(TABLE)
    if about is None or table is None:
        return []
    try:
        before, rows = json.loads(about), pd.read_csv(io.BytesIO(table)).to_dict("records")
    except (ValueError, UnicodeDecodeError) as error:
        raise OutputError(f"{folder}: {TABLE} or {ABOUT} is damaged; remove both to begin anew", parameter="to") from error
    differs = [key for key, value in evaluation.identity.items() if before.get(key) != value]
    if differs:
        raise OutputError(
            f"{folder}: holds an evaluation of another {' and '.join(differs)}; choose another folder, or remove it", parameter="to"
        )
    return [{str(k): v for k, v in row.items()} for row in rows]


def write_rows(folder: Folder, evaluation: Evaluation, rows: Sequence[Row]) -> None:
    """Writes the rows so far, each file all or nothing."""
    with folder.opening():
        folder.write(ABOUT, json.dumps(evaluation.identity, indent=1).encode())
        folder.write(TABLE, pd.DataFrame(rows).to_csv(index=False, float_format="%.6g").encode())


def write_pages(folder: Folder, evaluation: Evaluation, rows: Sequence[Row]) -> str:
    """Writes the picture and the text, and returns the text."""
    panels = panels_of(rows)
    text = render("reds_core.evaluation", "evaluation.md.j2", {
        "spec": evaluation.spec, "evaluation": evaluation, "settings": evaluation.settings, "panels": panels,
        "test": len(evaluation.test), "device": str(evaluation.device), "lost": len(evaluation.todo) > len(rows),
        "groups": evaluation.settings.group,
    })  # fmt: skip
    with folder.new_files() as here:
        draw(panels, here / PICTURE)
    folder.write(TEXT, text.encode())
    return text


@dataclass(frozen=True)
class Panel:
    """All that was found with a number of real images a class."""

    per_class: int
    lines: list[Line]
    beside_sampled: dict[str, Difference]  # variants against fresh samples, with and without classic augmentation

    def named(self, verdict: str) -> list[str]:
        """Returns the arms of which this can be said beside `classic`."""
        return [line.arm for line in self.lines if line.to_classic and line.to_classic.verdict == verdict]


def panels_of(rows: Sequence[Row]) -> list[Panel]:
    """Returns what rows say, for each number of real images a class."""
    table = pd.DataFrame(rows)
    numbers = sorted(set(table.per_class))
    return [Panel(n, lines(table, n, list(ARMS)), _beside_sampled(table[table.per_class == n])) for n in numbers]


def _beside_sampled(part: pd.DataFrame) -> dict[str, Difference]:
    there = set(part.arm)
    pairs = [(f"variants{plus}", f"sampled{plus}") for plus in ("", "+classic")]
    return {a: difference(part, a, b, "accuracy") for a, b in pairs if {a, b} <= there}


def draw(panels: Sequence[Panel], path: Path) -> None:
    """Draws the accuracy of every arm, with the interval of its difference to `classic`, and a line where `classic` is."""
    from matplotlib.figure import Figure

    most = max(len(p.lines) for p in panels)
    figure = Figure(figsize=(0.6 + 4.4 * len(panels), 1.6 + 0.36 * most), layout="constrained")
    axes: Any = figure.subplots(1, len(panels), squeeze=False)[0]
    for ax, panel in zip(axes, panels, strict=True):
        at = {line.arm: i for i, line in enumerate(reversed(panel.lines))}
        classic = next((line.accuracy for line in panel.lines if line.arm == "classic"), None)
        if classic is not None:
            ax.axvline(100 * classic, color="#9aa6b5", lw=1, ls="--", zorder=1)
        for line in panel.lines:
            colour = COLOURS[line.to_classic.verdict if line.to_classic else ""]
            if line.to_classic and line.to_classic.verdict and classic is not None:
                ends = [100 * (classic + line.to_classic.low), 100 * (classic + line.to_classic.high)]
                ax.plot(ends, [at[line.arm]] * 2, color=colour, lw=2.5, solid_capstyle="butt", zorder=2)
            ax.plot([100 * line.accuracy], [at[line.arm]], "o", color=colour, ms=7, zorder=3)
            ax.annotate(f"{100 * line.accuracy:.1f}", (100 * line.accuracy, at[line.arm]), (0, 6), textcoords="offset points",
                        ha="center", fontsize=8, color=colour, bbox={"fc": "white", "ec": "none", "pad": 1})  # fmt: skip
        ax.set_yticks(list(at.values()), list(at))
        ax.set_ylim(-0.6, most - 0.2)
        ax.set_title(f"{panel.per_class} real images a class", loc="left", fontsize=10)
        ax.set_xlabel("accuracy on real test images, %", fontsize=9)
        ax.margins(x=0.12)
        ax.spines[["top", "right"]].set_visible(False)
        ax.tick_params(labelsize=9)
    legend = "dot: mean of the repeats; bar: 95 % interval of the\npaired difference to classic; green: better, red: worse"
    figure.suptitle(legend, fontsize=8, x=0.02, ha="left", color="#5b6675")
    figure.savefig(path, dpi=130, facecolor="white")
