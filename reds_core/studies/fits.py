"""How well the user's own images can be reconstructed, and what is wrong with those that are not used."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from reds_core.jobs.job import Job, Work
from reds_core.sources import Skipped
from reds_core.sources.pictures import has_colour
from reds_core.types import PassCounter
from reds_core.variants.own_images import drifts_of, origins_from
from reds_core.variants.photos import photos_of

TRIED = 32  # images, if there are so many


@dataclass(frozen=True)
class Fits:
    """What some of the user's images came to. Lists of figures have an entry for each that can be decoded."""

    images: int  # that the run would use
    names: Sequence[str]
    distances: Sequence[float]  # of reconstructions, in spreads of all pixels
    psnr: Sequence[float]  # dB
    before: Mapping[str, Sequence[float]]  # drifts of the reconstruction before it is led to the image's level set, by attribute
    after: Mapping[str, Sequence[float]]
    yield_nothing: Sequence[str]  # names, by distance or what is held
    contradicted: Sequence[str]  # by the judge: names
    unreadable: Sequence[tuple[str, str]]  # names, and why
    in_colour: int  # how many of them lose their colours in a grey generator
    skipped: Sequence[Skipped]  # of all files

    @property
    def usable(self) -> float:
        """The share of the images tried that yield anything."""
        tried = len(self.names) + len(self.unreadable)
        return (len(self.names) - len(self.yield_nothing)) / tried if tried else 0.0


def spread_over(first: int, count: int, most: int) -> list[int]:
    """Returns at most `most` of the numbers from `first` on, spread evenly: own images are ordered by class."""
    chosen = min(most, count)
    return [first + int((i + 0.5) * count / chosen) for i in range(chosen)]


def fits_of(job: Job) -> Fits:
    """Reconstructs some of the images of a run's data."""
    own, spec = job.own_images, job.spec
    tried = spread_over(spec.seeds.first, spec.seeds.number, TRIED)
    photos = photos_of(job, tried)
    origins = origins_from(Work(job, PassCounter()), tried, photos)
    # From distances, as the seeds' images themselves may have what their reconstructions lack.
    errors = (torch.tensor(origins.fits).double() * own.pixel_spread).square() / math.prod(job.networks.image_shape)
    psnr = (-10 * torch.log10(errors.clamp_min(1e-12))).tolist()
    agrees = origins.of_photos.agrees(origins.expected) if origins.of_photos else [True] * len(tried)
    after = drifts_of(origins.limits, origins.features)
    grey = job.networks.image_shape[0] == 1
    seen = [s for s, problem in enumerate(photos.problems) if not problem]  # what cannot be decoded is told apart
    return Fits(
        images=spec.seeds.number,
        names=[photos.names[s] for s in seen],
        distances=[origins.fits[s] for s in seen],
        psnr=[psnr[s] for s in seen],
        before={n: [values[s] for s in seen] for n, values in origins.uncorrected.items()},
        after={n: [values[s] for s in seen] for n, values in after.items()},
        yield_nothing=[photos.names[s] for s in seen if origins.reasons[s]],
        contradicted=[photos.names[s] for s in seen if not agrees[s]],
        unreadable=[(name, why) for name, why in zip(photos.names, photos.problems, strict=True) if why],
        in_colour=sum(grey and has_colour(own.sources.images[tried[s]].read()) for s in seen),
        skipped=own.sources.skipped,
    )
