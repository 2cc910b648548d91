"""What a person reads about a run: `report.html`, self-contained, and `README.md`, the dataset card.

Both are made from the folder alone, so that they can be made again at any time; equal folders give equal bytes.
"""

from __future__ import annotations

import math
from html import escape
from importlib.resources import files

from reds_core.reports import sheet
from reds_core.reports.card import card
from reds_core.reports.charts import along_waypoints, bars
from reds_core.reports.croissant import write_croissant
from reds_core.reports.summary import Attribute, Summary, summarised
from reds_core.runs.run_folder import PAGE_NAMES
from reds_core.spec.load import dump
from reds_core.storage.folder import Folder

REASONS = {
    "held": "drifted further from its seed than the tolerance allows",
    "varied": "changed less than the smallest effect wanted",
    "judge": "the independent judge sees another label than the seed's",
    "seed_label": "the judge already contradicts the seed's own label, so nothing of that seed is used",
    "duplicate": "nearly the same as an earlier accepted variant of its seed",
    "not_finite": "an image or a feature could not be measured there",
    "turned": "the held attributes left the trajectory nowhere to go",
    "step_underflow": "no step was small enough to hold what must hold",
    "implausible": "further out than where the generator was trained",
}


def write_report(folder: Folder) -> str:
    """Writes report.html, README.md, and what machines read into a run's folder, and returns the report's path.

    Raises:
        OutputError: the folder is no run, or cannot be written. ShardDamaged: a shard differs from its manifest.
    """
    with summarised(folder) as summary:
        return write_pages(summary)


def write_pages(s: Summary) -> str:
    """The same, of a folder that is summed up already."""
    s.folder.write("README.md", card(s).encode())
    s.folder.write("report.html", page(s).encode())
    write_croissant(s)
    for name in (n for n in PAGE_NAMES if s.folder.size(n) is not None):
        s.origin.send(s.folder.path / name, name)  # on a disk it is there already
    return str(s.origin / "report.html")


def page(s: Summary) -> str:
    """The report as one HTML text."""
    css = files("reds_core.reports").joinpath("report.css").read_text(encoding="utf-8")
    sections = [
        _head(s), _figures(s), "<h2>Attributes</h2>", _attributes(s), "<h2>Along the trajectories</h2>", _along(s),
        "<h2>Verdicts</h2>", _verdicts(s), "<h2>Labels of accepted variants</h2>", _labels(s),
        "<h2>Contact sheet</h2>", _sheet_intro(s), sheet.html(s),
        f"<details><summary>The spec, resolved</summary><pre>{escape(dump(s.spec))}</pre></details>", _foot(s),
    ]  # fmt: skip
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(s.spec.name)}: {s.totals.accepted:,} verified variants</title><style>{css}</style></head>"
        f"<body>{''.join(sections)}</body></html>\n"
    )


def _head(s: Summary) -> str:
    held = ", ".join(f"{n} held within {t:g}" for n, t in s.spec.held.items())
    varied = ", ".join(f"{n} changed by at least {g.minimum:g}" for n, g in s.spec.varied.items())
    text = f"<h1>{s.totals.accepted:,} verified variants of {s.seeds:,} seeds</h1>"
    text += (
        f'<p class="soft">{escape(s.spec.name)}: {escape(held)}; {escape(varied)} spreads. A spread is the distance between two '
    )
    text += "unrelated images: 0 is identical, 1 as different as those.</p>"
    if s.progress:
        text += f'<p class="warn">A partial run: {s.progress} are finished. Run it again to continue.</p>'
    if s.seeds_short:
        text += (
            f'<p class="warn">{s.seeds_short:,} of {s.seeds:,} seeds had fewer than the {s.spec.trajectory.directions} directions that the '
            "spec asks for: what is held leaves no more.</p>"
        )
    if not s.totals.accepted:
        text += '<p class="warn">Nothing was accepted. The verdicts below say why; <code>reds check</code> suggests tolerances.</p>'
    return text


