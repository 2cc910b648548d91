r"""Predictor-corrector trajectories: every waypoint is brought back to what is held.

    r(y)        the held features' change since the seed, each attribute's divided by its tolerance: |r_i| <= 1 is within it
    J = dr/dy   y are coordinates in a tangent basis P (d, k): z = z_seed + P y
    Q           held space: the top eigenvectors of every attribute's J_i^T J_i (as in reds_core.directions), orthonormalised

    back(r)     -Q (M^T M + l I)^-1 M^T r,  M = J Q              damped Newton; in Q alone, since anything else undoes the step
    predict     y <- y + s v + back(r)                           r: what the last sub-step left
    correct     y <- y + back(r)
    transport   v <- v + back(J v), to unit length

Every evaluation of r also tells how r changed along the last move, and Broyden's rank-one update, J <- J + (dr - J dy) dy^T / |dy|^2,
takes that in: an iteration costs one forward pass. The curvature of the level set makes a prediction miss by about s^2, so each
sub-step's length is chosen by how far the one before came out; one that does not come back within the tolerances is tried again,
shorter, and at last with J Q measured anew. Waypoint j lies at arc length j h whatever the sub-steps.

All trajectories of a shard are one pool in which each has exactly one point to evaluate; those that have ended leave it, so that
no batch carries idle rows. The course of a trajectory depends on no other.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from reds_core.directions import SAME_DIRECTION
from reds_core.trajectory import SHORTEST_PROJECTION, Trajectories
from reds_core.types import Reason

# Points y (n, k) of the trajectories (n,) -> the residual r (n, m); the largest |r_i| of any held attribute (n,): 1 is at its
# tolerance, NaN could not be measured; and the images (n, ...) as bytes. r may be compressed to what a correction can reach;
# the largest |r_i| may not.
Residual = Callable[[Tensor, Tensor], tuple[Tensor, Tensor, Tensor]]

# Points y (n, k) of the trajectories (n,) -> which of them are plausible (n,).
Plausible = Callable[[Tensor, Tensor], Tensor]

ENOUGH = 0.8  # of a tolerance: what an image loses when it is rounded to 8 bits must still fit
AIM = 0.7  # tolerances: where a sub-step's prediction should come out
FAR = 4.0  # tolerances: a prediction this far out is made again nearer, not corrected
MOST_CORRECTIONS = 4
ROUNDING = 1e-6  # of the distance between waypoints: of sums of sub-steps
SHORTEST = 1 / 8  # of the distance between waypoints: the shortest sub-step
MOST_REFRESHES = 1  # between two waypoints
DAMPING = 0.3  # (tolerances per unit of y)^2: what moves r by less is no use to a correction, and no harm to a step


@dataclass(frozen=True)
class Held:
    """What is held along trajectories.

    `sizes` are the numbers that each attribute has in r, `betas` the shares of their squared eigenvalues that are held. `scale` (k,)
    is the latent length of a unit of each coordinate. `difference` is the share of a sub-step over which J Q is measured.
    """

    residual: Residual
    plausible: Plausible
    sizes: list[int]
    betas: list[float]
    scale: Tensor
    difference: float

    def length(self, moves: Tensor) -> Tensor:
        """Of moves (n, k) in coordinates, in latent units: (n,)."""
        length: Tensor = torch.linalg.vector_norm(moves * self.scale, dim=1)
        return length


@dataclass
class _Pool:
    """The trajectories under way, a row each: where each one holds, and the sub-step that it is trying from there."""

    index: Tensor  # which trajectory
    base: Tensor  # the last point that holds, (n, k)
    base_r: Tensor
    base_j: Tensor  # J there, (n, m, k)
    space: Tensor  # Q there, (n, k, q)
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
    first, jacobian = first.double() / held.length(first.double())[:, None], jacobian.double()
    zero, still, none = first.new_zeros(t), torch.zeros_like(first), first.new_zeros(t, jacobian.shape[1])
    pool = _Pool(
        index=torch.arange(t, device=first.device), base=still, base_r=none, base_j=jacobian,
        space=held_space(jacobian, held.sizes, held.betas), direction=first, done=zero, size=zero + step, trial=still,
        jacobian=jacobian, last=still, last_r=none, worst=zero, corrections=zero, predicted=zero, refreshes=zero,
    )  # fmt: skip
    _predict(pool, zero == 0)
    while len(pool.index):
        r, worst, images = held.residual(pool.trial, pool.index)
        r, worst = r.double(), worst.double()
        finite = torch.isfinite(worst)
        usable = finite & held.plausible(pool.trial, pool.index)
        arrived = usable & (worst <= ENOUGH)
        predicted = pool.corrections == 0
        pool.predicted = torch.where(predicted, worst, pool.predicted)
        far = worst > torch.where(predicted, FAR, pool.worst)
        failed = ~arrived & (~usable | far | (pool.corrections >= MOST_CORRECTIONS))
        _learn(pool, r, finite)
        _correct(pool, r, worst, ~arrived & ~failed, held)
        _arrive(pool, r, arrived, step)
        short = _shorten(pool, failed, usable & predicted, step)
        renewed = short & (pool.refreshes < MOST_REFRESHES)
        _refresh(pool, renewed, held, step)
        lost = _turn(pool, arrived | renewed, held)
        _predict(pool, arrived | failed)
        flags = torch.stack([arrived, short & ~renewed, lost, finite, usable]).tolist()
        _note(walk, pool, images, flags[0], step)
        pool = _going(walk, pool, [_reason(*row) for row in zip(*flags[1:], strict=True)])
    return walk


def held_space(jacobian: Tensor, sizes: list[int], betas: list[float]) -> Tensor:
    """Orthonormal columns (t, k, q) that span where the held attributes move; zero columns where a trajectory has fewer.

    Args:
        jacobian: (t, m, k), the rows of all attributes one after another, `sizes` of each.
        betas: per attribute, the share of its squared eigenvalues that is held.
    """
    spans = []
    for j, beta in zip(jacobian.split(sizes, 1), betas, strict=True):
        values, vectors = _right_vectors(j)
        squares = values.square()
        share = squares / squares.sum(1, keepdim=True).clamp_min(torch.finfo(squares.dtype).tiny)
        rank = ((share.cumsum(1) <= beta).sum(1) + 1).clamp(max=values.shape[1])
        meant = torch.arange(values.shape[1], device=j.device) < rank[:, None]
        spans.append((vectors * meant[:, None, :])[:, :, : int(rank.max())])
    if len(spans) == 1:
        return spans[0]
    together = torch.cat(spans, 2)
    return _right_vectors(together.mT)[1][:, :, : together.shape[2]]


def _right_vectors(j: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenvalues (t, s), descending, and eigenvectors (t, k, s) of J^T J for J (t, m, k), by way of its smaller side."""
    _, m, k = j.shape
    if m >= k:
        values, vectors = torch.linalg.eigh(j.mT @ j)
        values, vectors = values.flip(1), vectors.flip(2)
    else:
        values, left = torch.linalg.eigh(j @ j.mT)
        values = values.flip(1).clamp_min(0)
        vectors = j.mT @ left.flip(2) / values.sqrt().clamp_min(torch.finfo(j.dtype).tiny)[:, None, :]
    real = values > SAME_DIRECTION**2 * values[:, :1]
    return torch.where(real, values, 0.0), vectors * real[:, None, :]


