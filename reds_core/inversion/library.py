r"""Sampled latents with small images of theirs: where reconstructions start.

    nearest    the latent of the same class whose small image is most like the user's
    guess      by ridge regression of latents on small images:  mean + (a - a_mean) W

A guess suits generators whose images change smoothly with the latent, and the nearest all others; whose image is nearer is taken.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from reds_core.directions.cloud import Cloud
from reds_core.generators.latent import Walkable
from reds_core.types import Images, Labels, Latents, PassCounter

SIDE = 16  # pixels of the small images
RIDGE = 0.1  # of the mean variance of a small image's pixel


@dataclass(frozen=True)
class Library:
    """Latents of the space walked, the class that each was made for, small images of theirs, and how latents follow from those."""

    latents: Latents
    conditions: Labels
    small: Float[Tensor, "n p"]
    cloud: Cloud
    weights: Float[Tensor, "p d"]  # of the regression

    def nearest(self, images: Images, conditions: Labels) -> Latents:
        """Returns for each image the latent of its class whose image is most like it."""
        apart = torch.cdist(small(images), self.small)
        apart = apart.masked_fill(conditions[:, None] != self.conditions, torch.inf)
        return self.latents[apart.argmin(1)]

    def guess(self, images: Images, conditions: Labels) -> Latents:
        """Returns for each image the latent that the regression expects."""
        moved = (small(images) - self.small.mean(0)) @ self.weights
        return self.cloud.mean(conditions) + moved.to(self.latents.dtype)


def library_of(
    generator: Walkable, cloud: Cloud, latents: Latents, conditions: Labels, batch: int, counter: PassCounter
) -> Library:
    """Renders latents of the space walked, `batch` at a time, each for its class; `cloud` tells how they lie."""
    with torch.no_grad():
        pairs = zip(latents.split(batch), conditions.split(batch), strict=True)
        images = torch.cat([small(generator.images(z, c)) for z, c in pairs])
    counter.add(forward=len(latents))
    finite = torch.isfinite(images).all(1)
    latents, conditions, images = latents[finite], conditions[finite], images[finite]
    return Library(latents, conditions, images, cloud, _regression(images, latents - cloud.mean(conditions)))


def _regression(small: Float[Tensor, "n p"], deviations: Latents) -> Float[Tensor, "p d"]:
    """Returns the weights by which deviations of latents follow from those of small images, by ridge regression."""
    x = (small - small.mean(0)).double()
    gram = x.mT @ x
    damping = RIDGE * gram.trace() / len(gram)
    if not damping:  # all images are alike: nothing follows from them
        return torch.zeros(x.shape[1], deviations.shape[1], dtype=small.dtype, device=small.device)
    damped = gram + damping * torch.eye(len(gram), dtype=gram.dtype, device=gram.device)
    weights: Tensor = torch.linalg.solve(damped, x.mT @ deviations.double()).to(small.dtype)
    return weights


def small(images: Images) -> Float[Tensor, "n p"]:
    """Returns small versions of images, flat."""
    side = min(SIDE, *images.shape[2:])
    return F.adaptive_avg_pool2d(images, side).flatten(1)
