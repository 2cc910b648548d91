"""How sampled latents lie: the mean of each class, the principal components around it, and how far out is still plausible.

    component   a principal axis, as long as the standard deviation along it: a point's coordinates tell how rare it is
    plausible   within the radius, in these coordinates, that holds 99.9 % of sampled latents

Where a class is given, latents are taken relative to the mean of their class: what differs between classes does not vary within.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from reds_core.types import Flags, Labels, Latents

Deviations = Float[Tensor, "s d"]  # of s sampled latents from the mean
Basis = Float[Tensor, "1 d k"]  # orthogonal columns, the same for every point

PLAUSIBLE_SHARE = 0.999  # of sampled latents
MOST_COMPONENTS = 64
BORDER = 1e-3  # of the radius: this near is on the border
NEGLIGIBLE = 1e-4  # of the largest standard deviation: too short for a component


@dataclass(frozen=True)
class Cloud:
    """How sampled latents lie: the mean of every class that a run uses, or one for all, and deviations from it."""

    means: Float[Tensor, "c d"]
    deviations: Deviations
    row_of: dict[int, int]  # class -> row of `means`; empty if there is one for all

    def mean(self, conditions: Labels) -> Latents:
        """Returns the mean that latents of each of these classes lie around."""
        return self.means[[self.row_of.get(c, 0) for c in conditions.tolist()]]

    def plausible(self, latents: Latents, conditions: Labels, tangent: Basis | None) -> Flags:
        """Returns a mask of the latents that are plausible.

        The coordinates are those of the tangent basis, in which trajectories are kept plausible; of the leading components if every
        seed has a basis of its own.
        """
        basis = (components(self.deviations, MOST_COMPONENTS) if tangent is None else tangent)[0].double()
        dual = basis / basis.square().sum(0)
        radius = torch.linalg.vector_norm(self.deviations.double() @ dual, dim=1).quantile(PLAUSIBLE_SHARE)
        inside: Tensor = torch.linalg.vector_norm((latents - self.mean(conditions)).double() @ dual, dim=1) <= radius * (1 + BORDER)
        return inside


def cloud_of(latents: Latents, conditions: Labels, by_class: Sequence[int]) -> Cloud:
    """Returns how sampled latents lie; `by_class` are the classes that get a mean of their own, if any."""
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


def components(deviations: Deviations, size: int) -> Basis:
    """Returns the leading principal components, at most `size` of them, each as long as its standard deviation."""
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


def components_by_row(deviations: Deviations, rows: int, size: int) -> Basis:
    """Returns the leading components of each of the `rows` rows of a point in W+, about `size` in all: a block for every row."""
    blocks: Tensor = torch.block_diag(*(components(part, max(1, size // rows))[0] for part in deviations.chunk(rows, 1)))
    return blocks[None]


def axes(deviations: Deviations) -> Float[Tensor, "1 d d"]:
    """Returns all latent axes."""
    return torch.eye(deviations.shape[1], dtype=deviations.dtype, device=deviations.device)[None]
