"""The user's own images of a shard, in the generator's shape and as they are stored, with their labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from reds_core.errors import ModelError
from reds_core.jobs.images import as_stored
from reds_core.jobs.job import Job
from reds_core.sources.pictures import pixels_of
from reds_core.types import Images, Labels


@dataclass(frozen=True)
class Photos:
    """Own images, a row each. One that cannot be decoded is black, and has a problem."""

    names: Sequence[str]
    images: Images  # as stored
    encoded: Sequence[bytes]
    labels: Sequence[int]
    conditions: Labels  # of the generator; zeros without classes
    problems: Sequence[str]


def photos_of(job: Job, seeds: Sequence[int]) -> Photos:
    """Returns the images of a run's own images with these numbers."""
    own = job.own_images
    chosen = [own.sources.images[s] for s in seeds]
    pixels, problems = [], []
    for source in chosen:
        content = source.read()  # a file that went or was changed meanwhile is no damaged image: it stops the run
        try:
            pixels.append(pixels_of(content, job.networks.image_shape, job.spec.seeds.resize))
            problems.append("")
        except ModelError as error:
            c, h, w = job.networks.image_shape
            pixels.append(np.zeros((h, w, c), np.uint8))
            problems.append(str(error))
    images = torch.from_numpy(np.stack(pixels)).to(job.device).permute(0, 3, 1, 2).float() / 255
    labels = [own.labels[s.label] for s in chosen]
    conditions = torch.tensor([own.conditions[s.label] for s in chosen], dtype=torch.long, device=job.device)
    return photos(job, [s.name for s in chosen], images, labels, conditions, problems)


def photos(
    job: Job, names: Sequence[str], images: Images, labels: Sequence[int], conditions: Labels, problems: Sequence[str] | None = None
) -> Photos:
    """Returns images in the generator's shape as they are stored."""
    stored, encoded = as_stored(images, job.spec.shards.image, job.spec.shards.quality)
    return Photos(names, stored, encoded or [b""] * len(images), labels, conditions, problems or [""] * len(images))
