"""Small charts: where each line, mark and label goes. `templates/charts.html.j2` draws them as SVG, without a script.

Horizontally, waypoint i of n lies in the middle of the i-th of n equal columns. Vertically, the lowest line of the grid is 0, and
the highest is the least round number above all that is shown.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

WIDTH, HEIGHT = 380, 190
LEFT, RIGHT, TOP, BOTTOM = 48, 12, 14, 28  # margins
MOST_NAMES = 12  # waypoints named below a chart
ROUND = (1, 2, 3, 4, 5, 6, 8, 10)


@dataclass(frozen=True)
class Band:
    """A line with a band around it, by waypoint; NaN where nothing was measured."""

    low: Sequence[float]
    middle: Sequence[float]
    high: Sequence[float]


@dataclass(frozen=True)
class Limit:
    """A dashed line across a chart."""

    value: float
    name: str


@dataclass(frozen=True)
class Chart:
    """A band over waypoints, placed: all coordinates are in SVG units, from the upper left corner."""

    width: ClassVar[int] = WIDTH
    height: ClassVar[int] = HEIGHT
    left: ClassVar[int] = LEFT
    right: ClassVar[int] = WIDTH - RIGHT

    style: str  # "held", "varied" or "share": the CSS class that colours it
    title: str
    note: str
    label: str  # for those who cannot see it
    ticks: list[tuple[float, str]]  # y, text
    names: list[tuple[float, str]]  # x, text
    low: list[tuple[float, float]]
    middle: list[tuple[float, float]]
    high: list[tuple[float, float]]
    limit: tuple[float, str] | None  # y, text


@dataclass(frozen=True)
class Bar:
    """A row of a table of counts: its share of the sum, and the length of its bar in percent of the longest."""

    name: str
    count: int
    text: str
    share: float
    length: float


def along_waypoints(
    style: str, title: str, note: str, label: str, band: Band, limit: Limit | None = None, largest: float = math.inf
) -> Chart:
    """Returns a chart of a band over waypoints 1, 2, ...; its scale ends at `largest` where no larger value is possible."""
    known = [v for v in (*band.high, *band.middle, limit.value if limit else 0.0) if math.isfinite(v)]
    top = min(_round_up(max([*known, 1e-9]) * 1.05), largest)
    n = len(band.middle)
    shown = [i for i in range(n) if math.isfinite(band.middle[i])]

    def x(i: int) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * ((i + 0.5) / n)

    def y(value: float) -> float:
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * value / top

    return Chart(
        style, title, note, label,
        ticks=[(y(tick), f"{tick:g}") for tick in (0.0, top / 2, top)],
        names=[(x(i), str(i + 1)) for i in range(0, n, max(1, n // MOST_NAMES))],
        low=[(x(i), y(band.low[i])) for i in shown],
        middle=[(x(i), y(band.middle[i])) for i in shown],
        high=[(x(i), y(band.high[i])) for i in shown],
        limit=(y(limit.value), limit.name) if limit else None,
    )  # fmt: skip


def bars(rows: Sequence[tuple[str, int, str]]) -> list[Bar]:
    """Returns the bars of rows of name, count and explanation."""
    counts = [count for _, count, _ in rows]
    largest, total = max([1, *counts]), max(1, sum(counts))
    return [Bar(name, count, text, count / total, 100 * count / largest) for name, count, text in rows]


def _round_up(value: float) -> float:
    """Returns the least number of ROUND times a power of ten that is not below a value."""
    power = 10.0 ** math.floor(math.log10(value))
    return next(m * power for m in ROUND if m * power >= value * (1 - 1e-9))
