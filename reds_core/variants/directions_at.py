"""Which directions at a point, by the spec: from the Grams of its attributes to columns, best first."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from reds_core.directions import batched
from reds_core.directions.jacobian import Measure
from reds_core.spec.fields import Spec
from reds_core.types import Features, Grams, Images, Latents, Owner, Reason
from reds_core.variants.job import Job
from reds_core.variants.origins import Origins
from reds_core.variants.seeds import random_directions


def columns_by(spec: Spec, held: list[Grams], varied: list[Grams], betas: Sequence[float]) -> tuple[Tensor, Tensor]:
    """Columns (n, d, m) and their count (n,) by `directions_by`; `held` and `varied` are the Grams that it asks for."""
    walk = spec.trajectory
    if walk.directions_by == "minf":
        return batched.minf_batched(held, betas)
    total = varied_gram(spec, varied)
    if walk.directions_by == "maxc":
        return batched.maxc_batched(total, walk.beta_varied)
    if walk.directions_by == "rayleigh":
        return batched.rayleigh_batched(held, total, walk.tau)
    return batched.reds_batched(held, total, betas, walk.beta_varied)


def varied_gram(spec: Spec, varied: list[Grams]) -> Grams:
    """The weighted sum of the varied attributes' normalised Grams, (n, d, d)."""
    weights = [goal.weight for goal in spec.varied.values()]
    return torch.stack([w * batched.normalised(a) for w, a in zip(weights, varied, strict=True)]).sum(0)


def unusable(found: list[Grams], zero_reasons: list[Reason]) -> list[Reason]:
    """Per point: `not_finite`, the reason of an attribute that does not react at all, or ""."""
    finite = torch.stack([torch.isfinite(a).flatten(1).all(1) for a in found])
    moves = torch.stack([(a != 0).flatten(1).any(1) for a in found])
    reasons = []
    for f, m in zip(finite.T.tolist(), moves.T.tolist(), strict=True):
        still = [reason for reason, moving in zip(zero_reasons, m, strict=True) if not moving]
        reasons.append("not_finite" if not all(f) else still[0] if still else "")
    return reasons


def measure_of(job: Job, origins: Origins, names: Sequence[str]) -> Measure:
    """Latents and the seeds that they belong to -> the named features of their images, differentiable, not rounded."""

    def measure(points: Latents, rows: Tensor) -> list[Tensor]:
        return features_at(job, origins, names, job.generator.images(points, origins.conditions[rows]), rows)

    return measure


def features_at(job: Job, origins: Origins, names: Sequence[str], images: Images, rows: Tensor) -> list[Features]:
    """The named features of images that belong to the seeds in `rows`."""
    kept = {name: origins.bound[name] for name in names}
    return [job.features[name](images, None if b is None else b[rows]) for name, b in kept.items()]


def both_ways(columns: Tensor, count: Tensor, reasons: Sequence[Reason], wanted: int) -> tuple[list[Owner], Tensor]:
    """Every seed's directions, both ways: whose they are, and the directions (t, d). A seed with a reason has none.

    Args:
        columns, count: of n seeds, (n, d, m), best first, and how many of them are meant (n,).
        wanted: directions a seed, at most.
    """
    owners = [
        (s, k, sign)
        for s, (reason, n) in enumerate(zip(reasons, count.tolist(), strict=True))
        for k in range(0 if reason else min(wanted, n))
        for sign in (1, -1)
    ]
    first = [sign * columns[s, :, k] for s, k, sign in owners]
    return owners, torch.stack(first) if first else columns.new_zeros(0, columns.shape[1])


def given_at(job: Job, origins: Origins, rows: Tensor) -> Tensor:
    """Directions of the seeds in `rows` that depend on no Gram, (n, d, m): drawn at random, or fitted once."""
    if job.fixed is not None:
        return job.fixed.expand(len(rows), -1, -1)
    count = job.spec.trajectory.directions
    drawn = [random_directions(origins.seeds[s], job.generator, count) for s in rows.tolist()]
    return torch.stack(drawn).to(job.device)
