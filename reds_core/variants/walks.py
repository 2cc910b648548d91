"""From a shard's seeds to its trajectories: where each one goes first, and how it goes on.

directions at every fit seed (reds_core.directions), by the Grams of its held and varied attributes (reds_core.directions.jacobian)
each direction both ways: a trajectory (reds_core.trajectories.published, reds_core.trajectories.corrected), all of the shard's walked together
"""

from __future__ import annotations

import torch
from torch import Tensor

from reds_core.directions import batched
from reds_core.directions.jacobian import grams
from reds_core.trajectories.published import linear, local
from reds_core.trajectories.trajectory import FindDirections, Trajectories, nowhere
from reds_core.types import Latents, Owner, Passes, Reason
from reds_core.variants.directions_at import both_ways, columns_by, given_at, measure_of, unusable
from reds_core.variants.job import UNASKED, Job, role_names
from reds_core.variants.level_set import hold
from reds_core.variants.origins import Origins, origins_of

METHODS = {"linear": linear, "local": local}


def walk_from(job: Job, origins: Origins, passes: Passes) -> tuple[list[Owner], Trajectories]:
    """The trajectories from every seed that is fit to start from, and whose they are, in the order of the samples.

    A seed that has none gets its reason: its candidates are rejected, not forgotten.
    """
    rows = torch.tensor([s for s, reason in enumerate(origins.reasons) if not reason], dtype=torch.long, device=job.device)
    if job.walk is not None:
        return _by_smaller_images(job.walk, origins, passes)
    if not len(rows):
        return [], nowhere(origins.latents, job.spec.trajectory.waypoints)
    owners, walk, reasons = (hold if job.spec.trajectory.method == "corrected" else published)(job, origins, rows, passes)
    for s, reason in zip(rows.tolist(), reasons, strict=True):
        origins.reasons[s] = reason
    return owners, walk


def _by_smaller_images(job: Job, origins: Origins, passes: Passes) -> tuple[list[Owner], Trajectories]:
    """The trajectories of a job whose images are smaller than those of `origins`. Waypoints have no images yet."""
    small = origins_of(job, origins.seeds, passes)
    small.reasons[:] = [own or other for own, other in zip(origins.reasons, small.reasons, strict=True)]
    owners, walk = walk_from(job, small, passes)
    origins.reasons[:] = small.reasons
    walk.images = None
    return owners, walk


def published(job: Job, origins: Origins, rows: Tensor, passes: Passes) -> tuple[list[Owner], Trajectories, list[Reason]]:
    """Linear or local trajectories of the seeds in `rows`: whose they are, and for every seed the reason why it has none, or ""."""
    spec = job.spec.trajectory
    step = spec.step * job.latent_spread
    columns, count, reasons = _finder(job, origins, rows, step, True, passes)(
        origins.latents[rows], torch.arange(len(rows), device=job.device)
    )
    owned, first = both_ways(batched.oriented(columns), count, reasons, spec.directions)
    owners = [(int(rows[i]), k, sign) for i, k, sign in owned]
    if not owners:
        return owners, nowhere(origins.latents, spec.waypoints), reasons
    start_rows = torch.tensor([s for s, _, _ in owners], dtype=torch.long, device=job.device)
    start = origins.latents[start_rows]
    find = _finder(job, origins, start_rows, step, False, passes)
    return owners, METHODS[spec.method](start, first.to(start.dtype), step, spec.waypoints, find), reasons


def _finder(job: Job, origins: Origins, rows: Tensor, step: float, at_seed: bool, passes: Passes) -> FindDirections:
    """The spec's way to choose directions, for points that belong to the seeds in `rows`."""
    spec = job.spec
    by = spec.trajectory.directions_by
    held, varied = role_names(spec)
    measure = measure_of(job, origins, [*held, *varied])

    def find(points: Latents, index: Tensor) -> tuple[Tensor, Tensor, list[Reason]]:
        if by in UNASKED:
            columns = given_at(job, origins, rows[index])
            return columns, torch.full((len(points),), columns.shape[2], device=job.device), [""] * len(points)
        found = grams(measure, points, rows[index], job.mode, step, at_seed, job.batch, passes)
        reasons = unusable(found, [*(f"held:{n}" for n in held), *(f"varied:{n}" for n in varied)])
        # An unusable point must not stop the others' eigenproblems: it gets any Gram, and its reason.
        bad = torch.tensor([bool(r) for r in reasons], device=job.device)
        whole = torch.eye(points.shape[1], dtype=torch.float64, device=job.device)
        found = [torch.where(bad[:, None, None], whole, a) for a in found]
        columns, count = columns_by(spec, found[: len(held)], found[len(held) :], [spec.beta(name) for name in held])
        none = (count == 0).tolist()
        return columns, count, [r or ("turned" if n else "") for r, n in zip(reasons, none, strict=True)]

    return find
