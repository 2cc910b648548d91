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
from reds_core.jobs.job import Work, features_at
from reds_core.trajectories.corrected import corrected
from reds_core.trajectories.held import DAMPING, Held, Points, ResidualAt, Residuals, back_all
from reds_core.trajectories.tangent import COTANGENTS, Tangent, jacobian_range, tangent_at
from reds_core.trajectories.trajectory import SHORTEST_PROJECTION, DirectionsAt, FromSeeds, both_ways, no_trajectories
from reds_core.types import Columns, Counts, Features, Grams, Jacobians, Latents, Reason, Rows
from reds_core.variants.limits import Decided, Limit
from reds_core.variants.origins import Origins, given_directions, held_measure

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

    def along(self, held: Sequence[str], varied: Sequence[str]) -> MeasureAlong:
        """Returns what measures the named features in tangent coordinates, the held ones as their limits see them."""
        measure = held_measure(self.work, self.origins, held, varied)
        return lambda y, i: measure(self.tangent.latents(y, i), self.rows[i])


@dataclass(frozen=True)
class Restraints:
    """What n seeds are held by. Lists have an entry for each held attribute, levels first; `i` are rows of the seeds."""

    names: list[str]
    limits: list[Limit]
    sizes: list[int]  # rows of the residual
    levels: int  # rows that are of levels
    compress: list[Float[Tensor, "n _p _k"] | None]  # orthonormal columns
    start: Float64[Tensor, "n m"]  # the residual at the seeds
    jacobian: Float64[Tensor, "n m k"]  # of the residual, all attributes' rows one after another
    varied: list[Grams]  # of the varied attributes that `directions_by` looks at
    reasons: list[Reason]  # why a seed has no directions, or ""

    def residuals(self, measured: Sequence[Features], rows: Rows) -> list[Features]:
        """Returns the residual of each attribute at points that belong to these rows of the origins."""
        return [limit.residual(m, rows) for m, limit in zip(measured, self.limits, strict=True)]

    def compressed(self, residuals: Sequence[Features], i: Rows) -> list[Features]:
        """Returns what a move in the basis can change of each attribute."""
        return [r if basis is None else _compressed(r, basis, i) for r, basis in zip(residuals, self.compress, strict=True)]

    def worst(self, residuals: Sequence[Features]) -> Float[Tensor, " n"]:
        """Returns the largest drift of any attribute, in tolerances."""
        pairs = zip(self.limits, residuals, strict=True)
        return torch.stack([
            r[:, 0].clamp_min(0) if isinstance(limit, Decided) else torch.linalg.vector_norm(r, dim=1) for limit, r in pairs
        ]).amax(0)  # fmt: skip


def corrected_from(work: Work, origins: Origins, rows: Rows) -> FromSeeds:
    """Returns corrected trajectories of the seeds in `rows`."""
    spec = work.job.spec.trajectory
    starts = Starts(work, origins, rows, _tangent(work, origins, rows))
    restraints = _at_seeds(starts)
    found = _directions(starts, restraints)
    owned, first = both_ways(found, spec.directions)
    if not owned:
        return no_trajectories(origins.latents, spec.waypoints, found.reasons)
    seeds = torch.tensor([i for i, _, _ in owned], dtype=torch.long, device=work.job.device)
    held = _held(starts, restraints, seeds)
    trajectories = corrected(first, restraints.start[seeds], restraints.jacobian[seeds], held, work.job.step, spec.waypoints)
    latents = torch.stack([starts.tangent.latents(trajectories.latents[:, j], seeds) for j in range(spec.waypoints)], 1)
    owners = [(int(rows[i]), k, sign) for i, k, sign in owned]
    return FromSeeds(owners, replace(trajectories, latents=latents), found.reasons)


def _tangent(work: Work, origins: Origins, rows: Rows) -> Tangent:
    """Returns the coordinates of the seeds in `rows`."""
    job, networks, latents = work.job, work.job.networks, origins.latents[rows]
    basis = job.tangent
    if basis is None:
        measure = held_measure(work, origins, list(job.spec.held), list(job.spec.varied))
        pulled_back = work.evaluator(measure).pullbacks(latents, rows, COTANGENTS)
        basis = jacobian_range(pulled_back, networks.cloud.deviations, networks.generator.rows)
    return tangent_at(latents, networks.cloud.mean(origins.conditions[rows]), basis, networks.cloud.deviations)


