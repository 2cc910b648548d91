"""Sampled latents with small images of theirs: where reconstructions start."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from reds_core.directions.cloud import Cloud
from reds_core.generators.latent import MEAN_SEEDS, Walkable
from reds_core.jobs.seeds import conditions_of, latents_of
from reds_core.types import Images, Labels, Latents, PassCounter

SIDE = 16  # pixels of the small images
SMALL_IMAGE = 64  # pixels: up to this size a sample is cheap
SAMPLES, FEW_SAMPLES = 1024, 256


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


def library_of(generator: Walkable, cloud: Cloud, classes: Sequence[int], size: int, batch: int, counter: PassCounter) -> Library:
    """Renders sampled latents, and the mean of every class that is used.

    Args:
        generator: what makes images from latents.
        cloud: how sampled latents lie.
        classes: those of the images; none for a generator without classes.
        size: of the generator's images, the longer side in pixels.
        batch: images per evaluation.
        counter: of passes.
    """
    device, seeds = generator.device, MEAN_SEEDS[: SAMPLES if size <= SMALL_IMAGE else FEW_SAMPLES]
    conditions = conditions_of(seeds, classes, device)
    means = torch.tensor(list(classes) or [0], device=device)
    with torch.no_grad():
        z = latents_of(seeds, generator, device)
        parts = [generator.latents(a, b) for a, b in zip(z.split(512), conditions.split(512), strict=True)]
        latents = torch.cat([*parts, cloud.mean(means)])
        conditions = torch.cat([conditions, means])
        images = [
            small(generator.images(a, b))
            for a, b in zip(latents.split(batch), conditions.split(batch), strict=True)
        ]
    counter.add(forward=len(latents))
    return Library(latents, conditions, torch.cat(images).nan_to_num(torch.inf))


def small(images: Images) -> Float[Tensor, "n p"]:
    """Returns small versions of images, flat."""
    side = min(SIDE, *images.shape[2:])
    return F.adaptive_avg_pool2d(images, side).flatten(1)
