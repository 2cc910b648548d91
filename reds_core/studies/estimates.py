"""Means with bootstrap intervals over seeds.

Variants of one seed are not independent samples. Resampling therefore draws whole seeds, with replacement: each resample gives a
mean, and the interval lies between its 2.5 % and 97.5 % quantiles (the percentile bootstrap: Efron and
Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

RESAMPLES = 1000


@dataclass(frozen=True)
class Estimate:
    """A mean with its 95 % interval; NaN where nothing was measured."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return "-" if math.isnan(self.value) else f"{self.value:.3f} ({self.low:.3f} to {self.high:.3f})"

    @property
    def percent(self) -> str:
        return "-" if math.isnan(self.value) else f"{self.value:.1%} ({self.low:.1%} to {self.high:.1%})"


UNKNOWN = Estimate(math.nan, math.nan, math.nan)


def over_seeds(
    seed: np.ndarray,
    values: np.ndarray,
    which: np.ndarray | None = None,
    bins: Sequence[int] = (0,),
    weights: Sequence[float] | np.ndarray = (1.0,),
) -> Estimate:
    """Returns the weighted mean over bins of the mean of the values in each, with its interval.

    Args:
        seed: (n,), the seed that each value belongs to.
        values: (n,); those that are NaN do not count.
        which: (n,), the bin that each value lies in; bin 0 for all if None.
        bins: the bins that count.
        weights: how much each of `bins` counts. A resample that leaves a bin empty is averaged over the others.
    """
    which = np.zeros(len(seed), dtype=np.int64) if which is None else which
    known = np.isfinite(values) & np.isin(which, bins)
    if not known.any():
        return UNKNOWN
    names, rows = np.unique(seed[known], return_inverse=True)
    sums, counts = (np.zeros((len(names), len(bins))) for _ in range(2))
    columns = np.searchsorted(bins, which[known])
    np.add.at(sums, (rows, columns), values[known])
    np.add.at(counts, (rows, columns), 1)

    def mean(times: np.ndarray) -> np.ndarray:  # (r, seeds), how often each seed is drawn -> (r,)
        total, n = times @ sums, times @ counts
        share = np.where(n > 0, np.asarray(weights, dtype=float), 0.0)
        found: np.ndarray = (share * total / np.maximum(n, 1)).sum(1) / np.maximum(share.sum(1), 1e-300)
        return found

    drawn = np.random.default_rng(0).multinomial(len(names), np.full(len(names), 1 / len(names)), RESAMPLES)
    low, high = np.quantile(mean(drawn), [0.025, 0.975])
    return Estimate(float(mean(np.ones((1, len(names))))[0]), float(low), float(high))
