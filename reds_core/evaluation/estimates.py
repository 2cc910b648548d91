"""What the repeats of an evaluation say: means, and intervals of paired differences.

Two arms of one repeat share real images and initial weights, so that their difference varies less than either: what is tested is
the mean of differences over repeats, by Student's t.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from scipy import stats

CONFIDENCE = 0.95
FIGURES = ("accuracy", "macro_f1", "worst_group")

Verdict = Literal["better", "worse", "not told apart", ""]


@dataclass(frozen=True)
class Difference:
    """The mean of an arm's paired differences to another one, with its interval; NaN where fewer than two repeats have both."""

    mean: float
    low: float
    high: float

    @property
    def verdict(self) -> Verdict:
        """Where the arm stands beside the other one; "" if nothing can be said."""
        if np.isnan(self.low):
            return ""
        return "better" if self.low > 0 else "worse" if self.high < 0 else "not told apart"

    @property
    def points(self) -> str:
        """The difference in points, as in "+0.5 (-1.3 to +2.3)"."""
        return f"{100 * self.mean:+.1f}" + (f" ({100 * self.low:+.1f} to {100 * self.high:+.1f})" if self.verdict else "")


@dataclass(frozen=True)
class Line:
    """An arm at a number of real images a class."""

    arm: str
    repeats: int
    images_extra: float
    accuracy: float
    macro_f1: float
    worst_group: float
    seconds: float
    images_per_second: float
    to_classic: Difference | None  # in accuracy; None for `classic` itself, or without it
    worst_to_classic: Difference | None


def lines(table: pd.DataFrame, per_class: int, arms: Sequence[str]) -> list[Line]:
    """Returns a line for each arm that has rows, in order."""
    part = table[table.per_class == per_class]
    found = []
    for arm in arms:
        rows = part[part.arm == arm]
        if not len(rows):
            continue
        means = {name: float(rows[name].mean()) for name in (*FIGURES, "images_extra", "seconds", "images_per_second")}
        beside = None if arm == "classic" or "classic" not in set(part.arm) else "classic"
        differences = [beside and difference(part, arm, beside, name) for name in ("accuracy", "worst_group")]
        found.append(Line(arm, len(rows), to_classic=differences[0] or None, worst_to_classic=differences[1] or None, **means))
    return found


def difference(rows: pd.DataFrame, arm: str, other: str, figure: str) -> Difference:
    """Returns the paired difference of two arms in a figure, over the repeats that both have."""
    wide = rows[rows.arm.isin([arm, other])].pivot(index="repeat", columns="arm", values=figure)
    if arm not in wide or other not in wide:
        return Difference(np.nan, np.nan, np.nan)
    apart = (wide[arm] - wide[other]).dropna().to_numpy()
    if len(apart) < 2:
        return Difference(float(apart.mean()) if len(apart) else np.nan, np.nan, np.nan)
    error = stats.sem(apart)
    if not error:  # equal differences: no width
        return Difference(float(apart.mean()), float(apart.mean()), float(apart.mean()))
    low, high = stats.t.interval(CONFIDENCE, len(apart) - 1, apart.mean(), error)
    return Difference(float(apart.mean()), float(low), float(high))
