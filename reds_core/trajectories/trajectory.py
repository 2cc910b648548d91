"""TODO."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from reds_core.types import Latents, Reason

SHORTEST_PROJECTION = 0.1


# Points (n, d) of the trajectories (n,) -> the span of the directions there: columns (n, d, m), how many of them are meant
# (n,), and for every point "" or the reason why there are none.
FindDirections = Callable[[Latents, Tensor], tuple[Tensor, Tensor, list[Reason]]]


@dataclass
class Trajectories:
    """t trajectories of w waypoints. `reached` counts each one's waypoints; `ended` says why it has no more.

    `images` are those of the waypoints, as bytes, where the walk had to render them anyway.
    """

    latents: Tensor  # (t, w, d)
    reached: list[int]
    ended: list[Reason]
    images: Tensor | None = None  # (t, w, c, h, w), uint8


def nowhere(latents: Latents, waypoints: int) -> Trajectories:
    """No trajectory at all, from any of the latents (n, d)."""
    return Trajectories(latents.new_zeros(0, waypoints, latents.shape[1]), [], [])
