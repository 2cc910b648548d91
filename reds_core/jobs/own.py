"""What starting from the user's own images needs beside the networks: where reconstructions start, and classes by label."""

from __future__ import annotations

import torch

from reds_core.errors import ModelError, described
from reds_core.generators import Walkable
from reds_core.generators.latent import MEAN_SEEDS
from reds_core.inversion.library import library_of
from reds_core.jobs.job import Networks, Own
from reds_core.jobs.reference import pixel_spread
from reds_core.jobs.seeds import conditions_of, latents_of
from reds_core.sources import Sources
from reds_core.sources.labels import conditions, indices
from reds_core.types import Latents, Levels, PassCounter

SMALL_IMAGE = 64  # pixels: up to this size a sample is cheap
SAMPLES, FEW_SAMPLES = 1024, 256  # that reconstructions may start from


def own_of(networks: Networks, stored: Levels, sources: Sources, counter: PassCounter) -> Own:
    """Returns what reconstructing images needs. `stored` are the reference seeds' images, `sources` the user's.

    Raises:
        ModelError: the generator has no derivatives, or is walked in its noise, or no class of a label's name.
    """
    spec, generator = networks.spec, networks.generator
    if generator.subspace is not None:
        raise ModelError(
            f"seeds.images: images are not reconstructed with {generator.title}: almost any image has some noise, however "
            "unlikely, and what lies around such noise is not what the network was trained on; start from sampled seeds"
        )
    last = spec.seeds.first + spec.seeds.number
    if spec.seeds.images is not None and last > len(sources.images):
        raise ModelError(
            f"seeds.count: images {spec.seeds.first} to {last - 1} are asked for, but there are only {len(sources.images)}"
        )
    seeds = MEAN_SEEDS[: SAMPLES if max(networks.image_shape[1:]) <= SMALL_IMAGE else FEW_SAMPLES]
    drawn = conditions_of(seeds, networks.classes, networks.device)
    means = torch.tensor(list(networks.classes) or [0], device=networks.device)
    with torch.no_grad():
        pairs = zip(latents_of(seeds, generator, networks.device).split(512), drawn.split(512), strict=True)
        latents = torch.cat([*(generator.latents(z, c) for z, c in pairs), networks.cloud.mean(means)])
    given = torch.cat([drawn, means])
    problem = _not_differentiable(generator, latents[:1], given[:1])
    if problem:
        raise ModelError(
            f"seeds.images: images cannot be reconstructed with {generator.title}, which has no derivatives "
            f"({problem}); start from sampled seeds, or take a network of torch operations"
        )
    names = list(networks.label_names)
    labels = indices(sources.labels, names) if spec.label == "given" else dict.fromkeys(sources.labels, -1)
    if labels is None:
        raise ModelError(f"seeds.images: the labels {', '.join(sources.labels[:5])} are not among {', '.join(names[:20])}")
    library = library_of(generator, networks.cloud, latents, given, networks.batch, counter)
    return Own(sources, labels, conditions(sources.labels, generator.class_names), library, pixel_spread(stored))


def _not_differentiable(generator: Walkable, latents: Latents, given: torch.Tensor) -> str:
    """Returns why images have no derivatives by their latents, or ""."""
    leaf = latents.detach().requires_grad_()
    try:
        with torch.enable_grad():
            (gradient,) = torch.autograd.grad(generator.images(leaf, given).square().sum(), leaf)
    except RuntimeError as error:
        return described(error)
    usable = bool(torch.isfinite(gradient).all()) and bool(gradient.any())
    return "" if usable else "they are zero or not finite"
