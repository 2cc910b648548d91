"""Linear and local trajectories from a shard's seeds: directions by the Grams on all latent axes, as published."""

from __future__ import annotations

import torch

from reds_core.directions import batched
from reds_core.directions.choices import FROM_GRAMS, columns_by, looked_at, unusable
from reds_core.directions.jacobian import Derive, Mode, derive_by, grams, one_sided, two_sided
from reds_core.jobs.job import Work
from reds_core.trajectories.published import linear, local
from reds_core.trajectories.trajectory import DirectionsAt, FindDirections, FromSeeds, both_ways, no_trajectories
from reds_core.types import Latents, Rows
from reds_core.variants.origins import Origins, given_directions, held_measure


def published_from(work: Work, origins: Origins, rows: Rows) -> FromSeeds:
    """Returns linear or local trajectories of the seeds in `rows`."""
    job, spec, latents = work.job, work.job.spec.trajectory, origins.latents
    mode: Mode = next(iter(job.derivatives.modes.values()), "differences")  # one for all
    at_seeds = _finder(work, origins, rows, derive_by(mode, two_sided(job.step)))
    found = at_seeds(latents[rows], torch.arange(len(rows), device=job.device))
    owned, first = both_ways(found._replace(columns=batched.oriented(found.columns)), spec.directions)
    if not owned:
        return no_trajectories(latents, spec.waypoints, found.reasons)
    owners = [(int(rows[i]), k, sign) for i, k, sign in owned]
    start_rows = torch.tensor([s for s, _, _ in owners], dtype=torch.long, device=job.device)
    start, first = latents[start_rows], first.to(latents.dtype)
    if spec.method == "linear":
        trajectories = linear(start, first, job.step, spec.waypoints)
    else:
        later = _finder(work, origins, start_rows, derive_by(mode, one_sided(job.step)))
        trajectories = local(start, first, job.step, spec.waypoints, later)
    return FromSeeds(owners, trajectories, found.reasons)


def _finder(work: Work, origins: Origins, rows: Rows, derive: Derive) -> FindDirections:
    """Returns the spec's way to choose directions, for points that belong to the seeds in `rows`."""
    job, spec = work.job, work.job.spec
    held, varied = looked_at(spec)
    evaluator = work.evaluator(held_measure(work, origins, held, varied))

    def find(points: Latents, index: Rows) -> DirectionsAt:
        if spec.trajectory.directions_by not in FROM_GRAMS:
            columns = given_directions(job, origins, rows[index])
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
