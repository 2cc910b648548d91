"""One shard's work: what renders and evaluates for it, and counts every pass."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch

from reds_core.directions.evaluator import Evaluator, Measure
from reds_core.types import Images, Labels, Latents, Mask, PassCounter
from reds_core.variants.images import as_stored
from reds_core.variants.job import Job, Networks


class Rendered(NamedTuple):
    """Images as stored, their encoded files (empty if the format is lossless), and which are finite throughout."""

    images: Images
    encoded: list[bytes]
    finite: Mask


@dataclass(frozen=True)
class Work:
    """A job at work on one shard."""

    job: Job
    counter: PassCounter

    @property
    def networks(self) -> Networks:
        return self.job.networks

    def coarse(self) -> Work | None:
        """Returns the work on smaller images, counted with this, if those are what trajectories are walked by."""
        return None if self.job.coarse is None else Work(self.job.coarse, self.counter)

    def evaluator(self, measure: Measure) -> Evaluator:
        """Returns what measures points, counted."""
        return Evaluator(measure, self.job.batch, self.counter)

    def render(self, latents: Latents, conditions: Labels) -> Rendered:
        """Returns the images of latents, as stored."""
        shards, batch = self.job.spec.shards, self.job.batch
        images, encoded, finite = [], [], []
        with torch.no_grad():
            for z, c in zip(latents.split(batch), conditions.split(batch), strict=True):
                raw = self.networks.generator.images(z, c)
                finite.append(torch.isfinite(raw).flatten(1).all(1))
                stored, files = as_stored(torch.nan_to_num(raw), shards.image, shards.quality)
                images.append(stored)
                encoded += files or [b""] * len(z)
        self.counter.add(forward=len(latents))
        return Rendered(torch.cat(images), encoded, torch.cat(finite))
