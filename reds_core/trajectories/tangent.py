"""Where a corrected trajectory may go: coordinates y around every seed, z = z_seed + B y, and how far out is still plausible.

    components   in W: the leading principal components of mapped latents, each in units of its standard deviation, so that steps
                 stay where the generator was trained, and what is rare there is far away
    axes         the latent axes, if they are few
    jacobian     in a large isotropic space, which has no principal components: whatever the seed's image reacts to, which is the
                 range of its transposed Jacobian, found with random cotangents (`Evaluator.pullbacks`)

In W+ sampled latents have equal rows, so their components would move all layers alike. There, every row has components of its own,
and the range of the Jacobian is taken in them: steps move layers apart, each by as much as its row varies.

A point is plausible within the radius, in these coordinates from the mean, that holds 99.9 % of sampled latents, or the seed's own
radius if that is larger.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from reds_core.directions.cloud import BORDER, MOST_COMPONENTS, PLAUSIBLE_SHARE, Deviations, components
from reds_core.types import Latents, Rows

COTANGENTS = 24  # of every attribute, for the basis of a seed in a large isotropic space


@dataclass(frozen=True)
class Tangent:
    """The coordinates of n seeds, each with its own latent as the origin.

    Methods take the coordinates y of any number of points, and in `rows` the seed that each belongs to.
    """

    origin: Latents
    basis: Float[Tensor, "n d k"]  # orthogonal columns
    scale: Float64[Tensor, " k"]  # their lengths
    centre: Float64[Tensor, "n k"]  # the seed's own coordinates from the mean
    radius: Float64[Tensor, " n"]

    def latents(self, y: Float[Tensor, "n k"], rows: Rows) -> Latents:
        """Returns the latents of points."""
        return self.origin[rows] + (self.basis[rows] @ y.to(self.origin.dtype)[:, :, None]).squeeze(2)

    def inside(self, y: Float64[Tensor, "n k"], rows: Rows) -> Float64[Tensor, "n k"]:
        """Returns the plausible points nearest to these."""
        out, share = self._out(y, rows)
        return torch.where(share > 1, out / share - self.centre[rows], y)

    def outward(self, y: Float64[Tensor, "n k"], rows: Rows) -> Float64[Tensor, "n k"]:
        """Returns unit normals, outward, at points on the border of what is plausible, or beyond it; else 0."""
        out, share = self._out(y, rows)
        return torch.where(share > 1 - BORDER, torch.nn.functional.normalize(out, dim=1), 0.0)

    def _out(self, y: Float64[Tensor, "n k"], rows: Rows) -> tuple[Float64[Tensor, "n k"], Float64[Tensor, "n 1"]]:
        """Returns coordinates from the mean, and their length as a share of the radius."""
        out = y + self.centre[rows]
        return out, torch.linalg.vector_norm(out, dim=1, keepdim=True) / self.radius[rows][:, None]


def tangent_at(origin: Latents, means: Latents, basis: Float[Tensor, "#n d k"], deviations: Deviations) -> Tangent:
    """Returns coordinates at latents that lie around `means`, by a basis for each or one for all, with sampled `deviations`."""
    n = len(origin)
    columns = basis.double()
    squares = columns.square().sum(1, keepdim=True)
    dual = columns / squares  # basis^T's pseudo-inverse: the columns are orthogonal
    spread = torch.linalg.vector_norm(deviations.double() @ dual, dim=2)  # (n | 1, s)
    centre = ((origin - means).double()[:, None] @ dual).squeeze(1)
    own = torch.linalg.vector_norm(centre, dim=1)
    radius = torch.maximum(spread.quantile(PLAUSIBLE_SHARE, dim=1).expand(n), own * (1 + 1e-6))
    return Tangent(origin, basis.expand(n, -1, -1), squares[0, 0].sqrt(), centre, radius)


def jacobian_range(pulled: Float[Tensor, "n d m"], deviations: Deviations, rows: int) -> Float[Tensor, "n d k"]:
    """Returns orthogonal columns that span J^T c for m cotangents c; in W+ of `rows` rows, in the components of each row."""
    if rows == 1:
        columns: Tensor = torch.linalg.qr(pulled.double())[0]
        return columns.to(pulled.dtype)
    own = [components(part, MOST_COMPONENTS)[0].double() for part in deviations.chunk(rows, 1)]
    parts = pulled.double().chunk(rows, 1)
    inner = torch.linalg.qr(torch.cat([p.mT @ part for p, part in zip(own, parts, strict=True)], 1))[0]
    back = inner.split([p.shape[1] for p in own], 1)
    left, lengths, _ = torch.linalg.svd(torch.cat([p @ part for p, part in zip(own, back, strict=True)], 1), full_matrices=False)
    # One length for each column of all seeds: a unit of a coordinate is the same step for everyone.
    spanning: Tensor = (left * lengths.mean(0)).to(pulled.dtype)
    return spanning
