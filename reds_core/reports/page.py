"""What a person reads about a run: `report.html`, which is self-contained, and `README.md`, the dataset card.

Both are made from the folder alone, so they can be made again at any time; equal folders give equal bytes. This file chooses what
the report shows; `templates/report.html.j2` says it.
"""

from __future__ import annotations

import math

from reds_core.jobs.thumbnails import most_seeds
from reds_core.reports import sheet
from reds_core.reports.card import card
from reds_core.reports.charts import Band, Bar, Chart, Limit, along_waypoints, bars
from reds_core.reports.croissant import write_croissant
from reds_core.reports.render import number, render
from reds_core.reports.summary import Summary, summarised
from reds_core.runs.run_folder import PAGE_NAMES
from reds_core.spec.load import dump
from reds_core.storage.folder import Folder
from reds_core.types import REASONS
from reds_core.words import counted, in_order


def write_report(folder: Folder) -> str:
    """Writes report.html, README.md and the files for programs into a run's folder, and returns the report's path.

    Raises:
        OutputError: the folder is not a run, or cannot be written.
        ShardDamaged: a shard differs from its manifest.
    """
    with summarised(folder) as summary:
        return write_pages(summary)


def write_pages(s: Summary) -> str:
    """Does what `write_report` does for a folder that is already summed up."""
    s.folder.write("README.md", card(s).encode())
    s.folder.write("report.html", page(s).encode())
    write_croissant(s)
    for name in (n for n in PAGE_NAMES if s.folder.size(n) is not None):
        s.home.send(s.folder.path / name, name)  # on a disk it is there already
    return str(s.home / "report.html")


def page(s: Summary) -> str:
    """Returns the report as one HTML text."""
    return render("reds_core.reports", "report.html.j2", {
        "s": s, "spec": s.spec, "totals": s.totals, "figures": _figures(s), "charts": _charts(s), "verdicts": _verdicts(s),
        "labels": bars([(name or "no label", s.accepted_labels[name], "") for name in sorted(s.accepted_labels, key=in_order)]),
        "sheet": sheet.contact_sheet(s), "most_seeds": most_seeds(s.spec), "yaml": dump(s.spec),
    })  # fmt: skip


def _figures(s: Summary) -> list[tuple[str, str]]:
    """Returns a run's most telling figures, each with its meaning."""
    t, walks, own = s.totals, s.spec.walks, s.spec.seeds.images is not None
    tried = counted(t.candidates, "candidate" if walks else "image" if own else "seed")
    included = ", seeds' own images included" if walks else ", your images included" if own else ""
    figures = [
        (f"{t.share:.0%}", f"accepted of {tried}" + (f", at most {s.spec.keep} a seed" if s.spec.keep else "")),
        (f"{t.samples:,}", f"samples{included}"),
        (f"{t.shards:,}", f"{'shard' if t.shards == 1 else 'shards'}, {t.bytes / 1e6:,.1f} MB"),
        (
            number(s.equivalents, ".0f" if walks or own else ".2f"),
            f"forward passes or equivalents per accepted {'variant' if walks else 'image' if own else 'seed'}",
        ),
        (f"{t.seconds:,.0f} s", "of work, all shards together"),
    ]
    if s.judged:
        figures.append(
            (
                f"{s.agreed / s.judged:.1%}",
                f"of {'candidates kept' if walks else 'them show'} their label according to the judge, before any filter",
            )
        )
    return figures


def _charts(s: Summary) -> list[Chart]:
    """Returns a chart for every attribute, and one of the share that was accepted; none where there are no waypoints."""
    if not s.spec.walks:
        return []
    waypoints = range(1, s.spec.trajectory.waypoints + 1)
    charts = []
    for a in s.attributes:
        histograms = [a.by_waypoint[w] for w in waypoints]
        band = Band(*([h.quantile(q) for h in histograms] for q in (0.1, 0.5, 0.9)))
        # A decision's tolerance differs from seed to seed.
        limit = None if a.bound is None else Limit(a.bound, "tolerance" if a.role == "held" else "minimum")
        charts.append(
            along_waypoints(a.role, a.name, f"{a.figures}, by waypoint", f"{a.name}: {a.figures}, by waypoint", band, limit)
        )
    shares = [s.accepted_by_waypoint[w] / s.tried_by_waypoint[w] if s.tried_by_waypoint[w] else math.nan for w in waypoints]
    band = Band(shares, shares, shares)
    charts.append(along_waypoints("share", "accepted share", "by waypoint", "accepted share by waypoint", band, largest=1.0))
    return charts


def _verdicts(s: Summary) -> list[Bar]:
    """Returns how many candidates were accepted, and how many were rejected for each reason."""
    met = "met every tolerance and minimum" if s.spec.walks else "reconstructed" if s.spec.seeds.images else "rendered"
    # A judge may contradict the user's own labels without rejecting anything.
    judge = ", and the judge agrees" if s.judged and (s.spec.walks or not s.spec.seeds.images) else ""
    rows = [("accepted", s.totals.accepted, met + judge)]
    for reason, count in s.totals.rejected.most_common():
        kind, _, name = reason.partition(":")
        meaning = "lost more of the label's probability than it may" if name in s.spec.decisions else REASONS[kind]
        rows.append((reason, count, f"{name + ' ' if name else ''}{meaning}"))
    return bars(rows)
