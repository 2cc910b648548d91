"""A shard's own images -> reconstructions that trajectories start from.

    fit          to the latent whose image is nearest (`reds_core.inversion.fit`)
    level set    to where what is held is as it is in the user's image (`reds_core.variants.level_set`), or, with `fit.residual`,
                 by adding to it what it lacks of that image
    verdict      one that lies farther from its image than `fit.distance`, or beyond a tolerance, yields nothing: reason `fit`

What is held is measured against the user's image, and what varies against the reconstruction: a trajectory has changed only that.
With `fit.residual` both are the same image, and the distance is that of the reconstruction alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from reds_core.inversion.fit import PASSES_A_STEP, Losses, Space, fitted
from reds_core.jobs.images import to_levels
from reds_core.jobs.job import Job, Work, all_bound, features_at, features_of, unrounded
from reds_core.trajectories.tangent import COTANGENTS
from reds_core.types import Bound, Features, Images, Labels, Latents, Reason, Rows
from reds_core.variants.level_set import MOVES, led_to_level_set
from reds_core.variants.limits import Decided, Level, Limit, limits_of
from reds_core.variants.origins import Origins
from reds_core.variants.photos import Photos
from reds_core.variants.verdicts import classify, distances, judged_in

MOST_FOR_LEVEL_SET = 0.25  # of the passes
OF_DECISION = 0.01  # the weight of what a decision has lost, beside squared spreads


def origins_from(work: Work, seeds: list[int], photos: Photos) -> Origins:
    """Reconstructs own images, and measures them and their reconstructions."""
    job, networks = work.job, work.job.networks
    everything = torch.ones(len(seeds), dtype=torch.bool, device=job.device)
    bound = all_bound(networks, photos.images)
    own = features_of(networks, photos.images, everything, bound)
    labels = _labels(job, photos, own)
    known = None if job.spec.label == "none" else torch.tensor(labels, device=job.device)
    limits = limits_of(job, own, known)
    latents = _fit(work, photos, bound, limits)
    of_photos = judged_in(networks, photos.images)
    expected = [label if label >= 0 or not of_photos else of_photos.labels[s] for s, label in enumerate(labels)]

    def rendered(latents: Latents) -> Mapping[str, Features]:
        images, _, finite = work.render(latents, photos.conditions)
        return features_of(networks, images, finite, bound)

    origins = Origins(
        seeds, latents, photos.conditions, to_levels(photos.images), photos.encoded, bound, own, limits, labels, of_photos,
        expected, _reasons(job, photos, own, limits, None), photos, of_photos, drifts_of(limits, rendered(latents)),
        [0.0] * len(seeds),
    )  # fmt: skip
    finish = _with_residuals if job.spec.seeds.fit.residual else _at_level_set
    made = finish(work, replace(origins, latents=latents), photos)
    return replace(made, reasons=_reasons(job, photos, made.features, limits, made))


def _at_level_set(work: Work, origins: Origins, photos: Photos) -> Origins:
    """Returns reconstructions led to where what is held is as it is in the user's images."""
    job, networks, latents = work.job, work.job.networks, origins.latents
    if origins.limits:
        fit_for = [s for s, reason in enumerate(origins.reasons) if not reason]
        latents = led_to_level_set(work, origins, torch.tensor(fit_for, dtype=torch.long, device=job.device))
    images, encoded, finite = work.render(latents, photos.conditions)
    return replace(
        origins, latents=latents, images=to_levels(images), encoded=encoded,
        features=features_of(networks, images, finite, origins.bound), judged=judged_in(networks, images),
        fits=distances(images.flatten(1), photos.images.flatten(1), job.own_images.pixel_spread),
    )  # fmt: skip


def _with_residuals(work: Work, origins: Origins, photos: Photos) -> Origins:
    """Returns reconstructions to which all is added that they lack: they are the user's images, as their origins say already."""
    work.counter.add(forward=len(origins.latents))
    images = unrounded(work.job.networks, origins.latents, photos.conditions)
    fits = distances(images.flatten(1), photos.images.flatten(1), work.job.own_images.pixel_spread)
    return replace(origins, residuals=torch.nan_to_num(photos.images - images), judged=origins.of_photos, fits=fits)


def _labels(job: Job, photos: Photos, features: Mapping[str, Features]) -> list[int]:
    """Returns the label of every image."""
    if job.spec.label == "given":
        return list(photos.labels)
    if job.spec.label == "none":
        return [-1] * len(photos.names)
    return classify(features[job.spec.label]).labels


