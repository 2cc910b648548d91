"""Corrected trajectories from a shard's seeds: what they hold, its Jacobian, and the directions that leave it alone.

Everything happens in the coordinates of a tangent basis (`reds_core.trajectories.tangent`) and in units of the tolerances: a
residual of length 1 is a drift at its limit. The features of a wide attribute, such as the pixels of a region, are compressed to
the k numbers that a move in the basis can change to first order; whether they are within their tolerance is measured on all of
them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Float64, Shaped
from torch import Tensor

from reds_core.directions import batched
from reds_core.directions.batched import gram
from reds_core.directions.choices import FROM_GRAMS, columns_by, looked_at, unusable, varied_gram
from reds_core.directions.jacobian import derive_by, features_jacobians_and_grams, one_sided
from reds_core.jobs.images import to_levels
from reds_core.jobs.job import Work, features_at, measure_of
from reds_core.trajectories.corrected import corrected
from reds_core.trajectories.held import DAMPING, Held, Points, ResidualAt, Residuals, back_all
from reds_core.trajectories.tangent import COTANGENTS, Tangent, jacobian_range, tangent_at
from reds_core.trajectories.trajectory import SHORTEST_PROJECTION, DirectionsAt, FromSeeds, both_ways, no_trajectories
from reds_core.types import Columns, Counts, Features, Grams, Jacobians, Latents, Reason, Rows
from reds_core.variants.origins import Origins, given_directions

# Differences are taken over this share of a step: far above rounding and well within curvature; further where features round.
DIFFERENCE, ROUGH_DIFFERENCE = 0.02, 0.25
ROWS_AT_ONCE = 8  # of a wide attribute's compression: (8, p, k) numbers

# Tangent coordinates, and for each point the seed that it belongs to, as a row of `Starts.rows` -> features.
MeasureAlong = Callable[[Float[Tensor, "n k"], Rows], list[Features]]


@dataclass(frozen=True)
class Starts:
    """The seeds of a shard that trajectories start from, and the coordinates in which they do."""

    work: Work
    origins: Origins
    rows: Rows  # of `origins`
    tangent: Tangent  # at each of them

    @property
    def difference(self) -> float:
        """The share of a step over which differences are taken."""
        return DIFFERENCE if self.work.job.derivatives.smooth else ROUGH_DIFFERENCE

    def along(self, names: Sequence[str]) -> MeasureAlong:
        """Returns what measures the named features in tangent coordinates, differentiable."""
        measure = measure_of(self.work.job.networks, names, self.origins.conditions, self.origins.bound)
        return lambda y, i: measure(self.tangent.latents(y, i), self.rows[i])


@dataclass(frozen=True)
class LevelSets:
    """The level sets that n seeds lie on. Lists have an entry for each held attribute; `i` are rows of the seeds."""

    start: list[Features]  # at the seeds, not rounded
    scale: list[float]  # feature units -> tolerances
    compress: list[Float[Tensor, "n _p _k"] | None]  # orthonormal columns
    jacobian: Float64[Tensor, "n m k"]  # of the residual, all attributes' rows one after another
    varied: list[Grams]  # of the varied attributes that `directions_by` looks at
    reasons: list[Reason]  # why a seed has no directions, or ""

    def changes(self, features: Sequence[Features], i: Rows) -> list[Features]:
        """Returns the changes of features since the seed, in tolerances."""
        return [(f - start[i]) * scale for f, start, scale in zip(features, self.start, self.scale, strict=True)]

    def compressed(self, changes: Sequence[Features], i: Rows) -> list[Features]:
        """Returns what a move in the basis can change of each attribute."""
        return [c if basis is None else _compressed(c, basis, i) for c, basis in zip(changes, self.compress, strict=True)]


def corrected_from(work: Work, origins: Origins, rows: Rows) -> FromSeeds:
    """Returns corrected trajectories of the seeds in `rows`."""
    spec = work.job.spec.trajectory
    starts = Starts(work, origins, rows, _tangent(work, origins, rows))
    level_sets = _at_seeds(starts)
    found = _directions(starts, level_sets)
    owned, first = both_ways(found, spec.directions)
    if not owned:
        return no_trajectories(origins.latents, spec.waypoints, found.reasons)
    seeds = torch.tensor([i for i, _, _ in owned], dtype=torch.long, device=work.job.device)
    trajectories = corrected(first, level_sets.jacobian[seeds], _held(starts, level_sets, seeds), work.job.step, spec.waypoints)
    latents = torch.stack([starts.tangent.latents(trajectories.latents[:, j], seeds) for j in range(spec.waypoints)], 1)
    owners = [(int(rows[i]), k, sign) for i, k, sign in owned]
    return FromSeeds(owners, replace(trajectories, latents=latents), found.reasons)


def _tangent(work: Work, origins: Origins, rows: Rows) -> Tangent:
    """Returns the coordinates of the seeds in `rows`."""
    job, networks, latents = work.job, work.job.networks, origins.latents[rows]
    basis = job.tangent
    if basis is None:
        measure = measure_of(networks, [*job.spec.held, *job.spec.varied], origins.conditions, origins.bound)
        pulled_back = work.evaluator(measure).pullbacks(latents, rows, COTANGENTS)
        basis = jacobian_range(pulled_back, networks.cloud.deviations, networks.generator.rows)
    return tangent_at(latents, networks.cloud.mean(origins.conditions[rows]), basis, networks.cloud.deviations)


def _at_seeds(starts: Starts) -> LevelSets:
    """Measures what is held at the seeds, and how it and what varies react there."""
    job, tangent = starts.work.job, starts.tangent
    held, varied = list(job.spec.held), looked_at(job.spec)[1]
    n, _, k = tangent.basis.shape
    h = starts.difference * job.step / float(tangent.scale.square().mean().sqrt())
    start, jacobians, grams = features_jacobians_and_grams(
        starts.work.evaluator(starts.along([*held, *varied])), tangent.origin.new_zeros(n, k), torch.arange(n, device=job.device),
        derive_by(job.derivatives.mode, one_sided(h)), kept=len(held),
    )  # fmt: skip
    reasons = unusable([*(gram(j) for j in jacobians), *grams], held, varied)
    bad = torch.tensor([bool(r) for r in reasons], device=job.device)[:, None, None]
    scale = [1 / (job.spec.held[name] * job.spreads[name]) for name in held]
    compress: list[Jacobians | None] = []
    parts = []
    for jacobian, s in zip(jacobians, scale, strict=True):
        j = torch.where(bad, 0.0, jacobian.double() * s)
        basis = None
        if j.shape[1] > k:
            q, j = torch.linalg.qr(j)
            basis = q.to(tangent.origin.dtype)
        compress.append(basis)
        parts.append(j)
    eye = torch.eye(k, dtype=torch.float64, device=job.device)
    return LevelSets(start, scale, compress, torch.cat(parts, 1), [torch.where(bad, eye, a) for a in grams], reasons)


def _directions(starts: Starts, level_sets: LevelSets) -> DirectionsAt:
    """Returns directions at the seeds, in tangent coordinates, that leave what is held alone."""
    job, basis = starts.work.job, starts.tangent.basis.double()
    columns, count = _columns(starts, level_sets)
    free = columns + back_all(level_sets.jacobian, level_sets.jacobian @ columns)
    # Directions that were not chosen inside the null space may have little left there; the others move up.
    shares = torch.linalg.vector_norm(free, dim=1) / torch.linalg.vector_norm(columns, dim=1)
    meant = torch.arange(columns.shape[2], device=job.device) < count[:, None]
    kept = meant & (shares >= SHORTEST_PROJECTION)
    order = (~kept).int().argsort(dim=1, stable=True)
    free, count = free.gather(2, order[:, None, :].expand_as(free)), kept.sum(1)
    reasons = [reason or ("turned" if not n else "") for reason, n in zip(level_sets.reasons, count.tolist(), strict=True)]
    # The sign that makes the largest component of the latent, not of its coordinates, positive.
    return DirectionsAt(free * batched.signs_of(basis @ free), count, reasons)


def _columns(starts: Starts, level_sets: LevelSets) -> tuple[Columns, Counts]:
    """Returns directions as the spec chooses them, in tangent coordinates, and how many they are."""
    job, j = starts.work.job, level_sets.jacobian
    by = job.spec.trajectory.directions_by
    if by not in FROM_GRAMS:
        basis = starts.tangent.basis.double()
        dual = basis / basis.square().sum(1, keepdim=True)
        columns = dual.mT @ given_directions(job, starts.origins, starts.rows)
        return columns, torch.full((len(columns),), columns.shape[2], device=job.device)
    bad = torch.tensor([bool(r) for r in level_sets.reasons], device=job.device)[:, None, None]
    moves = torch.where(bad, torch.eye(j.shape[2], dtype=j.dtype, device=job.device), j.mT @ j)
    if by == "reds":
        # The Rayleigh quotient of varied over held change, which damping keeps finite where nothing held moves.
        tau = DAMPING / moves.diagonal(dim1=1, dim2=2).sum(1)
        return batched.rayleigh_batched([moves], varied_gram(job.spec, level_sets.varied), tau)
    return columns_by(job.spec, [moves], level_sets.varied, [max(job.spec.beta(name) for name in job.spec.held)])


def _held(starts: Starts, level_sets: LevelSets, seeds: Rows) -> Held:
    """Returns what is held along trajectories from `seeds`, rows of the starts, one for each trajectory."""
    job, tangent = starts.work.job, starts.tangent
    measure = starts.along(list(job.spec.held))

    def change(y: Float[Tensor, "n k"], index: Rows) -> list[Features]:
        i = seeds[index]
        return level_sets.compressed(level_sets.changes(measure(y, i), i), i)

    evaluator = starts.work.evaluator(change)

    def pull(y: Points, index: Rows, cotangents: Float64[Tensor, "n m"]) -> Points:
        return evaluator.pulled(y.to(tangent.origin.dtype), index, cotangents).double()

    return Held(
        residual=_residual(starts, level_sets, seeds),
        pull=pull if job.derivatives.reverse else None,
        inside=lambda y, index: tangent.inside(y, seeds[index]),
        outward=lambda y, index: tangent.outward(y, seeds[index]),
        varied=varied_gram(job.spec, level_sets.varied)[seeds] if level_sets.varied else None,
        scale=tangent.scale,
        difference=starts.difference,
    )


def _residual(starts: Starts, level_sets: LevelSets, seeds: Rows) -> ResidualAt:
    """Returns the residual of trajectories from `seeds`, which also keeps the images."""
    networks, origins = starts.work.job.networks, starts.origins

    def shown(points: Latents, rows: Rows) -> list[Shaped[Tensor, "n ..."]]:
        images = networks.generator.images(points, origins.conditions[rows])
        spoilt = ~torch.isfinite(images).flatten(1).all(1)
        found = features_at(networks, list(networks.spec.held), images, origins.bound, rows)
        return [*(f.masked_fill(spoilt[:, None], torch.nan) for f in found), to_levels(torch.nan_to_num(images))]

    evaluator = starts.work.evaluator(shown)

    def residual(y: Points, index: Rows) -> Residuals:
        i = seeds[index]
        *found, images = evaluator.evaluate(starts.tangent.latents(y, i), starts.rows[i])
        changes = level_sets.changes(found, i)
        worst = torch.stack([torch.linalg.vector_norm(change, dim=1) for change in changes]).amax(0)
        return Residuals(torch.cat(level_sets.compressed(changes, i), 1), worst, images)

    return residual


def _compressed(change: Float[Tensor, "n p"], basis: Float[Tensor, "s p k"], i: Rows) -> Float[Tensor, "n k"]:
    """Returns changes in the columns of their seeds' bases."""
    pairs = zip(change.split(ROWS_AT_ONCE), i.split(ROWS_AT_ONCE), strict=True)
    return torch.cat([(basis[at].mT @ c[:, :, None]).squeeze(2) for c, at in pairs])
