r"""What corrected trajectories hold, as a residual in tangent coordinates, and the move that takes a change of it away.

    r(y)        the held features' change since the seed, each attribute's divided by its tolerance: |r_i| <= 1 is within it
    J = dr/dy   y are coordinates in a tangent basis B (d, k): z = z_seed + B y
    back(r)     -(J^T J + l I)^-1 J^T r, the damped Newton move

l draws the line between what is held and what is free. A direction of y that moves r by much more than sqrt(l) is held: corrections
use it, steps leave it alone. One that moves r by much less is free: steps may take it, and corrections do not go far along it for
little gain. (Null spaces by explained variance either let a wide attribute move by many tolerances, or hold everything.)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float, Float64, UInt8
from torch import Tensor

from reds_core.types import Rows

DAMPING = 0.1  # l, in (tolerances per unit of y)^2; y is in standard deviations of sampled latents

Points = Float64[Tensor, "n k"]  # tangent coordinates


class Residuals(NamedTuple):
    """The residual r at n points, and what else an evaluation gives.

    r may be compressed to what a correction can reach. `worst` is not: it is the largest |r_i| of any held attribute, 1 at its
    tolerance, NaN if it could not be measured. `images` are those of the points, rounded to bytes.
    """

    r: Float[Tensor, "n m"]
    worst: Float[Tensor, " n"]
    images: UInt8[Tensor, "n ..."]


# Points, and the trajectory that each belongs to -> the residuals there.
ResidualAt = Callable[[Points, Rows], Residuals]

# Points, their trajectories and cotangents c (n, m) -> J^T c there.
Pull = Callable[[Points, Rows, Float64[Tensor, "n m"]], Points]

# Points and their trajectories -> the plausible points nearest to them.
Inside = Callable[[Points, Rows], Points]

# Points and their trajectories -> unit normals, outward, of those on the border of what is plausible, else 0.
Outward = Callable[[Points, Rows], Points]


@dataclass(frozen=True)
class Held:
    """What is held along t trajectories, what should vary, and where they may go.

    Args:
        residual: the change of what is held.
        pull: products with its Jacobian, None where there are none.
        inside, outward: what is plausible.
        varied: A, the Gram of what should vary at the seed; None if that does not choose the direction.
        scale: the latent length of a unit of each coordinate.
        difference: the share of a sub-step over which J is measured.
    """

    residual: ResidualAt
    pull: Pull | None
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


def back_all(jacobian: Float64[Tensor, "n m k"], r: Float64[Tensor, "n m q"]) -> Float64[Tensor, "n k q"]:
    """Returns the damped Newton moves that take q changes r at every point away."""
    m, k = jacobian.shape[1:]
    # (J^T J + l)^-1 J^T = J^T (J J^T + l)^-1: whichever is smaller.
    a = jacobian.mT @ jacobian if k <= m else jacobian @ jacobian.mT
    a = a + DAMPING * torch.eye(min(m, k), dtype=a.dtype, device=a.device)
    solved: Tensor = torch.linalg.solve(a, jacobian.mT @ r) if k <= m else jacobian.mT @ torch.linalg.solve(a, r)
    return -solved


def back(jacobian: Float64[Tensor, "n m k"], r: Float64[Tensor, "n m"]) -> Points:
    """Returns the damped Newton move that takes one change r at every point away."""
    return back_all(jacobian, r[:, :, None]).squeeze(2)
