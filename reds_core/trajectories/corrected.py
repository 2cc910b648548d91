r"""Predictor-corrector trajectories: every waypoint is brought back to what is held.

    r(y)        the held features' change since the seed, each attribute's divided by its tolerance: |r_i| <= 1 is within it
    J = dr/dy   y are coordinates in a tangent basis B (d, k): z = z_seed + B y

    back(r)     -(J^T J + l I)^-1 J^T r                          damped Newton: the move that takes r away
    predict     y <- y + s v + back(r)                           r: what the last sub-step left
    correct     y <- y + back(r), but for its part along v       which would undo the step
    turn        v <- w + back(J w), w = v + A y, each to unit length; A: the varied attributes' Gram at the seed

l draws the line between what is held and what is free. A direction of y that moves r by much more than sqrt(l) is held: corrections
use it, steps leave it alone. One that moves r by much less is free: a correction does not go far for little, and a step may take it.
(With hard null spaces by explained variance, a wide attribute is either left to move by many tolerances, or holds everything.)
Without A y, up the slope of what should vary, v loses itself in turns: level sets of class scores bend within a tenth of a spread.

Every evaluation of r also tells how r changed along the last move, and Broyden's rank-one update, J <- J + (dr - J dy) dy^T / |dy|^2,
takes that in: an iteration costs one forward pass. Where one correction was not enough, a vector-Jacobian product with what it left
corrects the row of J that matters (the adjoint update). The curvature of the level set makes a prediction miss by about s^2, so each
sub-step's length is chosen by how far the one before came out; one that does not come back within the tolerances is tried again,
shorter, and at last with J measured anew in the directions that are held. Waypoint j lies at arc length j h whatever the sub-steps.
Where a trajectory meets the border of what is plausible, it goes on along it.

All trajectories of a shard are one pool in which each has exactly one point to evaluate; those that have ended leave it, so that
no batch carries idle rows. The course of a trajectory depends on no other.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from reds_core.trajectories.trajectory import SHORTEST_PROJECTION, Trajectories
from reds_core.types import Reason

# Points y (n, k) of the trajectories (n,) -> the residual r (n, m); the largest |r_i| of any held attribute (n,): 1 is at its
# tolerance, NaN could not be measured; and the images (n, ...) as bytes. r may be compressed to what a correction can reach;
# the largest |r_i| may not.
Residual = Callable[[Tensor, Tensor], tuple[Tensor, Tensor, Tensor]]

# Points y (n, k) of the trajectories (n,) and cotangents (n, m) -> J^T c there, (n, k).
Pull = Callable[[Tensor, Tensor, Tensor], Tensor]

# Points y (n, k) of the trajectories (n,) -> the plausible points nearest to them (n, k).
Inside = Callable[[Tensor, Tensor], Tensor]

# Points y (n, k) of the trajectories (n,) -> unit normals (n, k), outward, of those on the border of what is plausible, else 0.
Outward = Callable[[Tensor, Tensor], Tensor]

ENOUGH = 0.8  # of a tolerance: what an image loses when it is rounded to 8 bits must still fit
AIM = 0.6  # tolerances: where a sub-step's prediction should come out
FAR = 4.0  # tolerances: a prediction this far out is made again nearer, not corrected
MOST_CORRECTIONS = 4
ROUNDING = 1e-6  # of the distance between waypoints: of sums of sub-steps
SHORTEST = 1 / 16  # of the distance between waypoints: the shortest sub-step
MOST_REFRESHES = 1  # between two waypoints
DAMPING = 0.1  # l, in (tolerances per unit of y)^2; y is in standard deviations of sampled latents


@dataclass(frozen=True)
class Held:
    """What is held along trajectories.

    `varied` (t, k, k) is A, None if the direction is not chosen by what varies. `scale` (k,) is the latent length of a unit of each
    coordinate, `difference` the share of a sub-step over which J is measured.
    """

    residual: Residual
    pull: Pull | None
    inside: Inside
    outward: Outward
    varied: Tensor | None
    scale: Tensor
    difference: float

    def length(self, moves: Tensor) -> Tensor:
        """Of moves (n, k) in coordinates, in latent units: (n,)."""
        length: Tensor = torch.linalg.vector_norm(moves * self.scale, dim=1)
        return length

    def unit(self, moves: Tensor) -> Tensor:
        """Moves (n, k) to unit length; 0 stays 0."""
        return moves / self.length(moves).clamp_min(torch.finfo(moves.dtype).tiny)[:, None]


@dataclass
class _Pool:
    """The trajectories under way, a row each: where each one holds, and the sub-step that it is trying from there."""

    index: Tensor  # which trajectory
    base: Tensor  # the last point that holds, (n, k)
    base_r: Tensor
    base_j: Tensor  # J there, (n, m, k)
    direction: Tensor  # v there
    done: Tensor  # arc length of `base`
    size: Tensor  # of the sub-step
    trial: Tensor  # the point to evaluate next
    jacobian: Tensor  # J on the way to it
    last: Tensor  # the point evaluated before, and its residual: the secant
    last_r: Tensor
    worst: Tensor  # the largest |r_i| there
    corrections: Tensor
    predicted: Tensor  # the largest |r_i| where the sub-step's prediction came out
    refreshes: Tensor  # since the last waypoint


def corrected(first: Tensor, jacobian: Tensor, held: Held, step: float, waypoints: int) -> Trajectories:
    """Walks from y = 0 along `first`, on the level set r = 0 to within the tolerances.

    Args:
        first: directions (t, k), each in its seed's null space; their lengths do not matter.
        jacobian: (t, m, k) of the residual at y = 0.
        step, waypoints: the distance between waypoints in latent units, and their number.

    Returns:
        Trajectories in tangent coordinates; `ended` is `step_underflow`, `implausible`, `turned` or `not_finite`.
    """
    t, k = first.shape
    walk = Trajectories(first.new_zeros(t, waypoints, k), [0] * t, [""] * t)
    first, jacobian = held.unit(first.double()), jacobian.double()
    zero, still, none = first.new_zeros(t), torch.zeros_like(first), first.new_zeros(t, jacobian.shape[1])
    pool = _Pool(
        index=torch.arange(t, device=first.device), base=still, base_r=none, base_j=jacobian,
        direction=first, done=zero, size=zero + step, trial=still,
        jacobian=jacobian, last=still, last_r=none, worst=zero, corrections=zero, predicted=zero, refreshes=zero,
    )  # fmt: skip
    _predict(pool, zero == 0, held)
    while len(pool.index):
        r, worst, images = held.residual(pool.trial, pool.index)
        r, worst = r.double(), worst.double()
        finite = torch.isfinite(worst)
        arrived = finite & (worst <= ENOUGH)
        predicted = pool.corrections == 0
        pool.predicted = torch.where(predicted, worst, pool.predicted)
        far = worst > torch.where(predicted, FAR, pool.worst)
        failed = ~arrived & (~finite | far | (pool.corrections >= MOST_CORRECTIONS))
        going = ~arrived & ~failed
        _learn(pool, r, finite)
        _pull(pool, r, going & ~predicted, held)
        _correct(pool, r, worst, going, held)
        stuck = _arrive(pool, r, arrived, step, held)
        short = _shorten(pool, failed, finite & predicted, step)
        renewed = short & (pool.refreshes < MOST_REFRESHES)
        _refresh(pool, renewed, held, step)
        lost, beyond = _turn(pool, arrived | renewed, held)
        _predict(pool, arrived | failed, held)
        # The host waits for the device here, for all at once, and where `_pull` and `_refresh` ask which rows are theirs.
        facts = torch.stack(
            [pool.index, _waypoint(pool, arrived, step), short & ~renewed, lost, finite, beyond | stuck], 1
        ).tolist()
        _note(walk, pool, images, facts)
        pool = _going(walk, pool, facts)
    return walk


def back(jacobian: Tensor, r: Tensor) -> Tensor:
    """The damped Newton moves (n, k, q) that take changes r (n, m, q) away."""
    m, k = jacobian.shape[1:]
    # (J^T J + l)^-1 J^T = J^T (J J^T + l)^-1: whichever is smaller.
    a = jacobian.mT @ jacobian if k <= m else jacobian @ jacobian.mT
    a = a + DAMPING * torch.eye(min(m, k), dtype=a.dtype, device=a.device)
    solved: Tensor = torch.linalg.solve(a, jacobian.mT @ r) if k <= m else jacobian.mT @ torch.linalg.solve(a, r)
    return -solved


def _back(jacobian: Tensor, r: Tensor) -> Tensor:
    """`back` of one change each, (n, m)."""
    return back(jacobian, r[:, :, None]).squeeze(2)


def _learn(pool: _Pool, r: Tensor, finite: Tensor) -> None:
    """Broyden's update of every Jacobian by the secant from the last point to this one."""
    move = pool.trial - pool.last
    length = move.square().sum(1)
    usable = finite & (length > 0)
    missed = r - pool.last_r - (pool.jacobian @ move[:, :, None]).squeeze(2)
    update = missed[:, :, None] * (move / torch.where(usable, length, 1.0)[:, None])[:, None, :]
    pool.jacobian = pool.jacobian + torch.where(usable[:, None, None], update, 0.0)


