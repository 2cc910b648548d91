"""From a shard's seeds to its trajectories: which way each one starts, and how it goes on.

Every seed that is fit to start from gets directions, by the Grams of its held and varied attributes, and each direction is followed
both ways: a trajectory. All trajectories of a shard move together.
"""

from __future__ import annotations

from dataclasses import replace

import torch

from reds_core.directions import batched
from reds_core.directions.jacobian import Derive, derive_by, grams, one_sided, two_sided
from reds_core.trajectories.published import linear, local
from reds_core.trajectories.trajectory import DirectionsAt, FindDirections, nowhere
from reds_core.types import Latents, Rows
from reds_core.variants.derivatives import WITHOUT_GRAMS, role_names
from reds_core.variants.directions_at import FromSeeds, both_ways, columns_by, given_at, measure_of, unusable
from reds_core.variants.job import Work
from reds_core.variants.level_set import hold
from reds_core.variants.origins import Origins, origins_of

PUBLISHED = {"linear": linear, "local": local}


def trajectories_from(work: Work, origins: Origins) -> FromSeeds:
    """Returns the trajectories from every seed that is fit to start from, in the order of the samples.

    The reasons are those of all of the shard's seeds: candidates of a seed without trajectories are rejected, not forgotten.
    """
    coarse = work.coarse()
    if coarse is not None:
        return _by_smaller_images(coarse, origins)
    job = work.job
    rows = torch.tensor([s for s, reason in enumerate(origins.reasons) if not reason], dtype=torch.long, device=job.device)
    reasons = list(origins.reasons)
    if not len(rows):
        return FromSeeds([], nowhere(origins.latents, job.spec.trajectory.waypoints), reasons)
    found = hold(work, origins, rows) if job.spec.trajectory.method == "corrected" else published(work, origins, rows)
    for s, reason in zip(rows.tolist(), found.reasons, strict=True):
        reasons[s] = reason
    return found._replace(reasons=reasons)


def _by_smaller_images(coarse: Work, origins: Origins) -> FromSeeds:
    """Returns the trajectories of work on smaller images than those of `origins`; their own waypoints have no images yet."""
    small = origins_of(coarse, origins.seeds)
    reasons = [own or other for own, other in zip(origins.reasons, small.reasons, strict=True)]
    found = trajectories_from(coarse, replace(small, reasons=reasons))
    return found._replace(trajectories=replace(found.trajectories, images=None))


def published(work: Work, origins: Origins, rows: Rows) -> FromSeeds:
    """Returns linear or local trajectories of the seeds in `rows`."""
    job, spec = work.job, work.job.spec.trajectory
    mode, latents = job.derivatives.mode, origins.latents
    at_seeds = _finder(work, origins, rows, derive_by(mode, two_sided(job.step)))
    found = at_seeds(latents[rows], torch.arange(len(rows), device=job.device))
    owned, first = both_ways(found._replace(columns=batched.oriented(found.columns)), spec.directions)
    if not owned:
        return FromSeeds([], nowhere(latents, spec.waypoints), found.reasons)
    owners = [(int(rows[i]), k, sign) for i, k, sign in owned]
    start_rows = torch.tensor([s for s, _, _ in owners], dtype=torch.long, device=job.device)
    start = latents[start_rows]
    later = _finder(work, origins, start_rows, derive_by(mode, one_sided(job.step)))
    trajectories = PUBLISHED[spec.method](start, first.to(start.dtype), job.step, spec.waypoints, later)
    return FromSeeds(owners, trajectories, found.reasons)


def _finder(work: Work, origins: Origins, rows: Rows, derive: Derive) -> FindDirections:
    """Returns the spec's way to choose directions, for points that belong to the seeds in `rows`."""
    job, spec = work.job, work.job.spec
    held, varied = role_names(spec)
    evaluator = work.evaluator(measure_of(work.networks, origins, [*held, *varied]))

    def find(points: Latents, index: Rows) -> DirectionsAt:
        if spec.trajectory.directions_by in WITHOUT_GRAMS:
            columns = given_at(job, origins, rows[index])
            return DirectionsAt(columns, torch.full((len(points),), columns.shape[2], device=job.device), [""] * len(points))
        found = grams(evaluator, points, rows[index], derive)
        reasons = unusable(found, held, varied)
        # An unusable point must not stop the others' eigenproblems: it gets any Gram, and its reason.
        bad = torch.tensor([bool(r) for r in reasons], device=job.device)
        whole = torch.eye(points.shape[1], dtype=torch.float64, device=job.device)
        found = [torch.where(bad[:, None, None], whole, a) for a in found]
        columns, count = columns_by(spec, found[: len(held)], found[len(held) :], [spec.beta(name) for name in held])
        none = (count == 0).tolist()
        return DirectionsAt(columns, count, [r or ("turned" if n else "") for r, n in zip(reasons, none, strict=True)])

    return find
