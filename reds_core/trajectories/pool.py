"""Corrected trajectories under way: where each one holds, and the sub-step that it is trying from there.

Each has exactly one point to evaluate next, its trial. Those that have ended leave the pool, so that no batch carries idle rows. A
mask says which rows a step of the algorithm is for; the others keep what they have.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float64
from torch import Tensor

from reds_core.trajectories.held import Held, Points, Residual, ResidualJacobian
from reds_core.types import Flags, Rows

ROUNDING = 1e-6  # of the distance between waypoints: of sums of sub-steps

PerRow = Float64[Tensor, " n"]


@dataclass
class Pool:
    """A row for each trajectory. Arc lengths and sizes are in latent units."""

    index: Rows  # which trajectory
    base: Points  # the last point that holds
    base_r: Residual
    base_j: ResidualJacobian
    direction: Points  # v there
    done: PerRow  # the arc length of `base`
    size: PerRow  # of the sub-step
    trial: Points  # the point to evaluate next
    jacobian: ResidualJacobian  # J on the way to it
    last: Points  # the point evaluated before, and its residual: the secant
    last_r: Residual
    worst: PerRow  # the largest |r_i| there
    corrections: PerRow  # since the sub-step's prediction
    predicted: PerRow  # the largest |r_i| where that came out
    refreshes: PerRow  # since the last waypoint
    fresh: Flags  # whether J has been measured at `base`

    def only(self, mask: Flags) -> Pool:
        """Returns the pool of the marked rows."""
        return Pool(**{name: value[mask] for name, value in vars(self).items()})

    def left(self, step: float) -> PerRow:
        """Returns the arc length to each one's next waypoint, for waypoints `step` apart."""
        return step * ((self.done / step + ROUNDING).floor() + 1) - self.done

    def waypoint(self, arrived: Flags, step: float) -> Rows:
        """Returns the number of the waypoint at which each has arrived; 0 between two waypoints, and for those that have not."""
        at = self.done / step
        return torch.where(arrived & ((at - at.round()).abs() < ROUNDING), at.round(), 0).long()


def pool_of(first: Points, start: Residual, jacobian: ResidualJacobian, step: float) -> Pool:
    """Returns the pool of trajectories that start at y = 0 along `first`; the first sub-step is as long as `step`."""
    t = len(first)
    zero, still = first.new_zeros(t), torch.zeros_like(first)
    return Pool(
        index=torch.arange(t, device=first.device), base=still, base_r=start, base_j=jacobian,
        direction=first, done=zero, size=zero + step, trial=still,
        jacobian=jacobian, last=still, last_r=start, worst=zero, corrections=zero, predicted=zero, refreshes=zero,
        fresh=torch.zeros(t, dtype=torch.bool, device=first.device),
    )  # fmt: skip


def predict(pool: Pool, which: Flags, held: Held) -> None:
    """Sets the first trial of a sub-step."""
    here, there = which[:, None], which[:, None, None]
    pool.last, pool.last_r = torch.where(here, pool.base, pool.last), torch.where(here, pool.base_r, pool.last_r)
    pool.jacobian = torch.where(there, pool.base_j, pool.jacobian)
    ahead = held.nearest(pool.size[:, None] * pool.direction, pool.base_j, pool.base_r)
    pool.trial = torch.where(here, held.inside(pool.base + ahead, pool.index), pool.trial)
    pool.worst = torch.where(which, torch.inf, pool.worst)
    pool.corrections = torch.where(which, 0, pool.corrections)


def correct(pool: Pool, r: Residual, worst: PerRow, which: Flags, held: Held) -> None:
    """Sets the next trial of those that are being corrected: without the part along v, which would undo the sub-step."""
    move = held.nearest(torch.zeros_like(pool.direction), pool.jacobian, torch.where(which[:, None], r, 0.0))
    along = pool.direction / torch.linalg.vector_norm(pool.direction, dim=1, keepdim=True)
    move = move - along * (along * move).sum(1, keepdim=True)
    # No further than the sub-step itself: beyond that the Jacobian says nothing.
    move = move * (pool.size / torch.maximum(held.length(move), pool.size))[:, None]
    here = which[:, None]
    pool.last, pool.last_r = torch.where(here, pool.trial, pool.last), torch.where(here, r, pool.last_r)
    pool.trial = torch.where(here, held.inside(pool.trial + move, pool.index), pool.trial)
    pool.worst = torch.where(which, worst, pool.worst)
    pool.corrections = pool.corrections + which
