"""From reconstructions to the level set of the user's own images: every held attribute as it is in the image itself.

Damped Newton, in the coordinates and by the residual of corrected trajectories (`reds_core.trajectories.held`), with J measured at
the reconstruction, learnt from every move by its secant, and measured anew where that no longer helps.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from reds_core.jobs.job import Work
from reds_core.trajectories.held import Points
from reds_core.trajectories.updates import secant
from reds_core.types import Flags, Rows
from reds_core.variants.corrected_from import held_along, tangent_of
from reds_core.variants.origins import Origins
from reds_core.variants.restraints import Starts, restraints_at

ENOUGH = 0.6  # tolerances: near enough to the level set, with room for what rounding an image to bytes costs
MOVES, MEASURED = 6, 3  # moves for each J, and how often J is measured
LEAST_GAIN = 0.97  # a move that leaves more of the residual than this has not helped


def led_to_level_set(work: Work, origins: Origins, rows: Rows) -> Float[Tensor, "m d"]:
    """Returns the latents of the origins, those in `rows` moved to where what is held is what `origins.limits` ask for."""
    latents, left = origins.latents.clone(), rows
    for _ in range(MEASURED):
        if not len(left):
            break
        moved = replace(origins, latents=latents)
        starts = Starts(work, moved, left, tangent_of(work, moved, left))
        y, done = _moved(starts)
        latents[left] = starts.tangent.latents(y, torch.arange(len(left), device=y.device)).to(latents.dtype)
        left = left[~done]
    return latents


def _moved(starts: Starts) -> tuple[Points, Flags]:
    """Returns where a few Newton moves lead from each start, and which of them are near enough to the level set."""
    restraints = restraints_at(starts, varied=())
    n, _, k = restraints.jacobian.shape
    index = torch.arange(n, device=restraints.jacobian.device)
    held = held_along(starts, restraints, index, None)
    y, r, j = restraints.jacobian.new_zeros(n, k), restraints.start.clone(), restraints.jacobian.clone()
    size = torch.ones(n, dtype=y.dtype, device=y.device)
    usable = torch.tensor([not reason for reason in restraints.reasons], device=y.device)
    worst = held.residual(y, index, None).worst.double()
    for _ in range(MOVES):
        open_ = ((worst > ENOUGH) & usable).nonzero().squeeze(1)
        if not len(open_):
            break
        move = held.nearest(torch.zeros_like(y[open_]), j[open_], r[open_]) * size[open_, None]
        tried = held.inside(y[open_] + move, open_)
        move = tried - y[open_]
        found = held.residual(tried, open_, None)
        there, far = found.r.double(), found.worst.double()
        finite = torch.isfinite(there).all(1) & torch.isfinite(far)
        missed = there - r[open_] - (j[open_] @ move[:, :, None]).squeeze(2)
        j[open_] += secant(move, missed, finite)
        better = finite & (far < worst[open_] * LEAST_GAIN)
        size[open_] = torch.where(better, (2 * size[open_]).clamp_max(1), size[open_] / 3)
        chosen = open_[better]
        y[chosen], r[chosen], worst[chosen] = tried[better], there[better], far[better]
    return y, worst <= ENOUGH
