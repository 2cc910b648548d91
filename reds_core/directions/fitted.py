"""The straight-line methods that users know: directions fitted once to a generator, the same for every seed.

    pca           GANSpace (Haerkoenen et al., NeurIPS 2020): principal components of mapped latents; where z is walked, of the
                  images, and the latents that go with them by least squares
    sefa          Shen and Zhou, CVPR 2021: eigenvectors of A^T A, with A the weights that first meet the latent; where a generator
                  does not expose them, the Jacobian of its pixels at the mean latent
    interfacegan  Shen et al., CVPR 2020: the normal of a linear classifier in latent space for what varies, with the normals of
                  what is held projected out; a feature of many numbers is split along its leading principal components

All are fitted on reference seeds, never on a run's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from reds_core.directions.cloud import Cloud, components
from reds_core.generators.latent import Walkable
from reds_core.types import Directions, Features, Latents, Levels

MOST = 20  # directions that are fitted
HELD_NORMALS = 10  # of each held attribute
SAMPLES = 2048
RIDGE = 1e-3  # of the latents' variance

# How many -> the latents of that many reference seeds, and their images in bytes.
Sample = Callable[[int], tuple[Latents, Levels]]

# An attribute's name and images -> its features of them.
FeatureOf = Callable[[str, Levels], Features]


@dataclass(frozen=True)
class Sampled:
    """What directions are fitted to: a generator, how its latents lie, samples of it, and what is measured on them."""

    generator: Walkable
    cloud: Cloud
    sample: Sample
    feature_of: FeatureOf
    held: Sequence[str]
    varied: Sequence[str]


def pca(sampled: Sampled) -> Directions:
    """Returns the principal components of latents; where z is walked, the latents that go with those of images."""
    if sampled.generator.space != "z":
        return _unit(components(sampled.cloud.deviations, MOST)[0].double())
    latents, levels = sampled.sample(SAMPLES)
    return _unit(_slopes(_leading(levels.flatten(1).float(), MOST), latents).mT)


def sefa(sampled: Sampled) -> Directions:
    """Returns the leading right singular vectors of the weights that first meet the latent, or of the pixels' Jacobian."""
    weight = sampled.generator.style_weight
    if weight is None:
        weight = _pixel_jacobian(sampled.generator, sampled.cloud)
    gram = weight.double().mT @ weight.double()
    leading: Tensor = torch.linalg.eigh(gram)[1].flip(1)[:, :MOST]
    return leading


def interfacegan(sampled: Sampled) -> Directions:
    """Returns the normals of what varies, with those of what is held projected out."""
    latents, levels = sampled.sample(SAMPLES)

    def leading(name: str, size: int) -> Float64[Tensor, "n _k"]:
        return _leading(sampled.feature_of(name, levels), size)

    normals = torch.cat([_slopes(latents, leading(name, HELD_NORMALS)) for name in sampled.held], 1)
    keep = torch.linalg.qr(normals)[0]
    each = MOST // len(sampled.varied)
    # Which side of its middle a sample lies on, along each leading component of what varies: two classes, told apart linearly.
    sides = torch.cat([leading(name, each).sign() for name in sampled.varied], 1)
    found = _slopes(latents, sides)
    return _unit(found - keep @ (keep.mT @ found))


# Each returns unit columns, best first, at most MOST of them.
FITTED: dict[str, Callable[[Sampled], Directions]] = {"pca": pca, "sefa": sefa, "interfacegan": interfacegan}


def _pixel_jacobian(generator: Walkable, cloud: Cloud) -> Float[Tensor, "p d"]:
    """Returns the Jacobians of the images at the mean latent of every class, one below the other, by two-sided differences."""
    d = generator.dim
    h = 0.01 * float(cloud.deviations.std()) * d**0.5
    axes = h * torch.eye(d, dtype=cloud.means.dtype, device=cloud.means.device)
    classes = list(cloud.row_of) or list(range(len(generator.class_names)))[:1] or [0]
    parts = []
    most = min(64, generator.batch)
    for c in classes[:10]:
        mean = cloud.means[cloud.row_of.get(c, 0)]
        points = torch.cat([mean + axes, mean - axes])
        labels = torch.full((len(points),), c, dtype=torch.long, device=points.device)
        with torch.no_grad():
            images = torch.cat(
                [generator.images(a, b).flatten(1) for a, b in zip(points.split(most), labels.split(most), strict=True)]
            )
        parts.append((images[:d] - images[d:]).mT / (2 * h))
    return torch.cat(parts)


def _leading(vectors: Float[Tensor, "n p"], size: int) -> Float64[Tensor, "n k"]:
    """Returns vectors in at most `size` of their leading principal components; one that is not finite counts as the mean."""
    rows = vectors.double()
    spoilt = ~torch.isfinite(rows).all(1, keepdim=True)
    rows = torch.where(spoilt, rows[~spoilt[:, 0]].mean(0), rows)
    centred = rows - rows.mean(0)
    if centred.shape[1] > len(centred):
        values, left = torch.linalg.eigh(centred @ centred.mT)
        coordinates: Tensor = (left * values.clamp_min(0).sqrt()).flip(1)[:, :size]
        return coordinates
    axes: Tensor = torch.linalg.eigh(centred.mT @ centred)[1].flip(1)[:, :size]
    return centred @ axes


def _slopes(inputs: Float[Tensor, "n a"], targets: Float[Tensor, "n b"]) -> Float64[Tensor, "a b"]:
    """Returns the least-squares map from inputs to targets, both centred."""
    x, y = inputs.double() - inputs.double().mean(0), targets.double() - targets.double().mean(0)
    gram = x.mT @ x
    ridge = RIDGE * gram.diagonal().mean() * torch.eye(len(gram), dtype=gram.dtype, device=gram.device)
    solved: Tensor = torch.linalg.solve(gram + ridge, x.mT @ y)
    return solved


def _unit(columns: Float64[Tensor, "d m"]) -> Float64[Tensor, "d _m"]:
    """Returns columns scaled to length 1, without those that have none."""
    lengths = torch.linalg.vector_norm(columns, dim=0)
    kept = lengths > 1e-9 * lengths.max()
    unit: Tensor = columns[:, kept] / lengths[kept]
    return unit