def _pull(pool: _Pool, r: Tensor, which: Tensor, held: Held) -> None:
    """The adjoint update: what a correction could not take away, r, says which row of J is worth a vector-Jacobian product.

    A secant is one column of J; where J changes from step to step, a product with the residual tells more: the steepest way down.
    (Adjoint Broyden: Schlenkrich, Griewank, Walther 2010.)
    """
    rows = which.nonzero().squeeze(1)
    if held.pull is None or not len(rows):
        return
    unit = torch.nn.functional.normalize(r[rows], dim=1)
    missed = held.pull(pool.trial[rows], pool.index[rows], unit) - (pool.jacobian[rows].mT @ unit[:, :, None]).squeeze(2)
    pool.jacobian[rows] += torch.where(torch.isfinite(missed).all(1)[:, None, None], unit[:, :, None] * missed[:, None, :], 0.0)


def _correct(pool: _Pool, r: Tensor, worst: Tensor, going: Tensor, held: Held) -> None:
    """The next trial of those that are still on their way back."""
    move = _back(pool.jacobian, torch.where(going[:, None], r, 0.0))
    along = pool.direction / torch.linalg.vector_norm(pool.direction, dim=1, keepdim=True)
    move = move - along * (along * move).sum(1, keepdim=True)
    # No further than the step itself: beyond that the Jacobian says nothing.
    move = move * (pool.size / torch.maximum(held.length(move), pool.size))[:, None]
    here = going[:, None]
    pool.last, pool.last_r = torch.where(here, pool.trial, pool.last), torch.where(here, r, pool.last_r)
    pool.trial = torch.where(here, held.inside(pool.trial + move, pool.index), pool.trial)
    pool.worst = torch.where(going, worst, pool.worst)
    pool.corrections = pool.corrections + going


