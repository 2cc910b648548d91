"""Seeds: an integer -> a latent and a condition, by the convention of the published tools, so that favourite seeds stay theirs.

    z = np.random.RandomState(seed).randn(d)             uniform: 2 * RandomState(seed).rand(d) - 1
    condition = classes[seed % len(classes)]

Spreads and bases are measured on reference seeds of their own, from 2**31 up, never on a run's: otherwise a verdict would change
with the length of the run.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float32, Float64
from torch import Tensor

from reds_core.errors import ModelError
from reds_core.generators.latent import FIRST_REFERENCE_SEED, Walkable, draw
from reds_core.spec.fields import Seeds
from reds_core.types import Labels

REFERENCE_SEEDS = range(FIRST_REFERENCE_SEED, FIRST_REFERENCE_SEED + 256)


def latents_of(seeds: Sequence[int], generator: Walkable, device: torch.device) -> Float32[Tensor, "n z"]:
    """Returns the sampled latents of seeds."""
    return draw(seeds, generator.z_dim, generator.latent).to(device)


def random_directions(seed: int, generator: Walkable, count: int) -> Float64[Tensor, "d m"]:
    """Returns `count` random unit directions of a seed.

    Drawn from the seed's own stream, after its latent: the first numbers of the stream are the latent itself.
    """
    stream = np.random.RandomState(seed)
    _ = stream.rand(generator.z_dim) if generator.latent == "uniform" else stream.randn(generator.z_dim)
    drawn = torch.from_numpy(stream.randn(generator.dim, count))
    unit: Tensor = drawn / torch.linalg.vector_norm(drawn, dim=0)
    return unit


def classes_of(seeds: Seeds, names: Sequence[str]) -> list[int]:
    """Returns the class indices that a run uses; none for an unconditional generator.

    Raises:
        ModelError: `seeds.classes` names a class that the generator does not have.
    """
    if not seeds.classes:
        return list(range(len(names)))
    if not names:
        raise ModelError("seeds.classes is given, but the generator takes no class; leave it out, or declare generator.classes")
    chosen = []
    for c in seeds.classes:
        index = names.index(c) if isinstance(c, str) and c in names else c
        if not isinstance(index, int) or not 0 <= index < len(names):
            raise ModelError(f"seeds.classes: the generator has no class {c!r}; it has {len(names)}: {', '.join(names[:20])}")
        chosen.append(index)
    return chosen


def conditions_of(seeds: Sequence[int], classes: Sequence[int], device: torch.device) -> Labels:
    """Returns the class index given to the generator for every seed; zeros for an unconditional generator."""
    return torch.tensor([classes[s % len(classes)] if classes else 0 for s in seeds], dtype=torch.long, device=device)
