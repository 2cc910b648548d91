"""From a shard's seeds to its trajectories: where each one goes first, and how it goes on.

directions at every fit seed (reds_core.directions), by the Grams of its held and varied attributes (reds_core.jacobian)
each direction both ways: a trajectory (reds_core.trajectory), all of the shard's walked together
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from reds_core import directions
from reds_core.jacobian import Measure, grams
from reds_core.origins import Origins
from reds_core.prepare import Job, role_names
from reds_core.seeds import random_directions
from reds_core.spec import Spec
from reds_core.trajectory import FindDirections, Trajectories, linear, local
from reds_core.types import Grams, Latents, Passes, Reason

METHODS = {"linear": linear, "local": local}


@dataclass(frozen=True)
class Plan:
    """Which trajectory is whose: (seed's row, direction, sign) in the order of the samples, and where each one goes first."""

    owners: list[tuple[int, int, int]]
    first: Latents


def walk_from(job: Job, origins: Origins, passes: Passes) -> tuple[Plan, Trajectories]:
    """Directions at every seed that is fit to start from, and the trajectories along them."""
    spec = job.spec.trajectory
    step = spec.step * job.latent_spread
    rows = torch.tensor([s for s, reason in enumerate(origins.reasons) if not reason], dtype=torch.long, device=job.device)
    owners: list[tuple[int, int, int]] = []
    first: list[Tensor] = []
    if len(rows):
        columns, count, reasons = _finder(job, origins, rows, step, True, passes)(
            origins.latents[rows], torch.arange(len(rows), device=job.device)
        )
        columns = directions.oriented(columns)
        for i, s in enumerate(rows.tolist()):
            # A seed without directions keeps its place: its candidates are rejected, not forgotten.
            origins.reasons[s] = reasons[i]
            for k in range(0 if reasons[i] else min(spec.directions, int(count[i]))):
                for sign in (1, -1):
                    owners.append((s, k, sign))
                    first.append(sign * columns[i, :, k])
    if not owners:
        nowhere = origins.latents.new_zeros(0, origins.latents.shape[1])
        return Plan([], nowhere), Trajectories(nowhere[:, None], [], [])
    start_rows = torch.tensor([s for s, _, _ in owners], device=job.device)
    plan = Plan(owners, torch.stack(first).to(origins.latents.dtype))
    find = _finder(job, origins, start_rows, step, False, passes)
    return plan, METHODS[spec.method](origins.latents[start_rows], plan.first, step, spec.waypoints, find)


def _finder(job: Job, origins: Origins, rows: Tensor, step: float, at_seed: bool, passes: Passes) -> FindDirections:
    """The spec's way to choose directions, for points that belong to the seeds in `rows`."""
    spec = job.spec
    by = spec.trajectory.directions_by
    held, varied = role_names(spec)
    measure = _measure(job, origins, [*held, *varied])

    def find(points: Latents, index: Tensor) -> tuple[Tensor, Tensor, list[Reason]]:
        if by == "rand":
            drawn = [random_directions(origins.seeds[s], job.generator, spec.trajectory.directions) for s in rows[index].tolist()]
            columns = torch.stack(drawn).to(job.device)
            return columns, torch.full((len(points),), columns.shape[2], device=job.device), [""] * len(points)
        found = grams(measure, points, rows[index], job.mode, step, at_seed, job.batch, passes)
        reasons = _unusable(found, [*(f"held:{n}" for n in held), *(f"varied:{n}" for n in varied)])
        # An unusable point must not stop the others' eigenproblems: it gets any Gram, and its reason.
        bad = torch.tensor([bool(r) for r in reasons], device=job.device)
        whole = torch.eye(points.shape[1], dtype=torch.float64, device=job.device)
        found = [torch.where(bad[:, None, None], whole, a) for a in found]
        columns, count = _columns(spec, found[: len(held)], found[len(held) :])
        none = (count == 0).tolist()
        return columns, count, [r or ("turned" if n else "") for r, n in zip(reasons, none, strict=True)]

    return find


def _columns(spec: Spec, held: list[Grams], varied: list[Grams]) -> tuple[Tensor, Tensor]:
    """Columns and their count by `directions_by`; `held` and `varied` are the Grams that it asks for."""
    walk = spec.trajectory
    betas = [spec.beta(name) for name in spec.held]
    if walk.directions_by == "minf":
        return directions.minf_batched(held, betas)
    weights = [goal.weight for goal in spec.varied.values()]
    total = torch.stack([w * directions.normalised(a) for w, a in zip(weights, varied, strict=True)]).sum(0)
    if walk.directions_by == "maxc":
        return directions.maxc_batched(total, walk.beta_varied)
    if walk.directions_by == "rayleigh":
        return directions.rayleigh_batched(held, total, walk.tau)
    return directions.reds_batched(held, total, betas, walk.beta_varied)


def _unusable(found: list[Grams], zero_reasons: list[Reason]) -> list[Reason]:
    """Per point: `not_finite`, the reason of an attribute that does not react at all, or ""."""
    finite = torch.stack([torch.isfinite(a).flatten(1).all(1) for a in found])
    moves = torch.stack([(a != 0).flatten(1).any(1) for a in found])
    reasons = []
    for f, m in zip(finite.T.tolist(), moves.T.tolist(), strict=True):
        still = [reason for reason, moving in zip(zero_reasons, m, strict=True) if not moving]
        reasons.append("not_finite" if not all(f) else still[0] if still else "")
    return reasons


def _measure(job: Job, origins: Origins, names: Sequence[str]) -> Measure:
    """Latents and the seeds that they belong to -> the named features of their images, differentiable, not rounded."""

    def measure(points: Latents, rows: Tensor) -> list[Tensor]:
        images = job.generator.images(points, origins.conditions[rows])
        kept = {name: origins.bound[name] for name in names}
        return [job.features[name](images, None if b is None else b[rows]) for name, b in kept.items()]

    return measure
