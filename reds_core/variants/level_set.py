"""What `corrected` trajectories hold, at every seed: the residual, its Jacobian, the directions inside its null space.

Everything happens in the coordinates of a tangent basis (reds_core.trajectories.tangent), and in units of the tolerances: a residual of length 1
is a drift at its limit. The features of a wide attribute, such as the pixels of a region, are compressed to the k numbers that a
move in the basis can change to first order; whether it is within its tolerance is measured on all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from reds_core.directions import batched
from reds_core.directions.batched import gram
from reds_core.directions.jacobian import Measure, evaluate, features_jacobians_and_grams, pullbacks, pulled
from reds_core.trajectories.corrected import DAMPING, Held, Residual, back, corrected
from reds_core.trajectories.tangent import Tangent, jacobian_range, tangent_at
from reds_core.trajectories.trajectory import SHORTEST_PROJECTION, Trajectories, nowhere
from reds_core.types import Latents, Owner, Passes, Reason
from reds_core.variants.directions_at import both_ways, columns_by, features_at, given_at, measure_of, unusable, varied_gram
from reds_core.variants.images import to_levels
from reds_core.variants.job import UNASKED, Job, role_names
from reds_core.variants.origins import Origins
from reds_core.variants.prepare import COTANGENTS

# Differences are taken over this share of a step: far above rounding and well within curvature; further where features round.
DIFFERENCE, ROUGH_DIFFERENCE = 0.02, 0.25
ROWS_AT_ONCE = 8  # of a wide attribute's compression: (8, p, k) numbers


@dataclass(frozen=True)
class Level:
    """The held level sets of n seeds. Lists have an entry per held attribute."""

    start: list[Tensor]  # features (n, p_i) at the seeds, not rounded
    scale: list[float]  # feature units -> tolerances
    compress: list[Tensor | None]  # (n, p_i, k) orthonormal columns
    jacobian: Tensor  # (n, m, k), all attributes' rows one after another


def hold(job: Job, origins: Origins, rows: Tensor, passes: Passes) -> tuple[list[Owner], Trajectories, list[Reason]]:
    """Corrected trajectories of the seeds in `rows`: whose they are, their waypoints as latents, and for every seed in `rows` the
    reason why it has none, or ""."""
    spec = job.spec.trajectory
    step = spec.step * job.latent_spread
    where = _tangent(job, origins, rows, passes)
    level, varied, reasons = _at_seeds(job, origins, rows, where, step, passes)
    columns, count, reasons = _columns(job, origins, rows, where, level, varied, reasons)
    owners, first = both_ways(columns, count, reasons, spec.directions)
    if not owners:
        return [], nowhere(origins.latents, spec.waypoints), reasons
    seeds = torch.tensor([i for i, _, _ in owners], dtype=torch.long, device=job.device)
    change = _change(job, origins, rows, where, level, seeds)

    def pull(y: Tensor, t: Tensor, c: Tensor) -> Tensor:
        return pulled(change, y.to(where.origin.dtype), t, c, job.batch, passes).double()

    held = Held(
        _residual(job, origins, rows, where, level, seeds, passes),
        pull if job.reverse else None,
        lambda y, t: where.inside(y, seeds[t]),
        lambda y, t: where.outward(y, seeds[t]),
        varied_gram(job.spec, varied)[seeds] if varied else None,
        where.scale,
        DIFFERENCE if job.smooth else ROUGH_DIFFERENCE,
    )
    walk = corrected(first, level.jacobian[seeds], held, step, spec.waypoints)
    walk.latents = torch.stack([where.latents(walk.latents[:, j], seeds) for j in range(spec.waypoints)], 1)
    return [(int(rows[i]), k, sign) for i, k, sign in owners], walk, reasons


def _tangent(job: Job, origins: Origins, rows: Tensor, passes: Passes) -> Tangent:
    latents = origins.latents[rows]
    basis = job.tangent
    if basis is None:
        measure = measure_of(job, origins, [*job.spec.held, *job.spec.varied])
        pulled_back = pullbacks(measure, latents, rows, COTANGENTS, job.batch, passes)
        basis = jacobian_range(pulled_back, job.cloud.deviations, job.generator.rows)
    return tangent_at(latents, job.cloud.mean(origins.conditions[rows]), basis, job.cloud.deviations)


def _at_seeds(
    job: Job, origins: Origins, rows: Tensor, where: Tangent, step: float, passes: Passes
) -> tuple[Level, list[Tensor], list[Reason]]:
    """The level sets of the seeds, the Grams of the varied attributes, and for every seed the reason why it has none of it."""
    held, varied = list(job.spec.held), role_names(job.spec)[1]
    measure = measure_of(job, origins, [*held, *varied])
    own = torch.arange(len(rows), device=job.device)
    k = where.basis.shape[2]

    def along(y: Tensor, i: Tensor) -> list[Tensor]:
        return measure(where.latents(y, i), rows[i])

    zero = where.origin.new_zeros(len(rows), k)
    h = (DIFFERENCE if job.smooth else ROUGH_DIFFERENCE) * step / float(where.scale.square().mean().sqrt())
    start, jacobians, grams = features_jacobians_and_grams(along, zero, own, job.mode, h, len(held), job.batch, passes)
    names = [*(f"held:{n}" for n in held), *(f"varied:{n}" for n in varied)]
    reasons = unusable([*(gram(j) for j in jacobians), *grams], names)
    bad = torch.tensor([bool(r) for r in reasons], device=job.device)[:, None, None]
    scale = [1 / (job.spec.held[n] * job.spreads[n]) for n in held]
    compress, parts = [], []
    for j, s in zip(jacobians, scale, strict=True):
        j = torch.where(bad, 0.0, j.double() * s)
        basis = None
        if j.shape[1] > k:
            q, j = torch.linalg.qr(j)
            basis = q.to(where.origin.dtype)
        compress.append(basis)
        parts.append(j)
    level = Level(start, scale, compress, torch.cat(parts, 1))
    eye = torch.eye(k, dtype=torch.float64, device=job.device)
    return level, [torch.where(bad, eye, a) for a in grams], reasons


def _columns(
    job: Job, origins: Origins, rows: Tensor, where: Tangent, level: Level, varied: list[Tensor], reasons: Sequence[Reason]
) -> tuple[Tensor, Tensor, list[Reason]]:
    """Directions (n, k, m) in tangent coordinates, that leave what is held alone, how many are meant (n,), and why there are none."""
    j, by = level.jacobian, job.spec.trajectory.directions_by
    k = j.shape[2]
    if by in UNASKED:
        dual = where.basis.double() / where.basis.double().square().sum(1, keepdim=True)
        columns = dual.mT @ given_at(job, origins, rows)
        count = torch.full((len(rows),), columns.shape[2], device=job.device)
    else:
        bad = torch.tensor([bool(r) for r in reasons], device=job.device)[:, None, None]
        moves = torch.where(bad, torch.eye(k, dtype=j.dtype, device=job.device), j.mT @ j)
        if by == "reds":
            # The Rayleigh quotient of varied over held change, which damping keeps finite where nothing held moves.
            tau = DAMPING / moves.diagonal(dim1=1, dim2=2).sum(1)
            columns, count = batched.rayleigh_batched([moves], varied_gram(job.spec, varied), tau)
        else:
            columns, count = columns_by(job.spec, [moves], varied, [max(job.spec.beta(n) for n in job.spec.held)])
    free = columns + back(j, j @ columns)
    # Directions that were not chosen inside the null space may have little left there; the others move up.
    shares = torch.linalg.vector_norm(free, dim=1) / torch.linalg.vector_norm(columns, dim=1)
    meant = torch.arange(columns.shape[2], device=job.device) < count[:, None]
    kept = meant & (shares >= SHORTEST_PROJECTION)
    order = (~kept).int().argsort(dim=1, stable=True)
    free, count = free.gather(2, order[:, None, :].expand_as(free)), kept.sum(1)
    found = [reason or ("turned" if not n else "") for reason, n in zip(reasons, count.tolist(), strict=True)]
    # The sign that makes the largest component of the latent, not of its coordinates, positive.
    return free * batched.signs_of(where.basis.double() @ free), count, found


def _residual(job: Job, origins: Origins, rows: Tensor, where: Tangent, level: Level, seeds: Tensor, passes: Passes) -> Residual:
    """The residual of trajectories whose seeds (indices into `rows`) are given."""

    def shown(points: Latents, at: Tensor) -> list[Tensor]:
        images = job.generator.images(points, origins.conditions[at])
        spoilt = ~torch.isfinite(images).flatten(1).all(1)
        found = features_at(job, origins, list(job.spec.held), images, at)
        return [*(f.masked_fill(spoilt[:, None], torch.nan) for f in found), to_levels(torch.nan_to_num(images))]

    def residual(y: Tensor, index: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        i = seeds[index]
        *found, images = evaluate(shown, where.latents(y, i), rows[i], job.batch, passes)
        changes = _scaled(found, level, i)
        worst = torch.stack([torch.linalg.vector_norm(change, dim=1) for change in changes]).amax(0)
        return torch.cat(_all_compressed(changes, level, i), 1), worst, images

    return residual


def _change(job: Job, origins: Origins, rows: Tensor, where: Tangent, level: Level, seeds: Tensor) -> Measure:
    """The residual alone, differentiable."""
    measure = measure_of(job, origins, list(job.spec.held))

    def change(y: Tensor, index: Tensor) -> list[Tensor]:
        i = seeds[index]
        return _all_compressed(_scaled(measure(where.latents(y, i), rows[i]), level, i), level, i)

    return change


def _scaled(found: Sequence[Tensor], level: Level, i: Tensor) -> list[Tensor]:
    """Features (n, p) at the seeds `i`'s trajectories -> their changes since the seed, in tolerances."""
    return [(f - start[i]) * scale for f, start, scale in zip(found, level.start, level.scale, strict=True)]


def _all_compressed(changes: Sequence[Tensor], level: Level, i: Tensor) -> list[Tensor]:
    return [c if basis is None else _compressed(c, basis, i) for c, basis in zip(changes, level.compress, strict=True)]


def _compressed(change: Tensor, basis: Tensor, i: Tensor) -> Tensor:
    pairs = zip(change.split(ROWS_AT_ONCE), i.split(ROWS_AT_ONCE), strict=True)
    return torch.cat([(basis[at].mT @ c[:, :, None]).squeeze(2) for c, at in pairs])
