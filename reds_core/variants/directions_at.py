"""The directions at a point, as the spec chooses them: from the Grams of its attributes to columns, best first."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float64
from torch import Tensor

from reds_core.directions import batched
from reds_core.directions.evaluator import Measure
from reds_core.spec.fields import Spec
from reds_core.trajectories.trajectory import DirectionsAt, Trajectories
from reds_core.types import Columns, Counts, Features, Grams, Images, Latents, Owner, Reason, Rows
from reds_core.variants.job import Job, Networks
from reds_core.variants.origins import Origins
from reds_core.variants.seeds import random_directions


class FromSeeds(NamedTuple):
    """The trajectories from some seeds, whose each one is, and for every seed the reason why it has none, or ""."""

    owners: list[Owner]
    trajectories: Trajectories
    reasons: list[Reason]


def columns_by(spec: Spec, held: Sequence[Grams], varied: Sequence[Grams], betas: Sequence[float]) -> tuple[Columns, Counts]:
    """Returns columns and how many of them are directions, by `directions_by`; `held` and `varied` are the Grams it looks at."""
    trajectory = spec.trajectory
    if trajectory.directions_by == "minf":
        return batched.minf_batched(held, betas)
    total = varied_gram(spec, varied)
    if trajectory.directions_by == "maxc":
        return batched.maxc_batched(total, trajectory.beta_varied)
    if trajectory.directions_by == "rayleigh":
        return batched.rayleigh_batched(held, total, trajectory.tau)
    return batched.reds_batched(held, total, betas, trajectory.beta_varied)


def varied_gram(spec: Spec, varied: Sequence[Grams]) -> Grams:
    """Returns the weighted sum of the varied attributes' normalised Grams."""
    weights = [goal.weight for goal in spec.varied.values()]
    return torch.stack([w * batched.normalised(a) for w, a in zip(weights, varied, strict=True)]).sum(0)


def unusable(found: Sequence[Grams], held: Sequence[str], varied: Sequence[str]) -> list[Reason]:
    """Returns for each point `not_finite`, the reason of an attribute that does not react there at all, or "".

    Args:
        found: the Grams of the held and then of the varied attributes.
        held, varied: the attributes' names.
    """
    still = [*(f"held:{name}" for name in held), *(f"varied:{name}" for name in varied)]
    finite = torch.stack([torch.isfinite(a).flatten(1).all(1) for a in found])
    moves = torch.stack([(a != 0).flatten(1).any(1) for a in found])
    reasons = []
    for f, m in zip(finite.T.tolist(), moves.T.tolist(), strict=True):
        first = next((reason for reason, moving in zip(still, m, strict=True) if not moving), "")
        reasons.append("not_finite" if not all(f) else first)
    return reasons


def measure_of(networks: Networks, origins: Origins, names: Sequence[str]) -> Measure:
    """Returns what measures the named features of latents, differentiable and not rounded; a point's row is its seed's."""

    def measure(points: Latents, rows: Rows) -> list[Features]:
        return features_at(networks, origins, names, networks.generator.images(points, origins.conditions[rows]), rows)

    return measure


def features_at(networks: Networks, origins: Origins, names: Sequence[str], images: Images, rows: Rows) -> list[Features]:
    """Returns the named features of images that belong to the seeds in `rows`."""
    kept = {name: origins.bound[name] for name in names}
    return [networks.features[name](images, None if b is None else b[rows]) for name, b in kept.items()]


def both_ways(found: DirectionsAt, wanted: int) -> tuple[list[Owner], Float64[Tensor, "t d"]]:
    """Returns the directions at seeds, both ways, and whose they are: at most `wanted` for a seed, none for one with a reason."""
    owners = [
        (s, k, sign)
        for s, (reason, n) in enumerate(zip(found.reasons, found.counts.tolist(), strict=True))
        for k in range(0 if reason else min(wanted, n))
        for sign in (1, -1)
    ]
    first = [sign * found.columns[s, :, k] for s, k, sign in owners]
    return owners, torch.stack(first) if first else found.columns.new_zeros(0, found.columns.shape[1])


def given_at(job: Job, origins: Origins, rows: Rows) -> Columns:
    """Returns directions of the seeds in `rows` that depend on no Gram: fitted once, or drawn at random."""
    if job.fixed is not None:
        return job.fixed.expand(len(rows), -1, -1)
    count = job.spec.trajectory.directions
    drawn = [random_directions(origins.seeds[s], job.networks.generator, count) for s in rows.tolist()]
    return torch.stack(drawn).to(job.device)
