r"""Predictor-corrector trajectories: every waypoint is brought back to what is held.

With the residual r(y), its Jacobian J and the damped Newton move back(r) of `reds_core.trajectories.held`:

    predict     y <- y + s v + back(r)                           r: what the last sub-step left
    correct     y <- y + back(r), but for its part along v       which would undo the sub-step
    turn        v <- w + back(J w), w = v + A y, each to unit length; A: the varied attributes' Gram at the seed

Without A y, the slope of what should vary, v loses itself in turns: level sets of class scores bend within a tenth of a spread.

Every evaluation of r also updates J (`reds_core.trajectories.updates`), so that an iteration costs one forward pass, and a product
where J had foretold it badly. The curvature of the level set makes a prediction miss by about s^2, and a kink by s: the length of
each sub-step is chosen by how far the one before came out. One that does not come back is tried again, shorter, and at last with J
measured anew. Between two waypoints more is allowed than at one, so that sub-steps are longer. Waypoint j lies at arc length j h
whatever the sub-steps. A trajectory that meets the border of what is plausible, or a decision at its limit, goes on along it.

All trajectories of a shard are evaluated together (`reds_core.trajectories.pool`), and the course of one depends on no other.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from reds_core.trajectories.held import Held, Residual, Residuals
from reds_core.trajectories.pool import ROUNDING, Pool, correct, pool_of, predict
from reds_core.trajectories.trajectory import SHORTEST_PROJECTION, Trajectories
from reds_core.trajectories.updates import learn, missed, of_levels, pull, refresh, worth
from reds_core.types import Flags, Reason

ENOUGH = 0.75  # of a tolerance: what an image loses when it is rounded to 8 bits must still fit
ENOUGH_BETWEEN = 2.5  # the same between two waypoints, where nobody looks
AIM = 1.5  # tolerances: where a sub-step's prediction should come out
FAR = 4.0  # tolerances: a prediction this far out is made again nearer, not corrected
ENOUGH_TOGETHER = 0.7  # of the trials: if more are worth a product, all get one from the pass that evaluates them
MOST_CORRECTIONS = 4
MOST_REFRESHES = 4  # between two waypoints
RENEW_BELOW = 1 / 16  # of the distance between waypoints: a sub-step so short asks for J to be measured anew
SHORTEST = 1 / 64  # of the distance between waypoints: the shortest sub-step


def corrected(
    first: Float[Tensor, "t k"],
    start: Float[Tensor, "t m"],
    jacobian: Float[Tensor, "t m k"],
    held: Held,
    step: float,
    waypoints: int,
) -> Trajectories:
    """Walks from y = 0 along `first`, on the level set r = 0 to within the tolerances.

    Args:
        first: directions, each in its seed's null space; their lengths do not matter.
        start: the residual at y = 0: 0 for levels, and for decisions how near they are to their limits.
        jacobian: of the residual there.
        held: what is held, what should vary, and where trajectories may go.
        step, waypoints: the distance between waypoints in latent units, and their number.

    Returns:
        Trajectories in tangent coordinates; `ended` is `step_underflow`, `implausible`, `turned` or `not_finite`.
    """
    found = _Found(first.new_zeros(len(first), waypoints, first.shape[1]), [0] * len(first), [""] * len(first))
    pool = pool_of(held.unit(first.double()), start.double(), jacobian.double(), step)
    predict(pool, torch.ones_like(pool.index, dtype=torch.bool), held)
    share = 0.0  # of the trials that were worth a product
    while len(pool.index):
        together = held.pull is not None and share > ENOUGH_TOGETHER
        residuals = held.residual(pool.trial, pool.index, partial(_cotangents, pool, held) if together else None)
        outcomes, share = _take(pool, residuals, held, step)
        keep = found.note(pool, residuals.images, outcomes)
        if not all(keep):
            pool = pool.only(torch.tensor(keep, device=pool.index.device))
    return Trajectories(found.latents, found.reached, found.ended, found.images)


class _Outcome(NamedTuple):
    """What came of an evaluation for one trajectory, on the host."""

    trajectory: int
    waypoint: int  # arrived at, or 0
    short: int  # the sub-step has become too short
    lost: int  # what is held leaves no direction
    finite: int
    beyond: int  # what is plausible leaves no direction, or no move

    @property
    def reason(self) -> Reason:
        """Why the trajectory ends here, or ""."""
        if self.short:
            return "step_underflow" if self.finite else "not_finite"
        if self.beyond:
            return "implausible"
        return "turned" if self.lost else ""


@dataclass
class _Found:
    """The waypoints found so far."""

    latents: Float[Tensor, "t j k"]
    reached: list[int]
    ended: list[Reason]
    images: UInt8[Tensor, "t j ..."] | None = None

    def note(self, pool: Pool, images: UInt8[Tensor, "n ..."], outcomes: list[_Outcome]) -> list[bool]:
        """Notes the waypoints among the points that arrived. Returns which trajectories go on."""
        if self.images is None:
            self.images = images.new_zeros(*self.latents.shape[:2], *images.shape[1:])
        keep = []
        for row, outcome in enumerate(outcomes):
            t, j = outcome.trajectory, outcome.waypoint
            if j:
                self.latents[t, j - 1] = pool.base[row].to(self.latents.dtype)
                self.images[t, j - 1] = images[row]
                self.reached[t] = j
            complete = self.reached[t] == self.latents.shape[1]
            self.ended[t] = "" if complete else outcome.reason
            keep.append(not outcome.reason and not complete)
        return keep


def _cotangents(pool: Pool, held: Held, r: Residual, at: slice) -> Residual:
    """Returns for some trials the combination of J's rows that turned out to be furthest off there."""
    return torch.nn.functional.normalize(of_levels(missed(pool, r, at), held), dim=1)


