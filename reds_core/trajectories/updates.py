r"""How the Jacobians of corrected trajectories are updated on the way.

    learn     J <- J + (dr - J dy) dy^T / |dy|^2     Broyden's update by the last move: free, since both ends are evaluated anyway
    pull      J <- J + u (J*^T u - J^T u)^T          the adjoint update by what J had not foretold, u = e / |e|: one reverse pass
    refresh   J <- J*, row by row                    where rows are few: a reverse pass each
              J <- J + (J* - J) Q Q^T                else by differences along the directions Q that are held: a forward pass each

J* is the Jacobian of the point in question. A secant says what J does along one move. What it had not foretold of the move, e, says
which combination of J's rows has changed most, and a product gives all of that one: on networks full of kinks the level set turns
with it, and without it trajectories wind back. (Two-sided rank-one updates: Griewank and Walther 2002; adjoint Broyden:
Schlenkrich, Griewank and Walther 2010.)
"""

from __future__ import annotations

import torch
from torch import Tensor

from reds_core.trajectories.held import DAMPING, Held, Points, Residual, ResidualJacobian
from reds_core.trajectories.pool import Pool
from reds_core.types import Flags, Rows

WORTH = 0.3  # tolerances: an evaluation that J foretold better than that is not worth a product


def missed(pool: Pool, r: Residual, at: slice = slice(None)) -> Residual:
    """Returns what J had not foretold of the residuals of some trials."""
    move = (pool.trial[at] - pool.last[at])[:, :, None]
    return r - pool.last_r[at] - (pool.jacobian[at] @ move).squeeze(2)


def of_levels(missed: Residual, held: Held) -> Residual:
    """Returns the part that products may mend.

    The row of a decision is the slope of one number. Products at every sub-step would cost more than they give.
    """
    return torch.cat([missed[:, : held.levels], torch.zeros_like(missed[:, held.levels :])], 1)


def worth(missed: Residual) -> Flags:
    """Returns which trials are worth a product."""
    worth: Tensor = torch.linalg.vector_norm(missed, dim=1) > WORTH
    return worth


def learn(pool: Pool, missed: Residual, finite: Flags) -> None:
    """Updates every Jacobian by the secant from the last point to this one, of which it had not foretold `missed`."""
    pool.jacobian = pool.jacobian + secant(pool.trial - pool.last, missed, finite)


def secant(move: Points, missed: Residual, finite: Flags) -> ResidualJacobian:
    """Returns what moves teach of J, which had not foretold `missed` of them: 0 for none, and for one whose end is not finite."""
    length = move.square().sum(1)
    usable = finite & (length > 0)
    update = missed[:, :, None] * (move / torch.where(usable, length, 1.0)[:, None])[:, None, :]
    return torch.where(usable[:, None, None], update, 0.0)


def pull(pool: Pool, missed: Residual, products: Points | None, which: Flags, held: Held) -> None:
    """Corrects the combination of J's rows that was furthest off: what J had not foretold says which one that is.

    `products` are those of the trials, if they came with the residuals.
    """
    rows = which.nonzero().squeeze(1)
    if held.pull is None or not len(rows):
        return
    unit = torch.nn.functional.normalize(missed[rows], dim=1)
    pulled = held.pull(pool.trial[rows], pool.index[rows], unit[:, None]).squeeze(1) if products is None else products[rows]
    off = pulled - (pool.jacobian[rows].mT @ unit[:, :, None]).squeeze(2)
    pool.jacobian[rows] += torch.where(torch.isfinite(off).all(1)[:, None, None], unit[:, :, None] * off[:, None, :], 0.0)


def refresh(pool: Pool, which: Flags, held: Held) -> None:
    """Measures J anew at the base of those that are marked.

    What is held by products gets its rows one by one; the rest is measured along the directions that are held. What J does in other
    directions matters to no correction, and along the trajectory it has just been learnt.
    """
    rows = which.nonzero().squeeze(1)
    if not len(rows):
        return
    pool.refreshes = pool.refreshes + which
    _by_products(pool, rows, held)
    if len(held.exact) < pool.base_j.shape[1]:
        _by_differences(pool, rows, held)


def _by_products(pool: Pool, rows: Rows, held: Held) -> None:
    """Measures the rows of J that are few enough at bases, by a product each."""
    exact = list(held.exact)
    if held.pull is None or not exact:
        return
    each = torch.eye(pool.base_j.shape[1], dtype=pool.base_j.dtype, device=rows.device)[exact]
    found = held.pull(pool.base[rows], pool.index[rows], each.expand(len(rows), -1, -1))
    before = pool.base_j[rows][:, exact]
    known = torch.isfinite(found).all(2, keepdim=True)
    pool.base_j[rows[:, None], torch.tensor(exact, device=rows.device)] = torch.where(known, found, before)


def _by_differences(pool: Pool, rows: Rows, held: Held) -> None:
    """Measures J at bases along the directions that are held, but for the rows that products have measured."""
    j = pool.base_j[rows]
    singular, axes = torch.linalg.svd(j, full_matrices=False)[1:]
    meant = singular.square() >= DAMPING
    q = max(1, int(meant.sum(1).max()))
    meant, axes = meant[:, :q], axes[:, :q]
    h = held.difference * pool.size[rows] * torch.linalg.vector_norm(pool.direction[rows], dim=1)
    moved = (pool.base[rows][:, None] + h[:, None, None] * axes)[meant]
    owner = meant.nonzero()[:, 0]
    found = torch.zeros(len(rows), q, j.shape[1], dtype=j.dtype, device=j.device)
    r = held.residual(moved, pool.index[rows][owner], None).r
    found[meant] = (r.double() - pool.base_r[rows][owner]) / h[owner][:, None]
    # Where nothing could be measured, what was learnt stays.
    known = meant[:, None, :] & torch.isfinite(found.mT)
    known[:, list(held.exact)] = False
    pool.base_j[rows] += torch.where(known, found.mT - j @ axes.mT, 0.0) @ axes
