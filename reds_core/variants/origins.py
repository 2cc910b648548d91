"""A shard's seeds, each with what its variants are compared with: latent, image as stored, features, label.

A seed that cannot be measured or judged, or whose label the judge contradicts, gets a reason here: no trajectory starts from it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch

from reds_core.directions.evaluator import Measure
from reds_core.generators import Walkable
from reds_core.jobs.images import to_levels
from reds_core.jobs.job import Job, Render, Work, all_bound, features_of, measure_of, with_residuals
from reds_core.jobs.seeds import conditions_of, latents_of, random_directions
from reds_core.types import Bound, Columns, Features, Images, Labels, Latents, Levels, Reason, Rows
from reds_core.variants.limits import Limit, limits_of
from reds_core.variants.photos import Photos
from reds_core.variants.verdicts import Classified, classify, joined, judged_in


@dataclass(frozen=True)
class Origins:
    """The seeds of a shard: everything that their variants are compared with, a row for each seed."""

    seeds: Sequence[int]
    latents: Latents
    conditions: Labels
    images: Levels  # as stored
    encoded: Sequence[bytes]
    bound: Mapping[str, Bound | None]
    features: Mapping[str, Features]
    limits: Mapping[str, Limit]  # of what is held
    labels: Sequence[int]
    judged: Classified | None
    expected: Sequence[int]  # what the judge must say of their variants: the label, or without one what it says of the seed
    reasons: Sequence[Reason]  # why no trajectory may start from it, or ""
    photos: Photos | None = None  # the user's own images, of which the latents are reconstructions
    of_photos: Classified | None = None  # what the judge says of those
    uncorrected: Mapping[str, Sequence[float]] = field(default_factory=dict)  # drifts of the first reconstructions
    fits: Sequence[float] = ()  # how far these are from their images, in spreads of all pixels
    residuals: Images | None = None  # what is added to every image of a seed: what its reconstruction lacks

    def rendered_by(self, generator: Walkable) -> Render:
        """Returns what makes the images of latents that belong to these seeds."""

        def render(points: Latents, rows: Rows) -> Images:
            images = generator.images(points, self.conditions[rows])
            return images if self.residuals is None else with_residuals(images, self.residuals[rows])

        return render

    def residuals_of(self, rows: Rows) -> Images | None:
        """Returns what is added to images of the seeds in `rows`, or None."""
        return None if self.residuals is None else self.residuals[rows]


def origins_of(work: Work, seeds: Sequence[int]) -> Origins:
    """Renders, measures and labels seeds."""
    networks = work.job.networks
    conditions = conditions_of(seeds, networks.classes, networks.device)
    latents = networks.generator.latents(latents_of(seeds, networks.generator, networks.device), conditions)
    # A batch at a time from the latent to the features: a shard's images as floats take four times what its files' pixels do.
    batches = zip(latents.split(work.job.batch), conditions.split(work.job.batch), strict=True)
    levels, encoded, bound, features, judged = _joined([_measured(work, z, c) for z, c in batches])
    if networks.spec.label == "condition":
        labels = conditions.tolist()
    elif networks.spec.label == "none":
        labels = [-1] * len(seeds)
    else:
        labels = classify(features[networks.spec.label]).labels
    known = None if networks.spec.label == "none" else torch.tensor(labels, device=networks.device)
    limits = limits_of(work.job, features, known)
    expected = [own if own >= 0 or not judged else judged.labels[s] for s, own in enumerate(labels)]
    agrees = judged.agrees(expected) if judged else [True] * len(seeds)
    reasons = []
    for s in range(len(seeds)):
        measured = all(bool(torch.isfinite(f[s]).all()) for f in features.values()) and (not judged or judged.finite[s])
        reasons.append("not_finite" if not measured else "" if agrees[s] else "seed_label")
    return Origins(seeds, latents, conditions, levels, encoded, bound, features, limits, labels, judged, expected, reasons)


class _Measured(NamedTuple):
    """What is kept of seeds' images."""

    levels: Levels
    encoded: list[bytes]
    bound: dict[str, Bound | None]
    features: dict[str, Features]
    judged: Classified | None


def _measured(work: Work, latents: Latents, conditions: Labels) -> _Measured:
    """Renders and measures one batch of seeds."""
    networks = work.job.networks
    images, encoded, finite = work.render(latents, conditions)
    bound = all_bound(networks, images)
    features = features_of(networks, images, finite, bound)
    return _Measured(to_levels(images), encoded, bound, features, judged_in(networks, images))


def _joined(parts: list[_Measured]) -> _Measured:
    """Returns batches as one, which they leave one after another: together they would take twice the memory."""
    first = parts[0]
    bound = {name: _taken([p.bound for p in parts], name) for name in list(first.bound)}
    features = {name: torch.cat([p.features.pop(name) for p in parts]) for name in list(first.features)}
    judged = [p.judged for p in parts if p.judged]
    return _Measured(
        torch.cat([p.levels for p in parts]),
        [e for p in parts for e in p.encoded],
        bound,
        features,
        joined(judged) if judged else None,
    )


def _taken(parts: Sequence[dict[str, Any]], name: str) -> Bound | None:
    """Returns what one feature remembers of all batches, and removes it from them."""
    # `Bound` in both places would name one number of rows for a batch and for the whole.
    found = [b for p in parts if (b := p.pop(name)) is not None]
    return torch.cat(found) if found else None


def given_directions(job: Job, origins: Origins, rows: Rows) -> Columns:
    """Returns directions of the seeds in `rows` that depend on no Gram: fitted once, or drawn at random."""
    if job.fixed is not None:
        return job.fixed.expand(len(rows), -1, -1)
    count = job.spec.trajectory.directions
    drawn = [random_directions(origins.seeds[s], job.networks.generator, count) for s in rows.tolist()]
    return torch.stack(drawn).to(job.device)


def held_measure(work: Work, origins: Origins, held: Sequence[str], varied: Sequence[str]) -> Measure:
    """Returns what measures the held features of latents, as their limits see them, and then the varied ones; differentiable."""
    networks = work.job.networks
    measure = measure_of(networks, [*held, *varied], origins.rendered_by(networks.generator), origins.bound)

    def limited(points: Latents, rows: Rows) -> list[Features]:
        found = measure(points, rows)
        own = [origins.limits[name].measured(f, rows) for name, f in zip(held, found, strict=False)]
        return [*own, *found[len(held) :]]

    return limited
