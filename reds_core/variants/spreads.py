"""How far apart unrelated images are in each attribute, and how exactly each can be measured: on reference images, once per run."""

from __future__ import annotations

import torch
from torch import Tensor

from reds_core.errors import ModelError
from reds_core.types import Feature, Images
from reds_core.variants.job import Job, feature_of
from reds_core.variants.verdicts import median_distance

NOISE_IMAGES = 16


def spread_of(job: Job, name: str, images: Images) -> float:
    """The median distance of an attribute between unrelated seeds, in its own units."""
    feature = job.features[name]
    kept = bound_to(feature, images, job.batch)
    if kept is None:
        spread = median_distance(feature_of(job, name, images, None))
    else:
        # Bound to a seed's own image: the distance from a to b is measured on a's terms.
        rows = []
        for a in range(len(images)):
            vectors = feature_of(job, name, images, kept[a : a + 1].expand(len(images), *kept.shape[1:]))
            distances = (vectors - vectors[a]).norm(dim=1)
            rows.append(torch.cat([distances[:a], distances[a + 1 :]]))
        spread = float(torch.cat(rows).double().nanquantile(0.5))
    if not spread < float("inf"):
        raise ModelError(f"attributes.{name}: could be measured on hardly any of the {len(images)} reference images")
    if spread == 0:
        raise ModelError(
            f"attributes.{name}: is the same on at least half of {len(images)} unrelated images, so nothing can be held or varied "
            "by it; choose another feature or region"
        )
    return spread


def noise_of(job: Job, name: str, images: Images) -> float:
    """The largest distance between two measurements of one image, in the attribute's own units: 0 but for a random feature."""
    first, second = (feature_of(job, name, images, job.features[name].bind(images)) for _ in range(2))
    return float(torch.linalg.vector_norm((first - second).double(), dim=1).nan_to_num().max())


def check_noise(job: Job) -> None:
    """Nothing can be held more closely than it can be measured."""
    for name, noise in job.noise.items():
        if noise > job.spec.held[name]:
            raise ModelError(
                f"held.{name}: two measurements of one image differ by up to {noise:.2g} spreads, more than the tolerance of "
                f"{job.spec.held[name]:g}; nothing can be held that closely by a feature with such noise"
            )


def bound_to(feature: Feature, images: Images, batch: int) -> Tensor | None:
    """What a feature remembers of images, `batch` at a time."""
    parts = [feature.bind(x) for x in images.split(batch)]
    return None if parts[0] is None else torch.cat([p for p in parts if p is not None])


def measured_rows(job: Job, images: Images) -> Tensor:
    """Rows of images, two at least if there are, of which every attribute is a number: derivatives of NaN would tell nothing."""
    rows = torch.zeros(0, dtype=torch.long, device=images.device)
    for at in range(0, len(images), NOISE_IMAGES):
        some = images[at : at + NOISE_IMAGES]
        features = [feature_of(job, name, some, f.bind(some)) for name, f in job.features.items()]
        known = torch.stack([torch.isfinite(f).all(1) for f in features]).all(0)
        rows = torch.cat([rows, at + known.nonzero().squeeze(1)])
        if len(rows) > 1:
            return rows
    if not len(rows):
        raise ModelError(
            f"attributes {', '.join(job.features)}: none of {len(images)} reference images could be measured by all of them"
        )
    return rows