def _at_seeds(starts: Starts) -> Restraints:
    """Measures what is held at the seeds, and how it and what varies react there."""
    job, tangent, rows = starts.work.job, starts.tangent, starts.rows
    held, varied = [*job.spec.levels, *job.spec.decisions], looked_at(job.spec)[1]
    k = tangent.basis.shape[2]
    measured, jacobians, grams = _derived(starts, held, varied)
    reasons = unusable([*(gram(j) for j in jacobians), *grams], held, varied)
    bad = torch.tensor([bool(r) for r in reasons], device=job.device)[:, None, None]
    limits = [starts.origins.limits[name] for name in held]
    # Unrounded, unlike the image as stored that a verdict compares with: trajectories start where r is 0.
    limits = [limit.started(rows, m) for m, limit in zip(measured, limits, strict=True)]
    compress: list[Jacobians | None] = []
    parts, start = [], []
    for m, jacobian, limit in zip(measured, jacobians, limits, strict=True):
        # A residual is its measurement times a number and plus another: the number is the difference of two residuals.
        slope = (limit.residual(torch.ones_like(m), rows) - limit.residual(torch.zeros_like(m), rows))[:, :1, None]
        j = torch.where(bad, 0.0, jacobian.double() * slope.double())
        r = torch.where(bad[:, :, 0], 0.0, limit.residual(m, rows).double())
        basis = None
        if j.shape[1] > k:
            q, j = torch.linalg.qr(j)
            basis = q.to(tangent.origin.dtype)
            r = torch.zeros_like(j[:, :, 0])
        compress.append(basis)
        parts.append(j)
        start.append(r)
    eye = torch.eye(k, dtype=torch.float64, device=job.device)
    sizes = [j.shape[1] for j in parts]
    return Restraints(
        held, limits, sizes, sum(sizes[: len(job.spec.levels)]), compress, torch.cat(start, 1), torch.cat(parts, 1),
        [torch.where(bad, eye, a) for a in grams], reasons,
    )  # fmt: skip


def _derived(starts: Starts, held: Sequence[str], varied: Sequence[str]) -> tuple[list[Features], list[Jacobians], list[Grams]]:
    """Returns at the seeds what is measured of the held attributes, their Jacobians, and the Grams of the varied ones."""
    job, tangent = starts.work.job, starts.tangent
    n, _, k = tangent.basis.shape
    h = starts.difference * job.step / float(tangent.scale.square().mean().sqrt())
    measured: dict[str, Features] = {}
    jacobians: dict[str, Jacobians] = {}
    grams: dict[str, Grams] = {}
    for mode in dict.fromkeys(job.derivatives.modes[name] for name in (*held, *varied)):
        first, second = ([name for name in names if job.derivatives.modes[name] == mode] for names in (held, varied))
        evaluator = starts.work.evaluator(starts.along(first, second))
        points, rows = tangent.origin.new_zeros(n, k), torch.arange(n, device=job.device)
        found = features_jacobians_and_grams(evaluator, points, rows, derive_by(mode, one_sided(h)), kept=len(first))
        measured |= zip(first, found[0], strict=True)
        jacobians |= zip(first, found[1], strict=True)
        grams |= zip(second, found[2], strict=True)
    return [measured[name] for name in held], [jacobians[name] for name in held], [grams[name] for name in varied]


def _directions(starts: Starts, restraints: Restraints) -> DirectionsAt:
    """Returns directions at the seeds, in tangent coordinates, that leave what is held alone."""
    job, basis = starts.work.job, starts.tangent.basis.double()
    columns, count = _columns(starts, restraints)
    # A decision that is not at its limit leaves every direction free.
    asks = torch.ones_like(restraints.start, dtype=torch.bool)
    asks[:, restraints.levels :] = restraints.start[:, restraints.levels :] > 0
    held = restraints.jacobian * asks[:, :, None]
    free = columns + back_all(held, held @ columns)
    # Directions that were not chosen inside the null space may have little left there; the others move up.
    shares = torch.linalg.vector_norm(free, dim=1) / torch.linalg.vector_norm(columns, dim=1)
    meant = torch.arange(columns.shape[2], device=job.device) < count[:, None]
    kept = meant & (shares >= SHORTEST_PROJECTION)
    order = (~kept).int().argsort(dim=1, stable=True)
    free, count = free.gather(2, order[:, None, :].expand_as(free)), kept.sum(1)
    reasons = [reason or ("turned" if not n else "") for reason, n in zip(restraints.reasons, count.tolist(), strict=True)]
    # The sign that makes the largest component of the latent, not of its coordinates, positive.
    return DirectionsAt(free * batched.signs_of(basis @ free), count, reasons)


