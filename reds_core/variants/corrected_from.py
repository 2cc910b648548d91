"""Corrected trajectories from a shard's seeds: the directions that leave what is held alone, and where they lead.

Everything happens in the coordinates of a tangent basis (`reds_core.trajectories.tangent`) and in units of the limits
(`reds_core.variants.restraints`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from jaxtyping import Float, Float64, Shaped
from torch import Tensor

from reds_core.directions import batched
from reds_core.directions.choices import FROM_GRAMS, columns_by, varied_gram
from reds_core.directions.leading import leading
from reds_core.jobs.images import to_levels
from reds_core.jobs.job import Work, features_at
from reds_core.trajectories.corrected import corrected
from reds_core.trajectories.held import DAMPING, Asked, Held, Points, Residuals, back_all
from reds_core.trajectories.tangent import COTANGENTS, Tangent, jacobian_range, tangent_at
from reds_core.trajectories.trajectory import SHORTEST_PROJECTION, DirectionsAt, FromSeeds, both_ways, no_trajectories
from reds_core.types import Columns, Counts, Grams, Rows
from reds_core.variants.origins import Origins, given_directions, held_measure
from reds_core.variants.restraints import Restraints, Starts, restraints_at


def corrected_from(work: Work, origins: Origins, rows: Rows) -> FromSeeds:
    """Returns corrected trajectories of the seeds in `rows`."""
    spec = work.job.spec.trajectory
    starts = Starts(work, origins, rows, tangent_of(work, origins, rows))
    restraints = restraints_at(starts)
    found = _directions(starts, restraints)
    owned, first = both_ways(found, spec.directions)
    if not owned:
        return no_trajectories(origins.latents, spec.waypoints, found.reasons)
    seeds = torch.tensor([i for i, _, _ in owned], dtype=torch.long, device=work.job.device)
    numbers = [k for _, k, _ in owned]
    slopes = _own_slopes(varied_gram(work.job.spec, restraints.varied), seeds, numbers, first) if restraints.varied else None
    held = held_along(starts, restraints, seeds, slopes)
    trajectories = corrected(first, restraints.start[seeds], restraints.jacobian[seeds], held, work.job.step, spec.waypoints)
    latents = torch.stack([starts.tangent.latents(trajectories.latents[:, j], seeds) for j in range(spec.waypoints)], 1)
    owners = [(int(rows[i]), k, sign) for i, k, sign in owned]
    return FromSeeds(owners, replace(trajectories, latents=latents), found.reasons)


def tangent_of(work: Work, origins: Origins, rows: Rows) -> Tangent:
    """Returns the coordinates of the seeds in `rows`."""
    job, networks, latents = work.job, work.job.networks, origins.latents[rows]
    basis = job.tangent
    if basis is None:
        basis = _basis_at(work, origins, rows)
    return tangent_at(latents, networks.cloud.mean(origins.conditions[rows]), basis, networks.cloud.deviations)


def _basis_at(work: Work, origins: Origins, rows: Rows) -> Float[Tensor, "n d k"]:
    """Returns a basis for each of the seeds in `rows`: what is measured reacts to it, or the image where so the generator says."""
    job, networks, latents = work.job, work.job.networks, origins.latents[rows]
    generator = networks.generator
    if generator.subspace is not None:
        render = origins.rendered_by(generator)
        images = work.evaluator(lambda points, at: [render(points, at).flatten(1)])
        return leading(images, latents, rows, generator.subspace)
    measure = held_measure(work, origins, list(job.spec.held), list(job.spec.varied))
    pulled_back = work.evaluator(measure).pullbacks(latents, rows, COTANGENTS)
    return jacobian_range(pulled_back, networks.cloud.deviations, generator.rows)


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
        trace = moves.diagonal(dim1=1, dim2=2).sum(1)
        tau = DAMPING / torch.where(trace > 0, trace, 1.0)  # at a seed whose held features stand still, any will do
        return batched.rayleigh_batched([moves], varied_gram(job.spec, restraints.varied), tau)
    return columns_by(job.spec, [moves], restraints.varied, [max(job.spec.beta(name) for name in job.spec.held)])


def held_along(starts: Starts, restraints: Restraints, seeds: Rows, slopes: Grams | None) -> Held:
    """Returns what is held along trajectories from `seeds`, rows of the starts, one for each trajectory."""
    job, tangent, networks, origins = starts.work.job, starts.tangent, starts.work.job.networks, starts.origins
    render = origins.rendered_by(networks.generator)

    def shown(y: Float[Tensor, "n k"], index: Rows) -> list[Shaped[Tensor, "n ..."]]:
        i = seeds[index]
        rows = starts.rows[i]
        images = render(tangent.latents(y, i), rows)
        spoilt = ~torch.isfinite(images).flatten(1).all(1, keepdim=True)
        found = features_at(networks, restraints.names, images, origins.bound, rows)
        measured = [limit.measured(f, rows) for f, limit in zip(found, restraints.limits, strict=True)]
        residuals = restraints.residuals([m.masked_fill(spoilt, torch.nan) for m in measured], rows)
        r, worst = torch.cat(restraints.compressed(residuals, i), 1), restraints.worst(residuals)
        return [r, worst, to_levels(torch.nan_to_num(images.detach()))]

    evaluator = starts.work.evaluator(shown)

    def residual(y: Points, index: Rows, asked: Asked | None) -> Residuals:
        y = y.to(tangent.origin.dtype)
        if asked is None:
            return Residuals(*evaluator.evaluate(y, index))
        r, worst, images, products = evaluator.evaluate_and_pull(y, index, lambda r, at: asked(r.double(), at))
        return Residuals(r, worst, images, products.double())

    def pull(y: Points, index: Rows, cotangents: Float64[Tensor, "n q m"]) -> Float64[Tensor, "n q k"]:
        return evaluator.pulled(y.to(tangent.origin.dtype), index, cotangents).double()

    by_products = [job.derivatives.by_products(name) for name in restraints.names]
    exact = [few for few, size in zip(by_products, restraints.sizes, strict=True) for _ in range(size)]
    return Held(
        residual=residual,
        levels=restraints.levels,
        pull=pull if job.derivatives.reverse else None,
        exact=[row for row, few in enumerate(exact) if few],
        inside=lambda y, index: tangent.inside(y, seeds[index]),
        outward=lambda y, index: tangent.outward(y, seeds[index]),
        varied=slopes,
        scale=tangent.scale,
        difference=starts.difference,
    )


def _own_slopes(
    gram: Float64[Tensor, "s k k"], seeds: Rows, directions: Sequence[int], first: Float64[Tensor, "n k"]
) -> Float64[Tensor, "n k k"]:
    """Returns for each trajectory the Gram of what varies, without the effects of the other directions of its seed.

    With A alone every trajectory would climb towards its leading eigenvector, and a seed's variants would come to look alike.

    Args:
        gram: A of each seed.
        seeds, directions: the row of each trajectory's seed, and its number there.
        first: the direction of each trajectory.
    """
    of_seed: dict[int, dict[int, int]] = {}  # seed -> direction -> one of its two trajectories
    for t, (seed, direction) in enumerate(zip(seeds.tolist(), directions, strict=True)):
        of_seed.setdefault(seed, {})[direction] = t
    found = gram[seeds]
    for t, (seed, direction) in enumerate(zip(seeds.tolist(), directions, strict=True)):
        others = first[[row for other, row in of_seed[seed].items() if other != direction]]
        effects = gram[seed] @ others.T
        found[t] -= effects @ torch.linalg.pinv(others @ effects, hermitian=True) @ effects.T
    return found