def _learn(pool: _Pool, r: Tensor, finite: Tensor) -> None:
    """Broyden's update of every Jacobian by the secant from the last point to this one."""
    move = pool.trial - pool.last
    length = move.square().sum(1)
    usable = finite & (length > 0)
    missed = r - pool.last_r - (pool.jacobian @ move[:, :, None]).squeeze(2)
    update = missed[:, :, None] * (move / torch.where(usable, length, 1.0)[:, None])[:, None, :]
    pool.jacobian = pool.jacobian + torch.where(usable[:, None, None], update, 0.0)


def _correct(pool: _Pool, r: Tensor, worst: Tensor, going: Tensor, held: Held) -> None:
    """The next trial of those that are still on their way back."""
    move = _back(pool.jacobian, pool.space, r)
    # No further than the step itself: beyond that the Jacobian says nothing.
    move = move * (pool.size / torch.maximum(held.length(move), pool.size))[:, None]
    here = going[:, None]
    pool.last, pool.last_r = torch.where(here, pool.trial, pool.last), torch.where(here, r, pool.last_r)
    pool.trial = torch.where(here, pool.trial + move, pool.trial)
    pool.worst = torch.where(going, worst, pool.worst)
    pool.corrections = pool.corrections + going


def _back(jacobian: Tensor, space: Tensor, r: Tensor) -> Tensor:
    """The damped Newton move inside `space` that takes r (n, m) away: (n, k)."""
    m = jacobian @ space
    a = m.mT @ m
    a = a + DAMPING * torch.eye(a.shape[1], dtype=a.dtype, device=a.device)
    inside: Tensor = torch.linalg.solve(a, m.mT @ torch.nan_to_num(r)[:, :, None])
    return -(space @ inside).squeeze(2)


def _arrive(pool: _Pool, r: Tensor, arrived: Tensor, step: float) -> None:
    """Makes the trial of those that arrived their base, and chooses the length of their next sub-step."""
    here, there = arrived[:, None], arrived[:, None, None]
    pool.base, pool.base_r = torch.where(here, pool.trial, pool.base), torch.where(here, r, pool.base_r)
    pool.base_j = torch.where(there, pool.jacobian, pool.base_j)
    pool.done = torch.where(arrived, pool.done + pool.size, pool.done)
    left = _left(pool, step)
    pool.refreshes = torch.where(arrived & (left > step * (1 - 2 * ROUNDING)), 0, pool.refreshes)
    aimed = (AIM / pool.predicted.clamp_min(AIM / 4)).sqrt().clamp_min(0.5) * pool.size
    pool.size = torch.where(arrived, torch.minimum(aimed.clamp_min(step * SHORTEST), left), pool.size)


def _left(pool: _Pool, step: float) -> Tensor:
    """Arc length to the next waypoint."""
    return step * ((pool.done / step + ROUNDING).floor() + 1) - pool.done


