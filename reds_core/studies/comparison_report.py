"""A comparison as files for people: compare.csv, compare.png, compare.md; and truth.csv, where a generator knows its true factors.

Methods are compared at equal effect (`Comparison.at_equal_effect`). Two are told apart where their 95 % intervals do not overlap.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from reds_core.reports.render import render
from reds_core.studies.compare import Comparison, Measured
from reds_core.studies.estimates import UNKNOWN, Estimate

OURS = "#0b7285"
OTHERS = ("#e8590c", "#f08c00", "#868e96", "#adb5bd", "#7048e8", "#c2255c", "#5c940d")
LEAST_DRAWN = 5  # waypoints that a bin needs to be drawn
BANDS = 2  # methods drawn with their intervals: more bands hide each other; compare.csv has all of them


@dataclass(frozen=True)
class Line:
    """A method's row in the tables of compare.md."""

    name: str
    measured: Measured
    drifts: list[Estimate]
    flips: Estimate
    implausible: float
    changes: list[Estimate]


@dataclass(frozen=True)
class Verdict:
    """The first method against another one, in words: where it is better or worse, and where the two cannot be told apart."""

    name: str
    comparable: bool  # whether they have effects in common
    better: list[str]
    worse: list[str]
    level: list[str]
    times: float  # the first method's passes, as a multiple of the other one's


def write_comparison(found: Comparison, folder: Path) -> Path:
    """Writes the files and returns the path of the Markdown one."""
    folder.mkdir(parents=True, exist_ok=True)
    found.rows().to_csv(folder / "compare.csv", index=False, float_format="%.6g")
    truth = found.true_rows()
    if len(truth):
        truth.to_csv(folder / "truth.csv", index=False, float_format="%.6g")
    draw(found, folder / "compare.png")
    (folder / "compare.md").write_text(text(found), encoding="utf-8")
    return folder / "compare.md"


def text(found: Comparison) -> str:
    """Returns the tables and verdicts as Markdown."""
    return render("reds_core.studies", "compare.md.j2", {
        "found": found, "spec": found.spec, "first": found.methods[0], "groups": list(found.methods[0].changed),
        "lines": [_line(found, m) for m in found.methods], "verdicts": [_verdict(found, m) for m in found.methods[1:]],
    })  # fmt: skip


def _line(found: Comparison, m: Measured) -> Line:
    bins = found.shared(m)

    def estimate(values: np.ndarray | None) -> Estimate:
        return UNKNOWN if values is None or not bins else found.at_equal_effect(m, values, bins)

    return Line(
        m.name, m, [estimate(m.drift[name]) for name in found.spec.held], estimate(m.flipped),
        float(np.mean(m.implausible)) if len(m.seed) else 0.0, [estimate(m.changed.get(g)) for g in found.methods[0].changed],
    )  # fmt: skip


def _verdict(found: Comparison, m: Measured) -> Verdict:
    first, bins = found.methods[0], found.shared(m)
    better: list[str] = []
    worse: list[str] = []
    level: list[str] = []
    pairs = [(f"the drift of {n}", first.drift[n], m.drift[n]) for n in found.spec.held]
    pairs.append(("flipped labels", first.flipped, m.flipped))
    for what, ours, theirs in pairs if bins else []:
        a, b = found.at_equal_effect(first, ours, bins), found.at_equal_effect(m, theirs, bins)
        if math.isnan(a.value) or math.isnan(b.value):
            continue
        apart = a.high < b.low or b.high < a.low
        ratio = f"{b.value / a.value:.1f} times" if a.value > 0 else f"{b.value:.1%} against none of"
        figures = f"{ratio} {first.name}'s" if what != "flipped labels" else f"{b.value:.1%} against {a.value:.1%}"
        (level if not apart else better if a.value < b.value else worse).append(f"{what} ({figures})")
    return Verdict(m.name, bool(bins), better, worse, level, first.passes_each / max(1e-9, m.passes_each))


def draw(found: Comparison, path: Path) -> None:
    """Draws drift and flips over effect, a line for each method, and the passes that a waypoint takes."""
    from matplotlib.figure import Figure

    table = found.rows()
    held = list(found.spec.held)
    units = {name: "in probability" if name in found.spec.decisions else "in spreads" for name in held}
    shown = [(f"drift of {name}, {units[name]}", table[table.attribute == name], "drift") for name in held]
    if table.flips.notna().any():
        shown.append(("labels flipped, says the judge", table[table.attribute == held[0]], "flips"))
    colours = dict(zip([m.name for m in found.methods], (OURS, *OTHERS), strict=False))
    figure = Figure(figsize=(4.2 * (len(shown) + 1), 3.9), layout="constrained")
    axes = figure.subplots(1, len(shown) + 1, squeeze=False)[0]
    for ax, (title, rows, key) in zip(axes, shown, strict=False):
        ax.set_title(title, loc="left", fontsize=10)
        _draw_over_effect(ax, found, rows, key, colours)
    _draw_passes(axes[-1], found, colours)
    for ax in axes:
        ax.spines[["top", "right"]].set_visible(False)
        ax.tick_params(labelsize=8)
    figure.savefig(path, dpi=130, facecolor="white")


def _draw_over_effect(ax: Any, found: Comparison, rows: pd.DataFrame, key: str, colours: Mapping[str, str]) -> None:
    for i, m in enumerate(found.methods):
        part = rows[(rows.method == m.name) & (rows.n >= LEAST_DRAWN)]
        middle = (part.effect_from + part.effect_to) / 2
        width, order = (1.4, 2) if i else (2.6, 3)
        ax.plot(middle, part[key], color=colours[m.name], lw=width, marker="o", ms=4, zorder=order)
        if i < BANDS:
            ax.fill_between(middle, part[f"{key}_low"], part[f"{key}_high"], color=colours[m.name], alpha=0.15, lw=0)
    ax.set_xlabel("effect, in spreads", fontsize=9)
    ax.set_ylim(bottom=0)
    if key == "flips":
        ax.yaxis.set_major_formatter(lambda v, _: f"{v:.0%}")


def _draw_passes(ax: Any, found: Comparison, colours: Mapping[str, str]) -> None:
    names = [m.name for m in found.methods][::-1]
    cost = [m.passes_each for m in found.methods][::-1]
    ax.barh(names, cost, color=[colours[n] for n in names])
    for y, c in enumerate(cost):
        ax.text(c, y, f" {c:.0f}", va="center", fontsize=9)
    ax.set_xscale("log")
    ax.set_xlim(0.5, max(cost) * 4)
    ax.set_title("passes for a variant (forward equivalents)", loc="left", fontsize=10)
