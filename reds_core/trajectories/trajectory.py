"""What every method returns: trajectories, how many waypoints each one reached, and why it ended.

Waypoint j = 1, 2, ... of a trajectory lies at arc length j h from its seed, which is waypoint 0 and is not stored. Trajectories of
one call have room for equally many waypoints, and those that end early leave the rest of theirs unused.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from jaxtyping import Float, UInt8
from torch import Tensor

from reds_core.types import Columns, Counts, Latents, Reason, Rows

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


def nowhere(latents: Latents, waypoints: int) -> Trajectories:
    """Returns no trajectories at all, in the space of these latents."""
    return Trajectories(latents.new_zeros(0, waypoints, latents.shape[1]), [], [])