def _shorten(pool: _Pool, failed: Tensor, aimed: Tensor, step: float) -> Tensor:
    """Shortens the sub-steps of those that failed, by how far their prediction came out; marks those that are too short now."""
    share = torch.where(aimed, (AIM / pool.predicted).sqrt().clamp(0.25, 0.7), 0.5)
    pool.size = torch.where(failed, share * pool.size, pool.size)
    return failed & (pool.size < step * SHORTEST)


def _refresh(pool: _Pool, which: Tensor, held: Held, step: float) -> None:
    """Measures J Q anew where those that are marked hold, by differences along the columns of Q, for half a step.

    What J does elsewhere matters to no correction, and along the trajectory it has just been learnt.
    """
    rows = which.nonzero().squeeze(1)
    if not len(rows):
        return
    pool.refreshes = pool.refreshes + which
    pool.size = torch.where(which, _left(pool, step).clamp(max=step / 2), pool.size)
    space = pool.space[rows]
    q = space.shape[2]
    h = held.difference * pool.size[rows] * torch.linalg.vector_norm(pool.direction[rows], dim=1)
    moved = (pool.base[rows][:, None] + h[:, None, None] * space.mT).flatten(0, 1)
    r = held.residual(moved, pool.index[rows].repeat_interleave(q))[0].double().unflatten(0, (len(rows), q)).mT
    along = (r - pool.base_r[rows][:, :, None]) / h[:, None, None]
    # Columns of zeros fill up narrower spaces; where nothing could be measured, what was learnt stays.
    known = torch.isfinite(along) & (space.abs().amax(1, keepdim=True) > 0)
    pool.base_j[rows] += torch.where(known, along - pool.base_j[rows] @ space, 0.0) @ space.mT


def _turn(pool: _Pool, which: Tensor, held: Held) -> Tensor:
    """Finds Q anew where J changed and turns the direction out of what J says; marks those of which too little is left."""
    lost = torch.zeros_like(which)
    rows = which.nonzero().squeeze(1)
    if not len(rows):
        return lost
    j, v = pool.base_j[rows], pool.direction[rows]
    q = held_space(j, held.sizes, held.betas)
    turned = v + _back(j, q, (j @ v[:, :, None]).squeeze(2))
    lost[rows] = torch.linalg.vector_norm(turned, dim=1) < SHORTEST_PROJECTION * torch.linalg.vector_norm(v, dim=1)
    pool.direction[rows] = turned / held.length(turned).clamp_min(torch.finfo(v.dtype).tiny)[:, None]
    width = max(q.shape[2], pool.space.shape[2])
    pool.space = torch.nn.functional.pad(pool.space, (0, width - pool.space.shape[2]))
    pool.space[rows] = torch.nn.functional.pad(q, (0, width - q.shape[2]))
    return lost


def _predict(pool: _Pool, which: Tensor) -> None:
    """The first trial of a sub-step."""
    here, there = which[:, None], which[:, None, None]
    pool.last, pool.last_r = torch.where(here, pool.base, pool.last), torch.where(here, pool.base_r, pool.last_r)
    pool.jacobian = torch.where(there, pool.base_j, pool.jacobian)
    ahead = pool.size[:, None] * pool.direction + _back(pool.base_j, pool.space, pool.base_r)
    pool.trial = torch.where(here, pool.base + ahead, pool.trial)
    pool.worst = torch.where(which, torch.inf, pool.worst)
    pool.corrections = torch.where(which, 0, pool.corrections)


def _reason(short: bool, lost: bool, finite: bool, usable: bool) -> Reason:
    """Why a trajectory ends here, or ""."""
    if short:
        return "not_finite" if not finite else "implausible" if not usable else "step_underflow"
    return "turned" if lost else ""


def _note(walk: Trajectories, pool: _Pool, images: Tensor, arrived: list[bool], step: float) -> None:
    """Notes the waypoints among the points that arrived."""
    if walk.images is None:
        walk.images = images.new_zeros(*walk.latents.shape[:2], *images.shape[1:])
    at = pool.done / step
    whole = ((at - at.round()).abs() < ROUNDING).tolist()
    for row, (t, waypoint) in enumerate(zip(pool.index.tolist(), at.round().long().tolist(), strict=True)):
        if arrived[row] and whole[row]:
            walk.latents[t, waypoint - 1] = pool.base[row].to(walk.latents.dtype)
            walk.images[t, waypoint - 1] = images[row]
            walk.reached[t] = waypoint


def _going(walk: Trajectories, pool: _Pool, reasons: list[Reason]) -> _Pool:
    """The pool without the trajectories that have ended or come to their last waypoint."""
    keep = []
    for t, reason in zip(pool.index.tolist(), reasons, strict=True):
        done = walk.reached[t] == walk.latents.shape[1]
        walk.ended[t] = "" if done else reason
        keep.append(not reason and not done)
    if all(keep):
        return pool
    mask = torch.tensor(keep, device=pool.index.device)
    return _Pool(**{name: value[mask] for name, value in vars(pool).items()})
