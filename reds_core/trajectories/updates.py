r"""How the Jacobians of corrected trajectories are updated on the way.

    learn     J <- J + (dr - J dy) dy^T / |dy|^2     Broyden's update by the last move: free, since both ends are evaluated anyway
    pull      J <- J + u (J*^T u - J^T u)^T          the adjoint update by what a correction left, u = r / |r|: one reverse pass
    refresh   J <- J + (J* - J) Q Q^T                J* by differences along the directions Q that are held: a forward pass each

J* is the Jacobian of the point in question. A secant says what J does along one move; where J changes from step to step, a product
with the residual says more: the steepest way down. (Adjoint Broyden: Schlenkrich, Griewank and Walther 2010.)
"""

from __future__ import annotations

import torch

from reds_core.trajectories.held import DAMPING, Held
from reds_core.trajectories.pool import Pool, Residual
from reds_core.types import Flags


def learn(pool: Pool, r: Residual, finite: Flags) -> None:
    """Updates every Jacobian by the secant from the last point to this one."""
    move = pool.trial - pool.last
    length = move.square().sum(1)
    usable = finite & (length > 0)
    missed = r - pool.last_r - (pool.jacobian @ move[:, :, None]).squeeze(2)
    update = missed[:, :, None] * (move / torch.where(usable, length, 1.0)[:, None])[:, None, :]
    pool.jacobian = pool.jacobian + torch.where(usable[:, None, None], update, 0.0)


def pull(pool: Pool, r: Residual, which: Flags, held: Held) -> None:
    """Corrects the combination of J's rows that matters: what a correction left says which one is worth a product."""
    rows = which.nonzero().squeeze(1)
    if held.pull is None or not len(rows):
        return
    unit = torch.nn.functional.normalize(r[rows], dim=1)
    missed = held.pull(pool.trial[rows], pool.index[rows], unit) - (pool.jacobian[rows].mT @ unit[:, :, None]).squeeze(2)
    pool.jacobian[rows] += torch.where(torch.isfinite(missed).all(1)[:, None, None], unit[:, :, None] * missed[:, None, :], 0.0)


def refresh(pool: Pool, which: Flags, held: Held, step: float) -> None:
    """Measures J anew at the base of those that are marked, along the directions that are held.

    They try again with at most half the distance between waypoints. What J does in other directions matters to no correction, and
    along the trajectory it has just been learnt.
    """
    rows = which.nonzero().squeeze(1)
    if not len(rows):
        return
    pool.refreshes = pool.refreshes + which
    pool.size = torch.where(which, pool.left(step).clamp(max=step / 2), pool.size)
    j = pool.base_j[rows]
    singular, axes = torch.linalg.svd(j, full_matrices=False)[1:]
    meant = singular.square() >= DAMPING
    q = max(1, int(meant.sum(1).max()))
    meant, axes = meant[:, :q], axes[:, :q]
    h = held.difference * pool.size[rows] * torch.linalg.vector_norm(pool.direction[rows], dim=1)
    moved = (pool.base[rows][:, None] + h[:, None, None] * axes)[meant]
    owner = meant.nonzero()[:, 0]
    found = torch.zeros(len(rows), q, j.shape[1], dtype=j.dtype, device=j.device)
    r, _, _ = held.residual(moved, pool.index[rows][owner])
    found[meant] = (r.double() - pool.base_r[rows][owner]) / h[owner][:, None]
    # Where nothing could be measured, what was learnt stays.
    known = meant[:, None, :] & torch.isfinite(found.mT)
    pool.base_j[rows] += torch.where(known, found.mT - j @ axes.mT, 0.0) @ axes