def drifts_of(limits: Mapping[str, Limit], features: Mapping[str, Features]) -> dict[str, list[float]]:
    """Returns the drifts of reconstructions with these features, by held attribute."""
    return {n: [limit.drifts(features[n][s : s + 1], s)[0] for s in range(len(features[n]))] for n, limit in limits.items()}


def _reasons(
    job: Job, photos: Photos, features: Mapping[str, Features], limits: Mapping[str, Limit], made: Origins | None
) -> list[Reason]:
    """Returns why an image yields nothing, or ""; before it is reconstructed, and then by its reconstruction."""
    reasons: list[Reason] = []
    for s, problem in enumerate(photos.problems):
        finite = all(bool(torch.isfinite(f[s]).all()) for f in features.values())
        reason = "fit" if problem else "" if finite else "not_finite"
        if not reason and made is not None:
            within = all(limits[n].drifts(features[n][s : s + 1], s)[0] <= limits[n].tolerances[s] for n in limits)
            reason = "" if within and made.fits[s] <= job.spec.seeds.fit.distance else "fit"
            strict = job.spec.judge is not None and job.spec.judge.seeds == "strict"
            if not reason and strict and made.of_photos and not made.of_photos.agrees(made.expected)[s]:
                reason = "seed_label"
        reasons.append(reason)
    return reasons


def _fit(work: Work, photos: Photos, bound: Mapping[str, Bound | None], limits: Mapping[str, Limit]) -> Latents:
    """Returns the latents whose images are nearest to the user's."""
    job, networks, own = work.job, work.job.networks, work.job.own_images
    spec = job.spec.seeds.fit
    generator = networks.generator
    space = Space(networks.cloud, generator.rows, apart=spec.space != "w")
    to_level_set = bool(limits) and not spec.residual
    kept = min(MOST_FOR_LEVEL_SET * spec.passes, _cost_of_level_set(job, limits)) if to_level_set else 0
    steps = max(1, int(spec.passes - kept) // PASSES_A_STEP)
    smooth = list(limits) if job.derivatives.smooth else []

    def losses(rows: Rows) -> Losses:
        def lost(made: Images) -> Float[Tensor, " n"]:
            total = made.new_zeros(len(made))
            for name, f in zip(smooth, features_at(networks, smooth, made, bound, rows), strict=True):
                total = total + _lost(limits[name], f, rows)
            return total

        return lost

    found = []
    for rows in torch.arange(len(photos.images), device=job.device).split(job.batch):
        images, conditions = photos.images[rows], photos.conditions[rows]
        start = _start(work, images, conditions)
        found.append(fitted(images, start, conditions, generator.images, losses(rows), space, own.pixel_spread, steps))
        work.counter.add(forward=steps * len(images), reverse=steps * len(images))
    return torch.cat(found)


def _start(work: Work, images: Images, conditions: Labels) -> Latents:
    """Returns where the reconstructions of one batch of images start: the sampled latent or the guess whose image is nearer."""
    library, generator = work.job.own_images.library, work.job.networks.generator
    nearest, guess = library.nearest(images, conditions), library.guess(images, conditions)
    work.counter.add(forward=2 * len(images))
    with torch.no_grad():
        apart, of_guess = ((generator.images(z, conditions) - images).flatten(1).norm(dim=1) for z in (nearest, guess))
    return torch.where((of_guess < apart)[:, None], guess, nearest)


def _cost_of_level_set(job: Job, limits: Mapping[str, Limit]) -> int:
    """Returns the equivalents that leading a reconstruction to the level set takes as a rule: J twice, and moves in between."""
    tangent = job.tangent.shape[2] if job.tangent is not None else COTANGENTS * len(limits)
    cost = 0
    for name, limit in limits.items():
        rows = limit.start.shape[1] if isinstance(limit, Level) else 1
        cost += 2 * rows + 1 if job.derivatives.by_products(name) else tangent + 1
    return 2 * (cost + MOVES)


def _lost(limit: Limit, features: Features, rows: Rows) -> Float[Tensor, " n"]:
    """Returns what a reconstruction has lost of a held attribute, beside squared spreads."""
    residual = limit.residual(limit.measured(features, rows), rows)
    if isinstance(limit, Decided):
        return OF_DECISION * F.softplus(residual.sum(1))
    return residual.square().sum(1) * limit.tolerances[0] ** 2
