r"""Where a corrected trajectory may go: coordinates y around every seed, z = z_seed + B y, and how far out is still plausible.

    components   in W, the leading principal components of mapped latents, each in units of its standard deviation: steps stay where
                 the generator was trained, and what is rare there is far away
    axes         the latent axes, where they are few
    jacobian     in a large isotropic space, which has no principal components: what the seed's image reacts to at all, the range of
                 its transposed Jacobian, found with random cotangents (reds_core.variants.level_set)

In W+ sampled latents have equal rows, so that their components would move all layers alike. There, components are those of every row
for itself, and the range of the Jacobian is taken in them: steps move layers apart, each by as much as its row varies.

Where a class is given, latents are taken relative to the mean of their class: what differs between classes is no variation of one.
Plausible is a latent within the radius, in these coordinates, that holds 99.9 % of sampled latents, or the seed's own radius if that
is larger. All of it comes from latents of reference seeds, which cost no image.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from reds_core.directions.cloud import (
    BORDER,
    MOST_COMPONENTS,
    PLAUSIBLE_SHARE,
    components,
)
from reds_core.types import Latents


@dataclass(frozen=True)
class Tangent:
    """The coordinates of n seeds: bases (n, d, k) with orthogonal columns at latents (n, d)."""

    origin: Latents
    basis: Tensor
    scale: Tensor  # (k,): the lengths of the columns
    centre: Tensor  # (n, k): the seed's own coordinates from the mean
    radius: Tensor  # (n,)

    def latents(self, y: Tensor, rows: Tensor) -> Latents:
        """Coordinates (m, k) of the seeds `rows` -> latents (m, d)."""
        return self.origin[rows] + (self.basis[rows] @ y.to(self.origin.dtype)[:, :, None]).squeeze(2)

    def inside(self, y: Tensor, rows: Tensor) -> Tensor:
        """The plausible coordinates nearest to those (m, k) of the seeds `rows`: (m, k)."""
        out, share = self._out(y, rows)
        return torch.where(share > 1, out / share - self.centre[rows], y)

    def outward(self, y: Tensor, rows: Tensor) -> Tensor:
        """Unit normals (m, k), outward, at coordinates (m, k) on the border of what is plausible, or beyond it; else 0."""
        out, share = self._out(y, rows)
        return torch.where(share > 1 - BORDER, torch.nn.functional.normalize(out, dim=1), 0.0)

    def _out(self, y: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Coordinates from the mean (m, k), and how much of the radius they take (m, 1)."""
        out = y + self.centre[rows]
        return out, torch.linalg.vector_norm(out, dim=1, keepdim=True) / self.radius[rows][:, None]


def tangent_at(origin: Latents, means: Latents, basis: Tensor, deviations: Latents) -> Tangent:
    """Coordinates at n latents that lie around `means` (n, d), by bases (n, d, k), or one for all (1, d, k)."""
    n = len(origin)
    columns = basis.double()
    squares = columns.square().sum(1, keepdim=True)
    dual = columns / squares  # basis^T's pseudo-inverse: the columns are orthogonal
    spread = torch.linalg.vector_norm(deviations.double() @ dual, dim=2)  # (n | 1, s)
    centre = ((origin - means).double()[:, None] @ dual).squeeze(1)
    own = torch.linalg.vector_norm(centre, dim=1)
    radius = torch.maximum(spread.quantile(PLAUSIBLE_SHARE, dim=1).expand(n), own * (1 + 1e-6))
    return Tangent(origin, basis.expand(n, -1, -1), squares[0, 0].sqrt(), centre, radius)


def jacobian_range(pulled: Tensor, deviations: Latents, rows: int) -> Tensor:
    """Orthogonal columns (n, d, k) that span J^T c for cotangents c, pulled (n, d, k); in W+ of `rows` rows in their components."""
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