def _arrive(pool: _Pool, r: Tensor, arrived: Tensor, step: float, held: Held) -> Tensor:
    """Makes the trial of those that arrived their base, and chooses the length of their next sub-step. Marks those that got nowhere."""
    on_border = held.outward(pool.trial, pool.index).any(1)
    moved = torch.where(on_border, torch.minimum(held.length(pool.trial - pool.base), pool.size), pool.size)
    stuck: Tensor = arrived & (moved < SHORTEST * pool.size)
    here, there = arrived[:, None], arrived[:, None, None]
    pool.base, pool.base_r = torch.where(here, pool.trial, pool.base), torch.where(here, r, pool.base_r)
    pool.base_j = torch.where(there, pool.jacobian, pool.base_j)
    pool.done = torch.where(arrived, pool.done + moved, pool.done)
    left = _left(pool, step)
    pool.refreshes = torch.where(arrived & (left > step * (1 - 2 * ROUNDING)), 0, pool.refreshes)
    aimed = (AIM / pool.predicted.clamp_min(AIM / 4)).sqrt().clamp_min(0.5) * pool.size
    # Equal sub-steps to the waypoint: a short last one would say little about how long the next may be.
    parts = (left / aimed.clamp_min(step * SHORTEST) - 0.1).ceil().clamp_min(1)
    pool.size = torch.where(arrived, left / parts, pool.size)
    return stuck


def _left(pool: _Pool, step: float) -> Tensor:
    """Arc length to the next waypoint."""
    return step * ((pool.done / step + ROUNDING).floor() + 1) - pool.done


def _shorten(pool: _Pool, failed: Tensor, aimed: Tensor, step: float) -> Tensor:
    """Shortens the sub-steps of those that failed, by how far their prediction came out; marks those that are too short now."""
    share = torch.where(aimed, (AIM / pool.predicted).sqrt().clamp(0.25, 0.7), 0.5)
    pool.size = torch.where(failed, share * pool.size, pool.size)
    return failed & (pool.size < step * SHORTEST)


