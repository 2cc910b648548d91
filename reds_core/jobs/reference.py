"""Reference images, of seeds that no run uses, and what is measured on them once.

spread   an attribute's median distance between unrelated images
noise    the largest distance between two measurements of one image, in spreads: 0 but for a random feature
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from jaxtyping import Float, Int
from torch import Tensor

from reds_core.errors import ModelError
from reds_core.jobs.images import from_levels, to_levels
from reds_core.jobs.job import Networks, bound_to, feature_of, rendered
from reds_core.spec.fields import Spec
from reds_core.types import Features, Labels, Latents, Levels, PassCounter

NOISE_IMAGES = 16
MOST_NUMBERS = 2**26  # of features at once, which take 256 MB
COLUMNS = 2**14  # of features whose squares are summed in float32


def reference_images(networks: Networks, latents: Latents, conditions: Labels, counter: PassCounter) -> Levels:
    """Returns the images of reference seeds, as stored, in bytes: 256 of 1024x1024 as floats would take 3 GB.

    Raises:
        ModelError: one is not finite.
    """
    parts = []
    for z, c in zip(latents.split(networks.batch), conditions.split(networks.batch), strict=True):
        images, _, finite = rendered(networks, z, c)
        if not bool(finite.all()):
            raise ModelError(f"{networks.generator.title} gives images that hold NaN or infinity")
        parts.append(to_levels(images))
    counter.add(forward=len(latents))
    return torch.cat(parts)


def all_distances(rows: Features) -> Float[Tensor, "n n"]:
    """Returns the distances between all rows, in their own units."""
    # The exact form: the faster one by inner products loses all digits of close pairs.
    return torch.cdist(rows, rows, compute_mode="donot_use_mm_for_euclid_dist")


def median_distance(vectors: Features) -> float:
    """Returns the median distance between all pairs of rows. NaN rows count for nothing; NaN if fewer than two are left."""
    rows = vectors[torch.isfinite(vectors).all(1)]
    if len(rows) < 2:
        return float("nan")
    apart = all_distances(rows)
    i, j = torch.triu_indices(len(rows), len(rows), 1, device=rows.device)
    return float(apart[i, j].double().quantile(0.5))


def pixel_spread(levels: Levels) -> float:
    """Returns the median distance between images, as pixel values from 0 to 1."""
    return _median_apart(levels, lambda some: from_levels(some).flatten(1), levels[0].numel())


def spread_of(networks: Networks, name: str, levels: Levels) -> float:
    """Returns an attribute's median distance between unrelated images, in its own units.

    Raises:
        ModelError: it could hardly be measured, or is the same on most images.
    """
    first = from_levels(levels[: networks.batch])
    bound = bound_to(networks, name, first)
    if bound is None:
        size = feature_of(networks, name, first, None).shape[1]
        spread = _median_apart(levels, lambda some: _vectors(networks, name, some), size)
    else:
        spread = _median_apart_as_bound(networks, name, levels)
    if not spread < float("inf"):
        raise ModelError(f"attributes.{name}: could be measured on hardly any of the {len(levels)} reference images")
    if spread == 0:
        raise ModelError(
            f"attributes.{name}: is the same on at least half of {len(levels)} unrelated images, so nothing can be held or varied "
            "by it; choose another feature or region"
        )
    return spread


def _vectors(networks: Networks, name: str, levels: Levels) -> Features:
    """Returns the features of images, in bytes, of an attribute that remembers nothing of seeds; floats a batch at a time."""
    return torch.cat([feature_of(networks, name, from_levels(some), None) for some in levels.split(networks.batch)])


def _median_apart(levels: Levels, measure: Callable[[Levels], Features], size: int) -> float:
    """Returns the median distance between the features, `size` numbers each, of all pairs of images.

    Where all features would take more memory than the images, they are measured again for every pair of blocks.
    """
    if len(levels) * size <= MOST_NUMBERS:
        return median_distance(measure(levels))
    blocks = levels.split(max(1, MOST_NUMBERS // (2 * size)))
    # Filled in place: small results between large blocks would cut up the heap, by gigabytes at 1024x1024.
    apart, at = torch.empty(len(levels) * (len(levels) - 1) // 2, dtype=torch.float64, device=levels.device), 0
    for k, block in enumerate(blocks):
        rows = measure(block)
        for j in range(k, len(blocks)):
            others = rows if j == k else measure(blocks[j])
            found = _long_distances(rows, others)
            pairs = torch.triu(torch.ones_like(found, dtype=torch.bool), 1) if j == k else torch.ones_like(found, dtype=torch.bool)
            count = int(pairs.sum())
            apart[at : at + count] = found[pairs]
            at += count
    known = apart[torch.isfinite(apart)]
    return float(known.quantile(0.5)) if len(known) else float("nan")


def _long_distances(rows: Features, others: Features) -> Float[Tensor, "n m"]:
    """Returns the distances between rows of millions of numbers: float32 would lose three digits of such sums."""
    squares = torch.zeros(len(rows), len(others), dtype=torch.float64, device=rows.device)
    for some, same in zip(rows.split(COLUMNS, 1), others.split(COLUMNS, 1), strict=True):
        near = torch.cdist(some.contiguous(), same.contiguous(), compute_mode="donot_use_mm_for_euclid_dist")
        squares += near.double().square()
    return squares.sqrt()


def _median_apart_as_bound(networks: Networks, name: str, levels: Levels) -> float:
    """Returns the median distance from images to others, each measured as the first of the two, as the seed, defines it."""
    apart = []
    for block, at in zip(levels.split(networks.batch), range(0, len(levels), networks.batch), strict=True):
        seeds = from_levels(block)
        bound = bound_to(networks, name, seeds)
        if bound is None:
            raise ValueError(f"the attribute {name} remembers nothing of seeds")
        own = feature_of(networks, name, seeds, bound)
        for i in range(len(block)):
            found = []
            for some in levels.split(networks.batch):
                terms = bound[i : i + 1].expand(len(some), *bound.shape[1:])
                found.append((feature_of(networks, name, from_levels(some), terms) - own[i]).norm(dim=1))
            distances = torch.cat(found)
            apart.append(torch.cat([distances[: at + i], distances[at + i + 1 :]]))
    return float(torch.cat(apart).double().nanquantile(0.5))


def noise_of(networks: Networks, name: str, levels: Levels) -> float:
    """Returns the largest distance between two measurements of one image, in the attribute's own units."""
    images = from_levels(levels)
    first, second = (feature_of(networks, name, images, bound_to(networks, name, images)) for _ in range(2))
    return float(torch.linalg.vector_norm((first - second).double(), dim=1).nan_to_num().max())


