"""Whether a variant is what it is labelled as: drift, effect and the judge, as one verdict with a reason.

    spread   the median distance between the features of unrelated seeds
    drift    |f(x) - f(x_seed)| / spread of a held attribute: 0 identical, 1 as different as two unrelated images
    effect   the same of a varied attribute

All are measured on the images as stored. The first of these that applies is the reason:

    not_finite      an image or a feature is not finite
    held:NAME       its drift is above the tolerance
    varied:NAME     its effect is below the minimum
    judge           the judge sees another label than the seed's
    duplicate       it is nearer than `duplicates`, in every varied attribute, to an earlier accepted variant of its seed, or is
                    not one of the `keep` that lie farthest apart
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from reds_core.jobs.job import Networks, judged_by
from reds_core.spec.fields import Goal
from reds_core.types import Features, Images, Reason


@dataclass(frozen=True)
class Classified:
    """What a classifier says of n images: the class index, its probability, and whether the scores were finite at all."""

    labels: list[int]
    confidences: list[float]
    finite: list[bool]

    def agrees(self, expected: Sequence[int]) -> list[bool]:
        """Returns for each image whether its class is the expected one; scores that are not finite agree with nothing."""
        return [finite and label == e for label, finite, e in zip(self.labels, self.finite, expected, strict=True)]

    def part(self, rows: slice) -> Classified:
        """Returns the same for some of the images."""
        return Classified(self.labels[rows], self.confidences[rows], self.finite[rows])


class Measured(NamedTuple):
    """What was measured of n variants of one seed.

    Args:
        drifts, effects: a value per variant for each attribute, in spreads; NaN is `not_finite`.
        agrees: per variant, whether the judge agrees.
        apart: between variants, the largest of their distances in any varied attribute, in spreads.
    """

    drifts: Mapping[str, Sequence[float]]
    effects: Mapping[str, Sequence[float]]
    agrees: Sequence[bool]
    apart: Float[Tensor, "n n"]


def classify(scores: Features) -> Classified:
    """Returns what class scores say."""
    confidence, label = torch.nan_to_num(scores).softmax(1).max(1)
    return Classified(label.tolist(), confidence.tolist(), torch.isfinite(scores).all(1).tolist())


def joined(parts: Sequence[Classified]) -> Classified:
    """Returns what was said of several batches as one."""
    columns = ((p.labels, p.confidences, p.finite) for p in parts)
    labels, confidences, finite = (list(chain.from_iterable(column)) for column in zip(*columns, strict=True))
    return Classified(labels, confidences, finite)


def judged_in(networks: Networks, images: Images) -> Classified | None:
    """Returns what the judge says of images, a batch at a time; None without a judge."""
    return None if networks.judge is None else classify(judged_by(networks.judge, images, networks.batch))


def distances(vectors: Features, seed: Float[Tensor, "*_n _p"], spread: float) -> list[float]:
    """Returns the distances between rows and the seed's one row, or row by row, in spreads."""
    return [float(v) for v in ((vectors - seed).double().norm(dim=1) / spread).tolist()]


def verdicts(
    measured: Measured, held: Mapping[str, float], varied: Mapping[str, Goal], duplicates: float, keep: int | None = None
) -> list[Reason]:
    """Returns the reason of every variant of one seed, in order; "" for an accepted one.

    `held` are the seed's tolerances; `varied`, `duplicates` and `keep` are the goals, the distance and the number of the spec.
    """
    reasons: list[Reason] = []
    accepted: list[int] = []
    near = (measured.apart < duplicates).cpu()
    for i, agrees in enumerate(measured.agrees):
        drifts, effects = ({k: v[i] for k, v in values.items()} for values in (measured.drifts, measured.effects))
        reason = _reason(drifts, effects, held, varied)
        if not reason and not agrees:
            reason = "judge"
        if not reason and bool(near[i, accepted].any()):
            reason = "duplicate"
        if not reason:
            accepted.append(i)
        reasons.append(reason)
    if keep is not None:
        kept = farthest_apart(measured, accepted, keep)
        for i in accepted:
            reasons[i] = "" if i in kept else "duplicate"
    return reasons


def farthest_apart(measured: Measured, among: Sequence[int], count: int) -> list[int]:
    """Returns at most `count` of the variants in `among`, in farthest-point order from the seed's own image.

    The first is the one farthest from the seed, and each next one the farthest from the seed and all before it; of equals the
    earlier one (Gonzalez, Theoretical Computer Science 1985).
    """
    apart = measured.apart.double().cpu()
    nearest = {i: max(effects[i] for effects in measured.effects.values()) for i in among}
    found: list[int] = []
    while nearest and len(found) < count:
        best = max(nearest, key=lambda i: (nearest[i], -i))
        found.append(best)
        del nearest[best]
        nearest = {i: min(distance, float(apart[i, best])) for i, distance in nearest.items()}
    return found


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
