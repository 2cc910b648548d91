"""From a shard's seeds to its trajectories: which way each one starts, and how it goes on.

Every seed that is fit to start from gets directions, by the Grams of its held and varied attributes, and each direction is followed
both ways: a trajectory. All trajectories of a shard move together.
"""

from __future__ import annotations

from dataclasses import replace

import torch

from reds_core.jobs.job import Work
from reds_core.trajectories.trajectory import FromSeeds, no_trajectories
from reds_core.variants.corrected_from import corrected_from
from reds_core.variants.origins import Origins, origins_of
from reds_core.variants.published_from import published_from


def trajectories_from(work: Work, origins: Origins) -> FromSeeds:
    """Returns the trajectories from every seed that is fit to start from, in the order of the samples.

    The reasons are those of all of the shard's seeds: candidates of a seed without trajectories are rejected, not forgotten.
    """
    if not work.job.spec.walks:
        return no_trajectories(origins.latents, 0, list(origins.reasons))
    coarse = work.coarse()
    if coarse is not None:
        return _by_smaller_images(coarse, origins)
    job = work.job
    rows = torch.tensor([s for s, reason in enumerate(origins.reasons) if not reason], dtype=torch.long, device=job.device)
    reasons = list(origins.reasons)
    if not len(rows):
        return no_trajectories(origins.latents, job.spec.trajectory.waypoints, reasons)
    follow = corrected_from if job.spec.trajectory.method == "corrected" else published_from
    found = follow(work, origins, rows)
    for s, reason in zip(rows.tolist(), found.reasons, strict=True):
        reasons[s] = reason
    return found._replace(reasons=reasons)


def _by_smaller_images(coarse: Work, origins: Origins) -> FromSeeds:
    """Returns the trajectories of work on smaller images than those of `origins`; their own waypoints have no images yet."""
    small = origins_of(coarse, origins.seeds)
    reasons = [own or other for own, other in zip(origins.reasons, small.reasons, strict=True)]
    found = trajectories_from(coarse, replace(small, reasons=reasons))
    return found._replace(trajectories=replace(found.trajectories, images=None))