def check_noise(spec: Spec, noise: Mapping[str, float]) -> None:
    """Raises ModelError if a held attribute's noise, in spreads, is larger than its tolerance."""
    for name, value in noise.items():
        if value > spec.levels[name]:
            raise ModelError(
                f"held.{name}: two measurements of one image differ by up to {value:.2g} spreads, more than the tolerance of "
                f"{spec.levels[name]:g}; nothing can be held more closely than it can be measured"
            )


def measured_rows(networks: Networks, levels: Levels) -> Int[Tensor, " m"]:
    """Returns rows of images on which every attribute is finite, at least two if there are: NaN has no derivative.

    Raises:
        ModelError: there are none.
    """
    rows = torch.zeros(0, dtype=torch.long, device=levels.device)
    for at in range(0, len(levels), NOISE_IMAGES):
        some = from_levels(levels[at : at + NOISE_IMAGES])
        features = [feature_of(networks, name, some, bound_to(networks, name, some)) for name in networks.features]
        known = torch.stack([torch.isfinite(f).all(1) for f in features]).all(0)
        rows = torch.cat([rows, at + known.nonzero().squeeze(1)])
        if len(rows) > 1:
            return rows
    if not len(rows):
        raise ModelError(
            f"attributes {', '.join(networks.features)}: none of {len(levels)} reference images could be measured by all of them"
        )
    return rows
