"""Templates: what is escaped where, and what a missing value does."""

from __future__ import annotations

import pytest
from jinja2 import UndefinedError

from reds_core.reports.charts import Band, Limit, along_waypoints, bars
from reds_core.reports.render import fence, inline, number, render


@pytest.mark.parametrize(
    ("text", "escaped"),
    [("Ankle boot", "Ankle boot"), ("a|b", r"a\|b"), ("a\\|b", r"a\\\|b"), ("<b>", r"\<b>"), ("two\r\n lines\n", "two lines")],
)
def test_a_text_stays_in_its_cell(text: str, escaped: str) -> None:
    assert inline(text) == escaped


def test_a_code_block_ends_where_its_text_ends() -> None:
    assert fence("name: x") == "```" and fence("names: [```, `````]") == "``````"


def test_what_was_not_measured_is_a_dash() -> None:
    assert (number(0.12345), number(float("nan")), number(float("inf"))) == ("0.123", "\N{EN DASH}", "\N{EN DASH}")


def test_a_missing_value_is_an_error() -> None:
    with pytest.raises(UndefinedError):
        render("reds_core.reports", "report.html.j2", {})


def test_a_chart_shows_what_was_measured_below_a_round_number() -> None:
    nan = float("nan")
    chart = along_waypoints(
        "held", "class", "", "", Band([0.1, nan, 0.0], [0.2, nan, 0.1], [0.29, nan, 0.2]), Limit(0.15, "tolerance")
    )
    top, bottom = chart.ticks[-1], chart.ticks[0]
    assert (bottom[1], top[1]) == ("0", "0.4") and chart.limit is not None
    assert len(chart.low) == len(chart.middle) == len(chart.high) == 2 and [name for _, name in chart.names] == ["1", "2", "3"]
    share = (bottom[0] - chart.limit[0]) / (bottom[0] - top[0])
    assert share == pytest.approx(0.15 / 0.4) and chart.low[1][1] == bottom[0]


def test_bars_are_shares_of_the_sum_as_long_as_their_share_of_the_largest() -> None:
    rows = bars([("a", 3, ""), ("b", 1, "why"), ("c", 0, "")])
    assert [(row.share, row.length) for row in rows] == [(0.75, 100), (0.25, 100 / 3), (0, 0)]
    assert bars([]) == []
