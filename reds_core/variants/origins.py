"""A shard's seeds, each with what its variants are compared with: latent, image as stored, features, label.

A seed that cannot be measured, or whose label the judge contradicts, gets a reason here and is walked from no further.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from reds_core.types import Images, Labels, Latents, Passes, Reason
from reds_core.variants.images import as_stored
from reds_core.variants.job import Job, features_of
from reds_core.variants.seeds import conditions_of, latents_of
from reds_core.variants.verdicts import Decisions, decide


@dataclass(frozen=True)
class Origins:
    """The seeds of a shard: everything their variants are compared with. Tensors have a row for each seed."""

    seeds: Sequence[int]
    latents: Latents
    conditions: Labels
    images: Images  # as stored
    encoded: list[bytes]
    bound: Mapping[str, Tensor | None]
    features: Mapping[str, Tensor]
    labels: list[int]
    judged: Decisions | None
    reasons: list[Reason]


def origins_of(job: Job, seeds: Sequence[int], passes: Passes) -> Origins:
    """Renders, measures and labels seeds."""
    spec = job.spec
    conditions = conditions_of(seeds, job.classes, job.device)
    latents = job.generator.latents(latents_of(seeds, job.generator, job.device), conditions)
    images, encoded, finite = render(job, latents, conditions, passes)
    bound = {name: f.bind(images) for name, f in job.features.items()}
    features = features_of(job, images, finite, bound)
    judged = decide(job.judge(images)) if job.judge else None
    if spec.label == "condition":
        labels = conditions.tolist()
    elif spec.label == "none":
        labels = [-1] * len(seeds)
    else:
        labels = decide(features[spec.label]).labels
    reasons = []
    for s in range(len(seeds)):
        measured = all(bool(torch.isfinite(f[s]).all()) for f in features.values())
        contradicted = judged is not None and labels[s] >= 0 and judged.labels[s] != labels[s]
        reasons.append("not_finite" if not measured else "seed_label" if contradicted else "")
    return Origins(seeds, latents, conditions, images, encoded, bound, features, labels, judged, reasons)


def render(job: Job, latents: Latents, conditions: Labels, passes: Passes) -> tuple[Images, list[bytes], Tensor]:
    """Images as stored, their encoded bytes (empty where the format is lossless), and which are numbers throughout."""
    images, encoded, finite = [], [], []
    with torch.no_grad():
        for z, c in zip(latents.split(job.batch), conditions.split(job.batch), strict=True):
            raw = job.generator.images(z, c)
            finite.append(torch.isfinite(raw).flatten(1).all(1))
            stored, files = as_stored(torch.nan_to_num(raw), job.spec.shards.image, job.spec.shards.quality)
            images.append(stored)
            encoded += files or [b""] * len(z)
    passes.forward += len(latents)
    return torch.cat(images), encoded, torch.cat(finite)
