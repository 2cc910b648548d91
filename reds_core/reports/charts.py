"""Small charts as SVG text: no library, no script, and colours that follow the page's light or dark scheme."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

WIDTH, HEIGHT = 380, 190
LEFT, RIGHT, TOP, BOTTOM = 40, 12, 14, 28


def along_waypoints(
    style: str,
    low: Sequence[float],
    middle: Sequence[float],
    high: Sequence[float],
    limit: float | None,
    limit_name: str,
    label: str,
    largest: float = math.inf,
) -> str:
    """A line with a band over waypoints 1, 2, ...; NaN where nothing was measured. `limit` is a dashed line, `largest` what is possible."""
    known = [v for v in (*high, *middle, limit if limit is not None else 0.0) if math.isfinite(v)]
    top = min(_round_up(max([*known, 1e-9]) * 1.05), largest)
    n = len(middle)

    def x(i: int) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * ((i + 0.5) / n)

    def y(v: float) -> float:
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * v / top

    parts = [f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(label)}" class="{style}">']
    for tick in (0.0, top / 2, top):
        parts.append(f'<line class="axis" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(tick):.1f}" y2="{y(tick):.1f}"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y(tick) + 4:.1f}" text-anchor="end">{tick:g}</text>')
    shown = [i for i in range(n) if math.isfinite(middle[i])]
    step = max(1, n // 12)
    for i in range(0, n, step):
        parts.append(f'<text x="{x(i):.1f}" y="{HEIGHT - 10}" text-anchor="middle">{i + 1}</text>')
    if shown:
        edge = [f"{x(i):.1f},{y(high[i]):.1f}" for i in shown] + [f"{x(i):.1f},{y(low[i]):.1f}" for i in reversed(shown)]
        parts.append(f'<polygon class="band" points="{" ".join(edge)}"/>')
        parts.append(f'<polyline class="median" points="{" ".join(f"{x(i):.1f},{y(middle[i]):.1f}" for i in shown)}"/>')
        parts += [f'<circle class="spot" cx="{x(i):.1f}" cy="{y(middle[i]):.1f}" r="3"/>' for i in shown]
    if limit is not None:
        parts.append(f'<line class="limit" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(limit):.1f}" y2="{y(limit):.1f}"/>')
        parts.append(
            f'<text class="limit-name" x="{WIDTH - RIGHT}" y="{y(limit) - 4:.1f}" text-anchor="end">{escape(limit_name)}</text>'
        )
    return "".join(parts) + "</svg>"


def bars(rows: Sequence[tuple[str, int, str]], style: str) -> str:
    """A table of name, count, bar and explanation; names and explanations are plain text."""
    largest = max((count for _, count, _ in rows), default=1) or 1
    total = sum(count for _, count, _ in rows) or 1
    cells = [
        f'<tr><td>{escape(name)}</td><td class="n">{count:,}</td><td class="n">{count / total:.0%}</td>'
        f'<td class="barcell {style}"><span class="bar" style="width:{100 * count / largest:.1f}%"></span></td>'
        f'<td class="wrap soft">{escape(text)}</td></tr>'
        for name, count, text in rows
    ]
    return f'<div class="scroll"><table>{"".join(cells)}</table></div>'


def _round_up(value: float) -> float:
    """The next number of the form 1, 2, 3, 4, 5, 6 or 8 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(value))
    return next(m * power for m in (1, 2, 3, 4, 5, 6, 8, 10) if m * power >= value * (1 - 1e-9))
