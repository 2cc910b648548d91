"""Sampled latents with small images of theirs: where reconstructions start."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from reds_core.generators.latent import Walkable
from reds_core.types import Images, Labels, Latents, PassCounter

SIDE = 16  # pixels of the small images


@dataclass(frozen=True)
class Library:
    """Latents of the space walked, the class that each was made for, and small images of theirs."""

    latents: Latents
    conditions: Labels
    small: Float[Tensor, "n p"]

    def nearest(self, images: Images, conditions: Labels) -> Latents:
        """Returns for each image the latent of its class whose image is most like it."""
        apart = torch.cdist(small(images), self.small)
        apart = apart.masked_fill(conditions[:, None] != self.conditions, torch.inf)
        return self.latents[apart.argmin(1)]


def library_of(generator: Walkable, latents: Latents, conditions: Labels, batch: int, counter: PassCounter) -> Library:
    """Renders latents of the space walked, `batch` at a time, each for its class."""
    with torch.no_grad():
        pairs = zip(latents.split(batch), conditions.split(batch), strict=True)
        images = torch.cat([small(generator.images(z, c)) for z, c in pairs])
    counter.add(forward=len(latents))
    return Library(latents, conditions, images.nan_to_num(torch.inf))


def small(images: Images) -> Float[Tensor, "n p"]:
    """Returns small versions of images, flat."""
    side = min(SIDE, *images.shape[2:])
    return F.adaptive_avg_pool2d(images, side).flatten(1)