def _refresh(pool: _Pool, which: Tensor, held: Held, step: float) -> None:
    """Measures J anew where those that are marked hold, by differences along the directions that are held, for half a step.

    What J does elsewhere matters to no correction, and along the trajectory it has just been learnt.
    """
    rows = which.nonzero().squeeze(1)
    if not len(rows):
        return
    pool.refreshes = pool.refreshes + which
    pool.size = torch.where(which, _left(pool, step).clamp(max=step / 2), pool.size)
    j = pool.base_j[rows]
    singular, axes = torch.linalg.svd(j, full_matrices=False)[1:]
    meant = singular.square() >= DAMPING
    q = max(1, int(meant.sum(1).max()))
    meant, axes = meant[:, :q], axes[:, :q]
    h = held.difference * pool.size[rows] * torch.linalg.vector_norm(pool.direction[rows], dim=1)
    moved = (pool.base[rows][:, None] + h[:, None, None] * axes)[meant]
    owner = meant.nonzero()[:, 0]
    found = torch.zeros(len(rows), q, j.shape[1], dtype=j.dtype, device=j.device)
    found[meant] = (held.residual(moved, pool.index[rows][owner])[0].double() - pool.base_r[rows][owner]) / h[owner][:, None]
    # Where nothing could be measured, what was learnt stays.
    known = meant[:, None, :] & torch.isfinite(found.mT)
    pool.base_j[rows] += torch.where(known, found.mT - j @ axes.mT, 0.0) @ axes


def _turn(pool: _Pool, which: Tensor, held: Held) -> tuple[Tensor, Tensor]:
    """Turns the direction up the slope of what varies, out of what J holds, and along the border of what is plausible.

    Marks those of which too little is left: all of them, and those that point beyond the border.
    """
    v = pool.direction
    if held.varied is not None:
        v = held.unit(v + held.unit((held.varied[pool.index] @ pool.base[:, :, None]).squeeze(2)))
    normal = held.outward(pool.base, pool.index)
    along = v - normal * (normal * v).sum(1, keepdim=True).clamp_min(0)
    turned = along + _back(pool.base_j, (pool.base_j @ along[:, :, None]).squeeze(2))
    least = SHORTEST_PROJECTION * torch.linalg.vector_norm(v, dim=1)
    beyond: Tensor = which & (torch.linalg.vector_norm(along, dim=1) < least)
    lost: Tensor = which & (torch.linalg.vector_norm(turned, dim=1) < least)
    pool.direction = torch.where(which[:, None], held.unit(turned), pool.direction)
    return lost, beyond


def _predict(pool: _Pool, which: Tensor, held: Held) -> None:
    """The first trial of a sub-step."""
    here, there = which[:, None], which[:, None, None]
    pool.last, pool.last_r = torch.where(here, pool.base, pool.last), torch.where(here, pool.base_r, pool.last_r)
    pool.jacobian = torch.where(there, pool.base_j, pool.jacobian)
    ahead = pool.size[:, None] * pool.direction + _back(pool.base_j, pool.base_r)
    pool.trial = torch.where(here, held.inside(pool.base + ahead, pool.index), pool.trial)
    pool.worst = torch.where(which, torch.inf, pool.worst)
    pool.corrections = torch.where(which, 0, pool.corrections)


def _waypoint(pool: _Pool, arrived: Tensor, step: float) -> Tensor:
    """The number of the waypoint that each trajectory arrived at, or 0 between two: (n,)."""
    at = pool.done / step
    return torch.where(arrived & ((at - at.round()).abs() < ROUNDING), at.round(), 0).long()


def _note(walk: Trajectories, pool: _Pool, images: Tensor, facts: list[list[int]]) -> None:
    """Notes the waypoints among the points that arrived."""
    if walk.images is None:
        walk.images = images.new_zeros(*walk.latents.shape[:2], *images.shape[1:])
    for row, (t, waypoint, *_) in enumerate(facts):
        if waypoint:
            walk.latents[t, waypoint - 1] = pool.base[row].to(walk.latents.dtype)
            walk.images[t, waypoint - 1] = images[row]
            walk.reached[t] = waypoint


def _going(walk: Trajectories, pool: _Pool, facts: list[list[int]]) -> _Pool:
    """The pool without the trajectories that have ended or come to their last waypoint."""
    keep = []
    for t, _, short, lost, finite, beyond in facts:
        done = walk.reached[t] == walk.latents.shape[1]
        reason: Reason = ""
        if short:
            reason = "step_underflow" if finite else "not_finite"
        elif beyond or lost:
            reason = "implausible" if beyond else "turned"
        walk.ended[t] = "" if done else reason
        keep.append(not reason and not done)
    if all(keep):
        return pool
    mask = torch.tensor(keep, device=pool.index.device)
    return _Pool(**{name: value[mask] for name, value in vars(pool).items()})
