"""Reference images, of seeds that no run uses, and what is measured on them once.

spread   an attribute's median distance between unrelated images
noise    the largest distance between two measurements of one image, in spreads: 0 but for a random feature
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Float, Int
from torch import Tensor

from reds_core.errors import ModelError
from reds_core.jobs.job import Networks, feature_of, rendered
from reds_core.spec.fields import Spec
from reds_core.types import Bound, Feature, Features, Images, Labels, Latents, PassCounter

NOISE_IMAGES = 16


def reference_images(networks: Networks, latents: Latents, conditions: Labels, counter: PassCounter) -> Images:
    """Returns the images of reference seeds, as stored. Raises ModelError if one is not finite."""
    images, _, finite = rendered(networks, latents, conditions)
    if not bool(finite.all()):
        raise ModelError(f"the generator {networks.generator.name} gives images that hold NaN or infinity")
    counter.add(forward=len(latents))
    return images


def bound_to(feature: Feature, images: Images, batch: int) -> Bound | None:
    """Returns what a feature remembers of images, `batch` at a time."""
    parts = [feature.bind(x) for x in images.split(batch)]
    return None if parts[0] is None else torch.cat([p for p in parts if p is not None])


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


def spread_of(networks: Networks, name: str, images: Images) -> float:
    """Returns an attribute's median distance between unrelated images, in its own units.

    Raises:
        ModelError: it could hardly be measured, or is the same on most images.
    """
    feature = networks.features[name]
    bound = bound_to(feature, images, networks.batch)
    if bound is None:
        spread = median_distance(feature_of(networks, name, images, None))
    else:
        # Bound to a seed's own image: the distance from a to b is measured on a's terms.
        rows = []
        for a in range(len(images)):
            vectors = feature_of(networks, name, images, bound[a : a + 1].expand(len(images), *bound.shape[1:]))
            apart = (vectors - vectors[a]).norm(dim=1)
            rows.append(torch.cat([apart[:a], apart[a + 1 :]]))
        spread = float(torch.cat(rows).double().nanquantile(0.5))
    if not spread < float("inf"):
        raise ModelError(f"attributes.{name}: could be measured on hardly any of the {len(images)} reference images")
    if spread == 0:
        raise ModelError(
            f"attributes.{name}: is the same on at least half of {len(images)} unrelated images, so nothing can be held or varied "
            "by it; choose another feature or region"
        )
    return spread


def noise_of(networks: Networks, name: str, images: Images) -> float:
    """Returns the largest distance between two measurements of one image, in the attribute's own units."""
    feature = networks.features[name]
    first, second = (feature_of(networks, name, images, feature.bind(images)) for _ in range(2))
    return float(torch.linalg.vector_norm((first - second).double(), dim=1).nan_to_num().max())


def check_noise(spec: Spec, noise: Mapping[str, float]) -> None:
    """Raises ModelError if a held attribute's noise, in spreads, is larger than its tolerance."""
    for name, value in noise.items():
        if value > spec.levels[name]:
            raise ModelError(
                f"held.{name}: two measurements of one image differ by up to {value:.2g} spreads, more than the tolerance of "
                f"{spec.levels[name]:g}; nothing can be held more closely than it can be measured"
            )


def measured_rows(networks: Networks, images: Images) -> Int[Tensor, " m"]:
    """Returns rows of images on which every attribute is finite, at least two if there are: NaN has no derivative.

    Raises:
        ModelError: there are none.
    """
    rows = torch.zeros(0, dtype=torch.long, device=images.device)
    for at in range(0, len(images), NOISE_IMAGES):
        some = images[at : at + NOISE_IMAGES]
        features = [feature_of(networks, name, some, f.bind(some)) for name, f in networks.features.items()]
        known = torch.stack([torch.isfinite(f).all(1) for f in features]).all(0)
        rows = torch.cat([rows, at + known.nonzero().squeeze(1)])
        if len(rows) > 1:
            return rows
    if not len(rows):
        raise ModelError(
            f"attributes {', '.join(networks.features)}: none of {len(images)} reference images could be measured by all of them"
        )
    return rows