def _columns(starts: Starts, restraints: Restraints) -> tuple[Columns, Counts]:
    """Returns directions as the spec chooses them, in tangent coordinates, and how many they are."""
    job = starts.work.job
    # The further a decision is from its limit, the less a move that threatens it matters.
    room = (-restraints.start).clamp_min(0)
    room[:, : restraints.levels] = 0
    j = restraints.jacobian / (1 + room)[:, :, None]
    by = job.spec.trajectory.directions_by
    if by not in FROM_GRAMS:
        basis = starts.tangent.basis.double()
        dual = basis / basis.square().sum(1, keepdim=True)
        columns = dual.mT @ given_directions(job, starts.origins, starts.rows)
        return columns, torch.full((len(columns),), columns.shape[2], device=job.device)
    bad = torch.tensor([bool(r) for r in restraints.reasons], device=job.device)[:, None, None]
    moves = torch.where(bad, torch.eye(j.shape[2], dtype=j.dtype, device=job.device), j.mT @ j)
    if by == "reds":
        # The Rayleigh quotient of varied over held change, which damping keeps finite where nothing held moves.
        tau = DAMPING / moves.diagonal(dim1=1, dim2=2).sum(1)
        return batched.rayleigh_batched([moves], varied_gram(job.spec, restraints.varied), tau)
    return columns_by(job.spec, [moves], restraints.varied, [max(job.spec.beta(name) for name in job.spec.held)])


def _held(starts: Starts, restraints: Restraints, seeds: Rows) -> Held:
    """Returns what is held along trajectories from `seeds`, rows of the starts, one for each trajectory."""
    job, tangent = starts.work.job, starts.tangent
    measure = starts.along(restraints.names, [])

    def residual(y: Float[Tensor, "n k"], index: Rows) -> list[Features]:
        i = seeds[index]
        return restraints.compressed(restraints.residuals(measure(y, i), starts.rows[i]), i)

    evaluator = starts.work.evaluator(residual)

    def pull(y: Points, index: Rows, cotangents: Float64[Tensor, "n q m"]) -> Float64[Tensor, "n q k"]:
        return evaluator.pulled(y.to(tangent.origin.dtype), index, cotangents).double()

    few = [
        job.derivatives.modes[name] == "reverse"
        for name in restraints.names
        for _ in range(restraints.sizes[restraints.names.index(name)])
    ]
    return Held(
        residual=_residual(starts, restraints, seeds),
        levels=restraints.levels,
        pull=pull if job.derivatives.reverse else None,
        exact=[row for row, exact in enumerate(few) if exact and job.derivatives.reverse],
        inside=lambda y, index: tangent.inside(y, seeds[index]),
        outward=lambda y, index: tangent.outward(y, seeds[index]),
        varied=varied_gram(job.spec, restraints.varied)[seeds] if restraints.varied else None,
        scale=tangent.scale,
        difference=starts.difference,
    )


def _residual(starts: Starts, restraints: Restraints, seeds: Rows) -> ResidualAt:
    """Returns the residual of trajectories from `seeds`, which also keeps the images."""
    networks, origins = starts.work.job.networks, starts.origins

    def shown(points: Latents, rows: Rows) -> list[Shaped[Tensor, "n ..."]]:
        images = networks.generator.images(points, origins.conditions[rows])
        spoilt = ~torch.isfinite(images).flatten(1).all(1)
        found = features_at(networks, restraints.names, images, origins.bound, rows)
        measured = [limit.measured(f, rows) for f, limit in zip(found, restraints.limits, strict=True)]
        return [*(m.masked_fill(spoilt[:, None], torch.nan) for m in measured), to_levels(torch.nan_to_num(images))]

    evaluator = starts.work.evaluator(shown)

    def residual(y: Points, index: Rows) -> Residuals:
        i = seeds[index]
        *measured, images = evaluator.evaluate(starts.tangent.latents(y, i), starts.rows[i])
        residuals = restraints.residuals(measured, starts.rows[i])
        return Residuals(torch.cat(restraints.compressed(residuals, i), 1), restraints.worst(residuals), images)

    return residual


def _compressed(change: Float[Tensor, "n p"], basis: Float[Tensor, "s p k"], i: Rows) -> Float[Tensor, "n k"]:
    """Returns changes in the columns of their seeds' bases."""
    pairs = zip(change.split(ROWS_AT_ONCE), i.split(ROWS_AT_ONCE), strict=True)
    return torch.cat([(basis[at].mT @ c[:, :, None]).squeeze(2) for c, at in pairs])
