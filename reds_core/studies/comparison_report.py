"""A comparison as files for people: compare.csv, compare.png, compare.md; and truth.csv, where a generator knows its true factors."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from reds_core.studies.compare import Comparison, Estimate, Measured

OURS = "#0b7285"
OTHERS = ("#e8590c", "#f08c00", "#868e96", "#adb5bd", "#7048e8", "#c2255c", "#5c940d")


def write_comparison(found: Comparison, folder: Path) -> Path:
    """Writes the files and returns the Markdown one."""
    folder.mkdir(parents=True, exist_ok=True)
    found.rows().to_csv(folder / "compare.csv", index=False, float_format="%.6g")
    truth = found.true_rows()
    if len(truth):
        truth.to_csv(folder / "truth.csv", index=False, float_format="%.6g")
    draw(found, folder / "compare.png")
    (folder / "compare.md").write_text("\n".join(text(found)) + "\n", encoding="utf-8")
    return folder / "compare.md"


def draw(found: Comparison, path: Path) -> None:
    """Drift and flips over effect, a line a method, and what a variant costs."""
    from matplotlib.figure import Figure

    table = found.rows()
    held = list(found.spec.held)
    judged = bool(table.flips.notna().any())
    colours = dict(zip([m.name for m in found.methods], (OURS, *OTHERS), strict=False))
    panels = len(held) + judged + 1
    figure = Figure(figsize=(4.2 * panels, 3.9), layout="constrained")
    axes = figure.subplots(1, panels, squeeze=False)[0]
    shown = [(f"drift of {name}, in spreads", table[table.attribute == name], "drift") for name in held]
    if judged:
        shown.append(("labels flipped, says the judge", table[table.attribute == held[0]], "flips"))
    for ax, (title, rows, key) in zip(axes, shown, strict=False):
        for m in found.methods:
            part = rows[rows.method == m.name]
            part = part[part.n >= 5]
            middle = (part.effect_from + part.effect_to) / 2
            first = m is found.methods[0]
            ax.plot(middle, part[key], color=colours[m.name], lw=2.6 if first else 1.4, marker="o", ms=4, zorder=3 if first else 2)
            if m in found.methods[:2]:  # more bands than two hide each other; compare.csv has all of them
                ax.fill_between(middle, part[f"{key}_low"], part[f"{key}_high"], color=colours[m.name], alpha=0.15, lw=0)
        ax.set_title(title, loc="left", fontsize=10)
        ax.set_xlabel("effect, in spreads", fontsize=9)
        ax.set_ylim(bottom=0)
        if key == "flips":
            ax.yaxis.set_major_formatter(lambda v, _: f"{v:.0%}")
    names = [m.name for m in found.methods][::-1]
    cost = [m.passes.equivalents / m.each for m in found.methods][::-1]
    axes[-1].barh(names, cost, color=[colours[n] for n in names])
    for y, c in enumerate(cost):
        axes[-1].text(c, y, f" {c:.0f}", va="center", fontsize=9)
    axes[-1].set_xscale("log")
    axes[-1].set_xlim(0.5, max(cost) * 4)
    axes[-1].set_title("passes for a variant (forward equivalents)", loc="left", fontsize=10)
    for ax in axes:
        ax.spines[["top", "right"]].set_visible(False)
        ax.tick_params(labelsize=8)
    figure.savefig(path, dpi=130, facecolor="white")


def text(found: Comparison) -> Iterator[str]:
    """The verdict, in Markdown."""
    spec, first = found.spec, found.methods[0]
    held, varied = ", ".join(spec.held), ", ".join(spec.varied)
    yield f"# {spec.name}: {first.name} and {len(found.methods) - 1} other methods"
    yield ""
    yield f"Held: {held}. Varied: {varied}. {found.seeds} seeds, every waypoint before any filter, at equal effect: effects of "
    yield f"{found.edges[0]:.2f} to {found.edges[-1]:.2f} spreads in {len(found.edges) - 1} bins, weighted as {first.name}'s waypoints lie."
    yield "Drifts are in spreads; intervals are 95 %, by bootstrap over seeds. A method's step is chosen so that it gets as far."
    yield ""
    yield (
        "| method | "
        + " | ".join(f"drift of {n}" for n in spec.held)
        + " | labels flipped | implausible | reached | passes | seconds |"
    )
    yield "|---|" + "---|" * (len(spec.held) + 5)
    for m in found.methods:
        bins = found.shared(m)
        drifts = [str(found.at_equal_effect(m, m.drift[n], bins)) if bins else "-" for n in spec.held]
        flips = found.at_equal_effect(m, m.flipped, bins) if bins else Estimate(math.nan, math.nan, math.nan)
        yield (
            f"| {m.name} | " + " | ".join(drifts) + f" | {_percent(flips)} | {np.mean(m.implausible) if len(m.seed) else 0:.0%} "
            f"| {len(m.seed) / m.asked:.0%} | {m.passes.equivalents / m.each:.1f} | {m.seconds / m.each:.3f} |"
        )
    yield ""
    yield "*implausible*: further from the mean than 99.9 % of sampled latents. *reached*: waypoints that the trajectories came to, of all"
    yield "that were asked for. *passes*: forward equivalents for each waypoint reached, all work included; *seconds* likewise."
    yield ""
    if spec.judge is None:
        yield "The spec names no judge, so nothing says whether labels flipped. Give it one that had no part in holding anything."
        yield ""
    yield from _truth(found)
    yield "## Verdict"
    yield ""
    for m in found.methods[1:]:
        yield from _verdict(found, m)


def _truth(found: Comparison) -> Iterator[str]:
    """A table of how far the true factors moved, where a generator knows them."""
    groups = list(found.methods[0].changed)
    if not groups:
        return
    yield "## True factors"
    yield ""
    yield "The generator is a rendered test world: what it draws is known. The root mean square change of each group's true factors, in"
    yield "their own standard deviations over all images, at the same effects as above; 0 is the seed's own, and two unrelated images are"
    yield "about 1.4 apart. truth.csv has every bin."
    yield ""
    yield "| method | " + " | ".join(groups) + " |"
    yield "|---|" + "---|" * len(groups)
    for m in found.methods:
        bins = found.shared(m)
        changes = [str(found.at_equal_effect(m, m.changed[g], bins)) if bins and g in m.changed else "-" for g in groups]
        yield f"| {m.name} | " + " | ".join(changes) + " |"
    yield ""


def _verdict(found: Comparison, m: Measured) -> Iterator[str]:
    first, bins = found.methods[0], found.shared(m)
    if not bins:
        yield f"- **{m.name}**: no effects in common with {first.name}, nothing to compare."
        return
    better: list[str] = []
    worse: list[str] = []
    level: list[str] = []
    pairs = [(f"the drift of {n}", first.drift[n], m.drift[n]) for n in found.spec.held]
    pairs.append(("flipped labels", first.flipped, m.flipped))
    for what, ours, theirs in pairs:
        a, b = found.at_equal_effect(first, ours, bins), found.at_equal_effect(m, theirs, bins)
        if math.isnan(a.value) or math.isnan(b.value):
            continue
        apart = a.high < b.low or b.high < a.low
        ratio = f"{b.value / a.value:.1f} times" if a.value > 0 else f"{b.value:.1%} against none of"
        said = f"{what}: {ratio} {first.name}'s" if what != "flipped labels" else f"{what}: {b.value:.1%} against {a.value:.1%}"
        (level if not apart else better if a.value < b.value else worse).append(said)
    cheaper = first.passes.equivalents / first.each / max(1e-9, m.passes.equivalents / m.each)
    cost = f"it spends {1 / cheaper:.1f} times the passes" if cheaper < 1 else f"it spends {cheaper:.1f} times fewer passes"
    lines = [f"{', '.join(better)}" if better else ""]
    lines.append(f"**{first.name} is not better** in {', '.join(worse)}" if worse else "")
    lines.append(f"cannot be told apart in {', '.join(level)}" if level else "")
    lines.append(f"**{cost}**" if cheaper >= 1 else cost)
    yield f"- **{m.name}**: " + "; ".join(line for line in lines if line) + "."


def _percent(e: Estimate) -> str:
    return "-" if math.isnan(e.value) else f"{e.value:.1%} ({e.low:.1%} to {e.high:.1%})"
