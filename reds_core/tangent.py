r"""Where a corrected trajectory may go: coordinates y around every seed, z = z_seed + B y, and how far out is still plausible.

    components   in W, the leading principal components of mapped latents, each in units of its standard deviation: steps stay where
                 the generator was trained, and what is rare there is far away
    axes         the latent axes, where they are few
    jacobian     in a large isotropic space, which has no principal components: what the seed's image reacts to at all, the range of
                 its transposed Jacobian, found with random cotangents (reds_core.holding)

In W+ sampled latents have equal rows, so that their components would move all layers alike. There, components are those of every row
for itself, and the range of the Jacobian is taken in them: steps move layers apart, each by as much as its row varies.

Where a class is given, latents are taken relative to the mean of their class: what differs between classes is no variation of one.
Plausible is a latent within the radius, in these coordinates, that holds 99.9 % of sampled latents, or the seed's own radius if that
is larger. All of it comes from latents of reference seeds, which cost no image.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from reds_core.types import Labels, Latents

PLAUSIBLE_SHARE = 0.999
MOST_COMPONENTS = 64
BORDER = 1e-3  # of the radius: this near is on the border
NEGLIGIBLE = 1e-4  # of the largest standard deviation: no component


@dataclass(frozen=True)
class Cloud:
    """How sampled latents lie: the mean of every class that a run uses (c, d), or one for all, and deviations from it (s, d)."""

    means: Latents
    deviations: Latents
    row_of: dict[int, int]  # class -> row of `means`; empty if there is one for all

    def mean(self, conditions: Labels) -> Latents:
        """The mean that latents of these classes (n,) lie around: (n, d)."""
        return self.means[[self.row_of.get(c, 0) for c in conditions.tolist()]]

    def plausible(self, latents: Latents, conditions: Labels, tangent: Tensor | None) -> Tensor:
        """Which latents (n, d) lie within the radius that holds 99.9 % of sampled ones, or on it: (n,).

        In the coordinates of the tangent basis (1, d, k), in which trajectories are kept within it; where every seed has a basis of its
        own, in the leading components.
        """
        basis = (components(self.deviations, MOST_COMPONENTS) if tangent is None else tangent)[0].double()
        dual = basis / basis.square().sum(0)
        radius = torch.linalg.vector_norm(self.deviations.double() @ dual, dim=1).quantile(PLAUSIBLE_SHARE)
        inside: Tensor = torch.linalg.vector_norm((latents - self.mean(conditions)).double() @ dual, dim=1) <= radius * (1 + BORDER)
        return inside


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


def cloud_of(latents: Latents, conditions: Labels, by_class: Sequence[int]) -> Cloud:
    """The distribution of sampled latents (s, d); `by_class` are the classes that have a mean of their own, if any."""
    if not by_class:
        mean = latents.mean(0, keepdim=True)
        return Cloud(mean, latents - mean, {})
    row_of = {c: row for row, c in enumerate(dict.fromkeys(by_class))}
    rows = torch.tensor([row_of[c] for c in conditions.tolist()], device=latents.device)
    counts = rows.bincount(minlength=len(row_of))[:, None]
    means = (
        torch.zeros(len(row_of), latents.shape[1], dtype=latents.dtype, device=latents.device).index_add_(0, rows, latents) / counts
    )
    return Cloud(means, latents - means[rows], row_of)


def components(deviations: Latents, size: int) -> Tensor:
    """The leading principal components of deviations (s, d), each as long as its standard deviation: (1, d, k), k at most `size`."""
    centred = deviations.double() / len(deviations) ** 0.5
    if centred.shape[0] >= centred.shape[1]:
        variances, columns = torch.linalg.eigh(centred.mT @ centred)
    else:
        variances, left = torch.linalg.eigh(centred @ centred.mT)
        columns = torch.nn.functional.normalize(centred.mT @ left, dim=0)
    lengths = variances.flip(0).clamp_min(0).sqrt()
    keep = min(size, int((lengths > NEGLIGIBLE * lengths[0]).sum()))
    leading: Tensor = (columns.flip(1)[:, :keep] * lengths[:keep])[None].to(deviations.dtype)
    return leading


def components_by_row(deviations: Latents, rows: int, size: int) -> Tensor:
    """The leading components of each of the `rows` parts of deviations (s, d), about `size` in all: (1, d, k), a block for every row."""
    blocks: Tensor = torch.block_diag(*(components(part, max(1, size // rows))[0] for part in deviations.chunk(rows, 1)))
    return blocks[None]


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


def axes(deviations: Latents) -> Tensor:
    """All latent axes: (1, d, d)."""
    return torch.eye(deviations.shape[1], dtype=deviations.dtype, device=deviations.device)[None]
