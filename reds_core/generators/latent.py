"""What every generator has in common: a mapping to the space walked, truncation, and images scaled to [0, 1]."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from reds_core.errors import ModelError
from reds_core.types import Images, Labels, Latents, LoadedGenerator

# A trained network overshoots a flat background by a little; that is not a wrong range.
OVERSHOOT = 0.02
MOST_CLAMPED = 0.2
MEAN_SEEDS = range(2**31, 2**31 + 4096)

Layers = Callable[[Tensor, Labels], Tensor]


@dataclass
class Walkable:
    """A generator on one device: `types.LoadedGenerator`.

    `mapping` is z [, class] -> w, None where there is none; `synthesis` goes from the space walked to raw images. In `w+` a point
    is `rows` rows of w, one after the other; a mapping that gives (n, rows, w) is walked by its first row in `w`.
    """

    name: str
    space: Literal["z", "w", "w+"]
    z_dim: int
    dim: int
    latent: Literal["normal", "uniform"]
    class_names: tuple[str, ...]
    output_range: tuple[float, float]
    synthesis: Layers
    mapping: Layers | None
    image_shape: tuple[int, int, int] | None = None
    means: Tensor | None = None  # (classes or 1, dim), where truncation moves to; measured when first needed
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    def latents(self, z: Tensor, labels: Labels, truncation: float) -> Latents:
        """(n, z) -> (n, dim), truncated: towards the mean latent of the class in w, towards zero in z."""
        if self.space == "z" or self.mapping is None:
            return z * truncation if truncation != 1 else z
        w = self._mapped(z, labels)
        if truncation == 1:
            return w
        if self.means is None:
            self.means = self._measure_means()
        mean = self.means[labels if len(self.means) > 1 else torch.zeros_like(labels)]
        return mean + truncation * (w - mean)

    def images(self, latents: Latents, labels: Labels) -> Images:
        low, high = self.output_range
        return ((self.raw(latents, labels) - low) / (high - low)).clamp(0, 1)

    def clamped(self, latents: Latents, labels: Labels) -> float:
        low, high = self.output_range
        raw, margin = self.raw(latents, labels), OVERSHOOT * (high - low)
        return float(((raw < low - margin) | (raw > high + margin)).float().mean())

    def raw(self, latents: Latents, labels: Labels) -> Tensor:
        """Points of the space walked -> images (n, c, h, w) as the network gives them."""
        if self.space == "z" and self.mapping is not None:
            latents = self.mapping(latents, labels)
        out = self.synthesis(latents, labels)
        if self.image_shape and isinstance(out, Tensor):
            out = out.reshape(len(out), *self.image_shape)
        return out

    def _mapped(self, z: Tensor, labels: Labels) -> Latents:
        assert_mapping = self.mapping
        if assert_mapping is None:
            raise ModelError(f"the generator {self.name} has no mapping; its space is z")
        w = assert_mapping(z, labels)
        if w.ndim == 2:
            return w
        return w.flatten(1) if self.space == "w+" else w[:, 0]

    def _measure_means(self) -> Tensor:
        """The mean mapped latent of every class, over fixed seeds of their own."""
        with torch.no_grad():
            z = torch.from_numpy(np.stack([np.random.RandomState(s).randn(self.z_dim) for s in MEAN_SEEDS]).astype(np.float32))
            if self.latent == "uniform":
                rows = [2 * np.random.RandomState(s).rand(self.z_dim) - 1 for s in MEAN_SEEDS]
                z = torch.from_numpy(np.stack(rows).astype(np.float32))
            z = z.to(self.device)
            means = []
            for c in range(max(1, len(self.class_names))):
                labels = torch.full((len(z),), c, dtype=torch.long, device=self.device)
                parts = [self._mapped(a, b) for a, b in zip(z.split(512), labels.split(512), strict=True)]
                means.append(torch.cat(parts).mean(0))
            return torch.stack(means)


def check_images(generator: LoadedGenerator) -> tuple[int, int, int]:
    """Runs a generator on a few seeds and returns its images' (c, h, w).

    Raises:
        ModelError: it fails, or its images have the wrong shape, hold NaN, or lie outside the output range.
    """
    n = 8
    z = torch.from_numpy(np.stack([np.random.RandomState(2**31 + s).randn(generator.z_dim) for s in range(n)]).astype(np.float32))
    z = z.clamp(-1, 1) if generator.latent == "uniform" else z
    device = getattr(generator, "device", torch.device("cpu"))
    labels = torch.arange(n, device=device) % max(1, len(generator.class_names))
    try:
        with torch.no_grad():
            latents = generator.latents(z.to(device), labels, 1.0)
            raw = generator.raw(latents, labels)  # type: ignore[attr-defined]
    except ModelError:
        raise
    # Somebody else's network: whatever it raises is shown as its own.
    except Exception as error:
        reason = str(error).strip().splitlines()
        raise ModelError(
            f"the generator {generator.name} failed on {n} latents of size {generator.z_dim}: {type(error).__name__}: "
            f"{reason[-1] if reason else ''}; check latent_dim, classes, space and mapping"
        ) from error
    if not isinstance(raw, Tensor):
        raise ModelError(f"the generator {generator.name} gives {type(raw).__name__}; a tensor (n, c, h, w) is needed")
    shape = tuple(raw.shape)
    if len(shape) != 4 or shape[0] != n or shape[1] not in (1, 3):
        raise ModelError(
            f"the generator {generator.name} gives {shape} for {n} latents; (n, c, h, w) with 1 or 3 channels is needed"
            + ("; give image_shape: [c, h, w] for flat outputs" if len(shape) == 2 else "")
        )
    if not bool(torch.isfinite(raw).all()):
        raise ModelError(f"the generator {generator.name} gives images that hold NaN or infinity")
    share = generator.clamped(latents, labels)
    if share > MOST_CLAMPED:
        low, high = generator.output_range  # type: ignore[attr-defined]
        raise ModelError(
            f"the generator {generator.name} gives values from {float(raw.min()):.3g} to {float(raw.max()):.3g}, and {share:.0%} of its "
            f"pixels lie outside output_range [{low:g}, {high:g}]; set output_range to what the network was trained on"
        )
    return shape[1], shape[2], shape[3]