def _take(pool: Pool, residuals: Residuals, held: Held, step: float) -> tuple[list[_Outcome], float]:
    """Takes in the residuals of all trials, and sets the next trials.

    Returns:
        What came of each, and the share of them that was worth a product.
    """
    r, worst = residuals.r.double(), residuals.worst.double()
    finite = torch.isfinite(worst)
    last = pool.left(step) <= pool.size * (1 + ROUNDING)
    arrived = finite & (worst <= torch.where(last, ENOUGH, ENOUGH_BETWEEN))
    predicted = pool.corrections == 0
    pool.predicted = torch.where(predicted, worst, pool.predicted)
    far = worst > torch.where(predicted, FAR, pool.worst)
    failed = ~arrived & (~finite | far | (pool.corrections >= MOST_CORRECTIONS))
    going = ~arrived & ~failed
    off = missed(pool, r)
    mended = of_levels(off, held)
    worthwhile = worth(mended) & (arrived | going)
    learn(pool, off, finite)
    pull(pool, mended, residuals.products, worthwhile, held)
    correct(pool, r, worst, going, held)
    on_border, stuck = _arrive(pool, r, arrived, held, step)
    short = _shorten(pool, failed, finite & predicted, step)
    renewed = failed & (pool.size < step * RENEW_BELOW) & ~pool.fresh & (pool.refreshes < MOST_REFRESHES)
    short = short & ~renewed
    refresh(pool, renewed, held)
    pool.fresh = pool.fresh & ~arrived | renewed
    lost, beyond = _turn(pool, arrived | renewed, held)
    doubted = lost & ~pool.fresh & (pool.refreshes < MOST_REFRESHES)
    refresh(pool, doubted, held)
    pool.fresh = pool.fresh | doubted
    lost, beyond = (torch.where(doubted, again, was) for again, was in zip(_turn(pool, doubted, held), (lost, beyond), strict=True))
    predict(pool, arrived | failed, held)
    lost, beyond = lost | stuck & ~on_border, beyond | stuck & on_border
    facts = [pool.index, pool.waypoint(arrived, step), short, lost, finite, beyond, worthwhile]
    # The host waits for the device here, for all at once, and where `pull` and `refresh` ask which rows are theirs.
    rows = torch.stack(facts, 1).tolist()
    return [_Outcome(*row[:-1]) for row in rows], sum(row[-1] for row in rows) / len(rows)


def _arrive(pool: Pool, r: Residual, arrived: Flags, held: Held, step: float) -> tuple[Flags, Flags]:
    """Makes the trials that arrived the new bases, and chooses the next sub-steps.

    Returns masks of those on the border of what is plausible, and of those without progress.
    """
    on_border = held.outward(pool.trial, pool.index).any(1)
    # The border, or a decision at its limit, may have cut the sub-step short.
    cut = on_border | (held.levels < r.shape[1])
    moved = torch.where(cut, torch.minimum(held.length(pool.trial - pool.base), pool.size), pool.size)
    stuck = arrived & (moved < SHORTEST * pool.size)
    here, there = arrived[:, None], arrived[:, None, None]
    pool.base, pool.base_r = torch.where(here, pool.trial, pool.base), torch.where(here, r, pool.base_r)
    pool.base_j = torch.where(there, pool.jacobian, pool.base_j)
    pool.done = torch.where(arrived, pool.done + moved, pool.done)
    left = pool.left(step)
    pool.refreshes = torch.where(arrived & (left > step * (1 - 2 * ROUNDING)), 0, pool.refreshes)
    aimed = (AIM / pool.predicted.clamp_min(AIM / 4)).sqrt().clamp_min(0.5) * pool.size
    # Equal sub-steps to the waypoint: a short last one would say little about how long the next may be.
    parts = (left / aimed.clamp_min(step * SHORTEST) - 0.1).ceil().clamp_min(1)
    pool.size = torch.where(arrived, left / parts, pool.size)
    return on_border, stuck


def _shorten(pool: Pool, failed: Flags, aimed: Flags, step: float) -> Flags:
    """Shortens the sub-steps that failed, by how far their prediction came out. Returns a mask of those that are too short now."""
    share = torch.where(aimed, (AIM / pool.predicted).sqrt().clamp(0.25, 0.7), 0.5)
    pool.size = torch.where(failed, share * pool.size, pool.size)
    return failed & (pool.size < step * SHORTEST)


def _turn(pool: Pool, which: Flags, held: Held) -> tuple[Flags, Flags]:
    """Turns the direction up the slope of what varies, out of what J holds, and along the border of what is plausible.

    Returns masks of those with too little left of it: once what is held is taken out, and at the border.
    """
    v = pool.direction
    if held.varied is not None:
        v = held.unit(v + held.unit((held.varied[pool.index] @ pool.base[:, :, None]).squeeze(2)))
    normal = held.outward(pool.base, pool.index)
    along = v - normal * (normal * v).sum(1, keepdim=True).clamp_min(0)
    levels = (pool.base_j[:, : held.levels] @ along[:, :, None]).squeeze(2)
    limits = torch.where(held.at_limits(pool.base_r), 0.0, -torch.inf)
    turned = held.nearest(along, pool.base_j, torch.cat([levels, limits], 1))
    least = SHORTEST_PROJECTION * torch.linalg.vector_norm(v, dim=1)
    beyond: Tensor = which & (torch.linalg.vector_norm(along, dim=1) < least)
    lost: Tensor = which & (torch.linalg.vector_norm(turned, dim=1) < least)
    pool.direction = torch.where(which[:, None], held.unit(turned), pool.direction)
    return lost, beyond