def _figures(s: Summary) -> str:
    t = s.totals
    figures = [
        (f"{s.share:.0%}", f"accepted of {t.candidates:,} candidates"),
        (f"{t.samples:,}", "samples, seeds' own images included"),
        (f"{t.shards:,}", f"shards, {t.bytes / 1e6:,.1f} MB"),
        (_number(s.equivalents, ".0f"), "forward passes or equivalents per accepted variant"),
        (f"{t.seconds:,.0f} s", "of work, all shards together"),
    ]
    if s.judged:
        figures.append((f"{s.agreed / s.judged:.1%}", "of candidates kept their label, says the judge, before any filter"))
    return '<ul class="figures">' + "".join(f"<li><b>{a}</b><span>{escape(b)}</span></li>" for a, b in figures) + "</ul>"


def _attributes(s: Summary) -> str:
    head = "<tr><th>attribute</th><th>role</th><th class=n>limit</th><th class=n>median, accepted</th><th class=n>largest, accepted</th>"
    rows = [f"{head}<th class=n>spread</th><th>in units of</th></tr>"]
    for a in s.attributes:
        unit = s.spec.attributes[a.name].kind
        limit = f"drift &le; {a.limit:g}" if a.role == "held" else f"effect &ge; {a.limit:g}"
        largest = a.accepted.largest if s.totals.accepted else math.nan
        rows.append(
            f"<tr><td>{escape(a.name)}</td><td>{a.role}</td><td class=n>{limit}</td><td class=n>{_number(a.accepted.quantile(0.5))}</td>"
            f"<td class=n>{_number(largest)}</td><td class=n>{_number(a.spread, '.4g')}</td><td>{escape(unit)}, L2</td></tr>"
        )
    return f'<div class="scroll"><table>{"".join(rows)}</table></div>'


def _along(s: Summary) -> str:
    if not s.totals.candidates:
        return "<p>No candidates yet.</p>"
    charts = [_chart(s, a) for a in s.attributes]
    waypoints = range(1, s.spec.trajectory.waypoints + 1)
    shares = [s.accepted_by_waypoint[w] / s.tried_by_waypoint[w] if s.tried_by_waypoint[w] else math.nan for w in waypoints]
    drawing = along_waypoints("share", shares, shares, shares, None, "", "accepted share by waypoint", largest=1.0)
    charts.append(f"<figure><figcaption>accepted share <small>by waypoint</small></figcaption>{drawing}</figure>")
    intro = (
        "<p class=soft>By waypoint, over all measured candidates: median, and the band from the 10th to the 90th percentile.</p>"
    )
    return f'{intro}<div class="charts">{"".join(charts)}</div>'


def _chart(s: Summary, a: Attribute) -> str:
    histograms = [a.by_waypoint[w] for w in range(1, s.spec.trajectory.waypoints + 1)]
    low, middle, high = ([h.quantile(q) for h in histograms] for q in (0.1, 0.5, 0.9))
    what = "drift" if a.role == "held" else "effect"
    limit_name = "tolerance" if a.role == "held" else "minimum"
    drawing = along_waypoints(a.role, low, middle, high, a.limit, limit_name, f"{what} of {a.name} by waypoint")
    return f"<figure><figcaption>{escape(a.name)} <small>{what} in spreads, by waypoint</small></figcaption>{drawing}</figure>"


def _verdicts(s: Summary) -> str:
    rows = [("accepted", s.totals.accepted, "met every tolerance and minimum" + (", and the judge agrees" if s.judged else ""))]
    for reason, count in s.totals.rejected.most_common():
        kind, _, name = reason.partition(":")
        rows.append((reason, count, f"{name + ' ' if name else ''}{REASONS[kind]}"))
    return bars(rows, "held")


def _labels(s: Summary) -> str:
    if s.spec.label == "none":
        return "<p>The spec asks for no labels.</p>"
    return bars([(name or "no label", count, "") for name, count in sorted(s.accepted_labels.items())], "share")


def _sheet_intro(s: Summary) -> str:
    t = s.spec.trajectory
    return (
        f'<p class="soft">At most {sheet.MOST_SEEDS} seeds, spread over the run. Rows are trajectories: direction and sign; columns are '
        f"waypoints 1 to {t.waypoints}. A dashed cell is a reject with its reason; hover for the figures.</p>"
    )


def _foot(s: Summary) -> str:
    versions = ", ".join(f"{k} {v}" for k, v in s.versions.items())
    return (
        f"<footer>run {escape(s.origin.name)}; {escape(versions)}; {escape(s.device)}. Drift is what the held "
        "features see; what they do not see is not held.</footer>"
    )


def _number(value: float, form: str = ".3f") -> str:
    return format(value, form) if math.isfinite(value) else "&ndash;"
