"""From a seed along a direction: the published trajectories, all of a shard's at once.

    linear   z_{j+1} = z_j + h v                              v of the seed
    local    v <- V V^T v / |V V^T v|, z_{j+1} = z_j + h v    V found anew at every waypoint after the seed

A projection never turns back. One that keeps less than a tenth of the direction has nowhere to go: the trajectory ends there.
"""

from __future__ import annotations

import torch

from reds_core.trajectories.trajectory import SHORTEST_PROJECTION, FindDirections, Trajectories
from reds_core.types import Latents, Reason


def linear(start: Latents, first: Latents, step: float, waypoints: int) -> Trajectories:
    """Goes straight on, from latents `start` along unit vectors `first`; `step` is in latent units."""
    lengths = step * torch.arange(1, waypoints + 1, device=start.device, dtype=start.dtype)
    latents = start[:, None] + lengths[:, None] * first[:, None]
    return Trajectories(latents, [waypoints] * len(start), [""] * len(start))


def local(start: Latents, first: Latents, step: float, waypoints: int, find: FindDirections) -> Trajectories:
    """Follows a curve: at every waypoint the direction is projected on the span of what `find` returns there. Else as `linear`."""
    latents = start[:, None].repeat(1, waypoints, 1)
    latents[:, 0] = start + step * first
    reached, ended = [1] * len(start), [""] * len(start)
    going = torch.arange(len(start), device=start.device)
    direction = first
    for j in range(1, waypoints):
        here = latents[going, j - 1]
        columns, count, reasons = find(here, going)
        meant = torch.arange(columns.shape[2], device=columns.device) < count[:, None]
        weights = (columns.mT @ direction.double()[:, :, None]).squeeze(2) * meant
        projected = (columns @ weights[:, :, None]).squeeze(2)
        length = projected.norm(dim=1)
        too_short = (length < SHORTEST_PROJECTION).tolist()
        ends: list[Reason] = [reason or ("turned" if short else "") for reason, short in zip(reasons, too_short, strict=True)]
        for t, end in zip(going.tolist(), ends, strict=True):
            ended[t] = end
            reached[t] += not end
        keep = torch.tensor([not end for end in ends], device=start.device)
        direction = (projected[keep] / length[keep, None]).to(start.dtype)
        going = going[keep]
        latents[going, j] = here[keep] + step * direction
        if not len(going):
            break
    return Trajectories(latents, reached, ended)
