"""TODO."""

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


def axes(deviations: Latents) -> Tensor:
    """All latent axes: (1, d, d)."""
    return torch.eye(deviations.shape[1], dtype=deviations.dtype, device=deviations.device)[None]
