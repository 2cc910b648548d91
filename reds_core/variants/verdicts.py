"""Whether a variant is what it is labelled as: drift, effect and the judge, as one verdict with a reason.

    spread   the median distance between the features of unrelated seeds
    drift    |f(x) - f(x_seed)| / spread of a held attribute: 0 identical, 1 as different as two unrelated images
    effect   the same of a varied attribute

All are measured on the images as stored. The first of these that applies is the reason:

    not_finite      an image or a feature is not finite
    held:NAME       its drift is above the tolerance
    varied:NAME     its effect is below the minimum
    judge           the judge sees another label than the seed's
    duplicate       it is nearer than `duplicates`, in every varied attribute, to an earlier accepted variant of its seed
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from reds_core.spec.fields import Goal
from reds_core.types import Features, Reason


@dataclass(frozen=True)
class Decisions:
    """What a classifier says of n images: the class index, its probability, and whether the scores were finite at all."""

    labels: list[int]
    confidences: list[float]
    finite: list[bool]


def decide(scores: Features) -> Decisions:
    """Returns the decisions that class scores make."""
    confidence, label = torch.nan_to_num(scores).softmax(1).max(1)
    return Decisions(label.tolist(), confidence.tolist(), torch.isfinite(scores).all(1).tolist())


def verdicts(
    drifts: Mapping[str, Sequence[float]],
    effects: Mapping[str, Sequence[float]],
    judged: Sequence[bool],
    apart: Float[Tensor, "n n"],
    held: Mapping[str, float],
    varied: Mapping[str, Goal],
    duplicates: float,
) -> list[Reason]:
    """Returns the reason of every variant of one seed, in order; "" for an accepted one.

    Args:
        drifts, effects: a value per variant for each attribute, in spreads; NaN is `not_finite`.
        judged: per variant, whether the judge agrees.
        apart: between variants, the largest of their distances in any varied attribute, in spreads.
        held, varied, duplicates: the tolerances, goals and distance of the spec.
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
    """Returns the first reason of a variant's figures alone, or ""."""
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
