"""What every method starts from, directions at seeds, and returns: trajectories, their waypoints, and why each one ended.

Waypoint j = 1, 2, ... of a trajectory lies at arc length j h from its seed, which is waypoint 0 and is not stored. Trajectories of
one call have room for equally many waypoints, and those that end early leave the rest of theirs unused.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float, Float64, UInt8
from torch import Tensor

from reds_core.types import Columns, Counts, Latents, Owner, Reason, Rows

# Of a direction's length: a projection that keeps less has nowhere to go.
SHORTEST_PROJECTION = 0.1


class DirectionsAt(NamedTuple):
    """The directions at n points: columns, how many of them are directions, and per point "" or the reason why there are none."""

    columns: Columns
    counts: Counts
    reasons: list[Reason]


# Points, and the trajectory that each belongs to -> the directions there.
FindDirections = Callable[[Latents, Rows], DirectionsAt]


@dataclass(frozen=True)
class Trajectories:
    """t trajectories with room for j waypoints. `reached` counts each one's waypoints; `ended` says why it has no more, or "".

    `images` are those of the waypoints, rounded to bytes, if the method rendered them anyway.
    """

    latents: Float[Tensor, "t j d"]
    reached: list[int]
    ended: list[Reason]
    images: UInt8[Tensor, "t j ..."] | None = None


class FromSeeds(NamedTuple):
    """The trajectories from some seeds, the owner of each, and for every seed the reason why it has none, or ""."""

    owners: list[Owner]
    trajectories: Trajectories
    reasons: list[Reason]


def no_trajectories(latents: Latents, waypoints: int, reasons: list[Reason]) -> FromSeeds:
    """Returns no trajectories at all, in the space of these latents, and the reason of every seed."""
    return FromSeeds([], Trajectories(latents.new_zeros(0, waypoints, latents.shape[1]), [], []), reasons)


def both_ways(found: DirectionsAt, wanted: int) -> tuple[list[Owner], Float64[Tensor, "t d"]]:
    """Returns the directions at seeds, both ways, and whose they are: at most `wanted` for a seed, none for one with a reason."""
    owners = [
        (s, k, sign)
        for s, (reason, n) in enumerate(zip(found.reasons, found.counts.tolist(), strict=True))
        for k in range(0 if reason else min(wanted, n))
        for sign in (1, -1)
    ]
    first = [sign * found.columns[s, :, k] for s, k, sign in owners]
    return owners, torch.stack(first) if first else found.columns.new_zeros(0, found.columns.shape[1])
