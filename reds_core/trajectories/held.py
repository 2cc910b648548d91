r"""What corrected trajectories hold, as a residual in tangent coordinates, and the move that takes a change of it away.

    r(y)          what is held has changed by this, in tolerances. Rows of two kinds:
                      of a level       r = 0 is the seed's own, |r_i| = 1 an attribute's limit, in any direction
                      of a decision    r <= 0 is well inside, 1 its limit: an inequality, which asks nothing while it is met
    J = dr/dy     y are coordinates in a tangent basis B (d, k): z = z_seed + B y
    back(r)       -(J^T J + l I)^-1 J^T r, the damped Newton move, of the rows of levels
    nearest(x)    of the moves that take r away, the one nearest to x

l draws the line between what is held and what is free. A direction of y that moves r by much more than sqrt(l) is held: corrections
use it, steps leave it alone. One that moves r by much less is free: steps may take it, and corrections do not go far along it for
little gain. (Null spaces by explained variance either let a wide attribute move by many tolerances, or hold everything.)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Float64, UInt8
from torch import Tensor

from reds_core.types import Rows

DAMPING = 0.1  # l, in (tolerances per unit of y)^2; y is in standard deviations of sampled latents
SWEEPS = 30  # over the inequalities, until the nearest move meets them all: each sweep meets them one after another

Points = Float64[Tensor, "n k"]  # tangent coordinates
Residual = Float64[Tensor, "n m"]  # r at a point
ResidualJacobian = Float64[Tensor, "n m k"]


class Residuals(NamedTuple):
    """The residual r at n points, and what else an evaluation gives.

    r may be compressed to what a correction can reach. `worst` is not: it is the largest |r_i| of any held attribute, 1 at its
    tolerance, NaN if it could not be measured. `images` are those of the points, rounded to bytes. `products` are u J for the
    cotangents u that were asked for.
    """

    r: Float[Tensor, "n m"]
    worst: Float[Tensor, " n"]
    images: UInt8[Tensor, "n ..."]
    products: Float64[Tensor, "n k"] | None = None


# The residual at some of the points that are evaluated, and which of them these are -> a cotangent for each.
Asked = Callable[[Residual, slice], Residual]

# Points, the trajectory that each belongs to, and what products are asked for, None for none -> the residuals there.
ResidualAt = Callable[[Points, Rows, Asked | None], Residuals]

# Points, their trajectories and cotangents c (n, q, m) -> c J there (n, q, k).
Pull = Callable[[Points, Rows, Float64[Tensor, "n q m"]], Float64[Tensor, "n q k"]]

# Points and their trajectories -> the plausible points nearest to them.
Inside = Callable[[Points, Rows], Points]

# Points and their trajectories -> unit normals, outward, of those on the border of what is plausible, else 0.
Outward = Callable[[Points, Rows], Points]


@dataclass(frozen=True)
class Held:
    """What is held along t trajectories, what should vary, and where they may go.

    Args:
        residual: the change of what is held.
        levels: how many of the residual's rows are of levels. They come first; the others are of decisions.
        pull: products with its Jacobian, None where there are none.
        exact: which rows of J are few enough to be measured one by one, by products; the others are measured by differences.
        inside, outward: what is plausible.
        varied: A, the Gram of what should vary at the seed; None if that does not choose the direction.
        scale: the latent length of a unit of each coordinate.
        difference: the share of a sub-step over which J is measured.
    """

    residual: ResidualAt
    levels: int
    pull: Pull | None
    exact: Sequence[int]
    inside: Inside
    outward: Outward
    varied: Float64[Tensor, "t k k"] | None
    scale: Float[Tensor, " k"]
    difference: float

    def length(self, moves: Points) -> Float64[Tensor, " n"]:
        """Returns the lengths of moves in coordinates, in latent units."""
        length: Tensor = torch.linalg.vector_norm(moves * self.scale, dim=1)
        return length

    def unit(self, moves: Points) -> Points:
        """Returns moves scaled to unit length; 0 stays 0."""
        return moves / self.length(moves).clamp_min(torch.finfo(moves.dtype).tiny)[:, None]

    def at_limits(self, r: Residual) -> Bool[Tensor, "n q"]:
        """Returns which inequalities each point is at the limit of."""
        return r[:, self.levels :] > 0

    def nearest(self, wanted: Points, jacobian: ResidualJacobian, r: Residual) -> Points:
        """Returns, of the moves that take r away to first order, those nearest to what is wanted.

        Levels are met by damped Newton; inequalities on top of that, by Hildreth's method: each in turn is met by the shortest
        move, and gives back what it no longer needs (Hildreth, Naval Research Logistics Quarterly 1957).
        """
        levels, limits = jacobian[:, : self.levels], jacobian[:, self.levels :]
        move = wanted + back(levels, r[:, : self.levels])
        ways = limits.mT + back_all(levels, levels @ limits.mT)  # (n, k, q): what moves each limit and no level
        squares = (limits.mT * ways).sum(1).clamp_min(0) + DAMPING
        pressure = torch.zeros_like(squares)
        count = squares.shape[1]
        for q in [*range(count)] * (SWEEPS if count > 1 else 1):
            beyond = r[:, self.levels + q] + (limits[:, q] * move).sum(1)
            new = (pressure[:, q] + beyond / squares[:, q]).clamp_min(0)
            move = move - (new - pressure[:, q])[:, None] * ways[:, :, q]
            pressure[:, q] = new
        return move


def back_all(jacobian: Float64[Tensor, "n m k"], r: Float64[Tensor, "n m q"]) -> Float64[Tensor, "n k q"]:
    """Returns the damped Newton moves that take q changes r at every point away."""
    m, k = jacobian.shape[1:]
    if not m:
        return r.new_zeros(len(r), k, r.shape[2])
    # (J^T J + l)^-1 J^T = J^T (J J^T + l)^-1: whichever is smaller.
    a = jacobian.mT @ jacobian if k <= m else jacobian @ jacobian.mT
    a = a + DAMPING * torch.eye(min(m, k), dtype=a.dtype, device=a.device)
    solved: Tensor = torch.linalg.solve(a, jacobian.mT @ r) if k <= m else jacobian.mT @ torch.linalg.solve(a, r)
    return -solved


def back(jacobian: ResidualJacobian, r: Residual) -> Points:
    """Returns the damped Newton move that takes one change r at every point away."""
    return back_all(jacobian, r[:, :, None]).squeeze(2)
