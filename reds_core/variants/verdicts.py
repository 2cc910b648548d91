"""Is a variant what it is labelled as? Spread, drift, effect and the judge, as one verdict with a reason.

    spread   median distance between the feature vectors of unrelated seeds
    drift    |f(x) - f(x_seed)| / spread of a held attribute: 0 identical, 1 as different as two unrelated images
    effect   the same of a varied attribute

All of it on the images as stored. The first of these that applies is the reason:

    not_finite      an image or a feature that is not a number
    held:NAME       its drift is above the tolerance
    varied:NAME     its effect is below the minimum
    judge           the judge sees another label than the seed's
    duplicate       in every varied attribute nearer than `duplicates` to an earlier accepted variant of its seed
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from reds_core.spec.fields import Goal
from reds_core.types import Features, Reason


@dataclass(frozen=True)
class Decisions:
    """What a classifier says of n images: class index, its probability, and whether the scores were numbers at all."""

    labels: list[int]
    confidences: list[float]
    finite: list[bool]


def decide(scores: Features) -> Decisions:
    """Class scores (n, k) -> decisions."""
    confidence, label = torch.nan_to_num(scores).softmax(1).max(1)
    return Decisions(label.tolist(), confidence.tolist(), torch.isfinite(scores).all(1).tolist())


def all_distances(rows: Features) -> Tensor:
    """Distances (n, n) between all rows, in their own units."""
    # The exact form: the faster one by inner products loses all digits of close pairs.
    return torch.cdist(rows, rows, compute_mode="donot_use_mm_for_euclid_dist")


def median_distance(vectors: Features) -> float:
    """The median distance between all pairs of rows, (n, p). NaN rows count for nothing; NaN if fewer than two are left."""
    rows = vectors[torch.isfinite(vectors).all(1)]
    if len(rows) < 2:
        return float("nan")
    distances = all_distances(rows)
    i, j = torch.triu_indices(len(rows), len(rows), 1, device=rows.device)
    return float(distances[i, j].double().quantile(0.5))


def distance(vectors: Features, seed: Features, spread: float) -> list[float]:
    """Distances (n,) between rows and the seed's one row, or row by row, in spreads."""
    return [float(v) for v in ((vectors - seed).double().norm(dim=1) / spread).tolist()]


def verdicts(
    drifts: Mapping[str, Sequence[float]],
    effects: Mapping[str, Sequence[float]],
    judged: Sequence[bool],
    apart: Tensor,
    held: Mapping[str, float],
    varied: Mapping[str, Goal],
    duplicates: float,
) -> list[Reason]:
    """The reason of every variant of one seed, in order; "" for an accepted one.

    Args:
        drifts, effects: per attribute, a value per variant in spreads; NaN is `not_finite`.
        judged: per variant, whether the judge agrees.
        apart: (n, n) between variants, the largest of their distances in any varied attribute, in spreads.
        held, varied, duplicates: tolerances, goals and distance of the spec.
    """
    reasons: list[Reason] = []
    accepted: list[int] = []
    near = (apart < duplicates).cpu()
    for i, agrees in enumerate(judged):
        reason = _reason({k: v[i] for k, v in drifts.items()}, {k: v[i] for k, v in effects.items()}, held, varied)
        if not reason and not agrees:
            reason = "judge"
        if not reason and bool(near[i, accepted].any()):
            reason = "duplicate"
        if not reason:
            accepted.append(i)
        reasons.append(reason)
    return reasons


def _reason(
    drifts: Mapping[str, float], effects: Mapping[str, float], held: Mapping[str, float], varied: Mapping[str, Goal]
) -> Reason:
    for value in (*drifts.values(), *effects.values()):
        if not value < float("inf"):
            return "not_finite"
    for name, tolerance in held.items():
        if drifts[name] > tolerance:
            return f"held:{name}"
    for name, goal in varied.items():
        if effects[name] < goal.minimum:
            return f"varied:{name}"
    return ""
