"""What every generator has in common: a mapping to the space walked, truncation, and images scaled to [0, 1].

seed --draw--> z --latents--> a point of the space walked --images--> an image
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Literal

import numpy as np
import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from reds_core.errors import ModelError, described
from reds_core.models.answers import TRIED, check_alike, frozen_sizes, single, too_large
from reds_core.models.config import Count, Number
from reds_core.types import Images, Labels, Latents, Rows

OVERSHOOT = 0.02  # of the output range: a trained network overshoots a flat background by a little, in the right range too
MOST_CLAMPED = 0.2  # of the pixels
FIRST_REFERENCE_SEED = 2**31  # seeds from here on belong to no run: spreads and means must not change with its length
MEAN_SEEDS = range(FIRST_REFERENCE_SEED, FIRST_REFERENCE_SEED + 4096)

Size = Annotated[Count, Field(ge=1)]
PixelRange = tuple[Number, Number]  # [lo, hi] of a network's pixel values

Layers = Callable[[Tensor, Labels], Tensor]  # a network, or a part of one
Truth = Callable[[Latents, Labels], dict[str, Tensor]]


@dataclass
class Walkable:
    """A generator on one device.

    `mapping` is z [, class] -> w, or None; `synthesis` goes from the space walked to raw images. In `w+`, a point is `rows` rows of
    w, one after the other. In `w`, a mapping that returns (n, rows, w) is walked by its first row.
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
    rows: int = 1  # of w in a point: more than one in w+
    image_shape: tuple[int, int, int] | None = None
    truncation: float = 1.0
    means: dict[int, Tensor] = field(default_factory=dict)  # class -> the mapping's mean, (w,) or (rows, w), once it is needed
    style_weight: Float[Tensor, "_k dim"] | None = None  # all weights that w meets first, where they are known
    truth: Truth | None = None  # the true factors of points, (n, k) by group, where a generator knows them
    at_truncation: Callable[[float], Layers] | None = None  # the synthesis for a psi, where statistics in it depend on psi
    subspace: int | None = None  # directions that a seed is walked in, found from its image; None: as suits the space
    coarse: Walkable | None = None  # the same with smaller images, by which trajectories are walked
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    batch: int = 512  # latents that are mapped at once: a mapping takes little memory beside the images

    def in_batches(self, most: int) -> Walkable:
        """Returns the same generator, which maps at most so many latents at once."""
        return replace(self, batch=max(1, min(self.batch, most)))

    @property
    def title(self) -> str:
        """What it is called in a message."""
        return "the generator" if self.name.lower() == "generator" else f"the generator {self.name}"

    def truncated(self, psi: float) -> Walkable:
        """Returns the same generator, truncated: towards the mean w of the class where there is a mapping, otherwise towards 0."""
        synthesis = self.synthesis if self.at_truncation is None else self.at_truncation(psi)
        return replace(self, truncation=psi, synthesis=synthesis, coarse=self.coarse and self.coarse.truncated(psi))

    def latents(self, z: Float[Tensor, "n z"], labels: Labels) -> Latents:
        """Returns the points of the space walked for z. Walked in z before a mapping, z stays as it is: its w is truncated."""
        if self.mapping is None:
            return z * self.truncation if self.truncation != 1 else z
        if self.space == "z":
            return z
        w = self._mapped(z, labels)
        return w if w.ndim == 2 else w.flatten(1) if self.space == "w+" else w[:, 0]

    def images(self, latents: Latents, labels: Labels) -> Images:
        """Returns the images of points of the space walked, scaled to [0, 1] and clamped."""
        low, high = self.output_range
        return ((self.raw(latents, labels) - low) / (high - low)).clamp(0, 1)

    def clamped(self, raw: Float[Tensor, "n c h w"]) -> float:
        """Returns the share of raw pixels that lie outside the output range by more than a trained network's overshoot."""
        low, high = self.output_range
        margin = OVERSHOOT * (high - low)
        return float(((raw < low - margin) | (raw > high + margin)).double().mean())

    def raw(self, latents: Latents, labels: Labels) -> Tensor:
        """Returns images (n, c, h, w) as the network makes them. Raises ModelError if they are not a tensor."""
        if self.space == "z" and self.mapping is not None:
            latents = self._mapped(latents, labels)
        out = self.synthesis(latents, labels)
        if not isinstance(out, Tensor):
            raise ModelError(f"{self.title} returns {type(out).__name__}; a tensor (n, c, h, w) is needed")
        # Images with four axes are left as they are: reshaping (n, h, w, c) would scramble them.
        if self.image_shape and out.ndim != 4:
            out = out.reshape(len(out), *self.image_shape)
        return single(out, self.title)

    def _mapped(self, z: Float[Tensor, "n z"], labels: Labels) -> Float[Tensor, "n ..."]:
        """Returns what the mapping returns, (n, w) or (n, rows, w), truncated."""
        if self.mapping is None:
            raise ModelError(f"{self.title} has no mapping; its space is z")
        pairs = zip(z.split(self.batch), labels.split(self.batch), strict=True)
        w = single(torch.cat([self.mapping(a, b) for a, b in pairs]), "generator.mapping")
        if self.truncation == 1:
            return w
        mean = torch.stack([self._mean(c) for c in labels.tolist()])
        return mean + self.truncation * (w - mean)

    def _mean(self, label: int) -> Tensor:
        """Returns the mapping's mean output over MEAN_SEEDS, (w,) or (rows, w), for a class where there are classes."""
        label = label if self.class_names else 0
        if label not in self.means and self.mapping is not None:
            with torch.no_grad():
                z = draw(MEAN_SEEDS, self.z_dim, self.latent).to(self.device)
                labels = torch.full((len(z),), label, dtype=torch.long, device=self.device)
                parts = [self.mapping(a, b) for a, b in zip(z.split(self.batch), labels.split(self.batch), strict=True)]
            self.means[label] = single(torch.cat(parts), "generator.mapping").mean(0)
        return self.means[label]


def draw(seeds: Sequence[int], size: int, latent: Literal["normal", "uniform"]) -> Float[Tensor, "n z"]:
    """Returns the sampled latents of seeds, float32, by the convention of the published tools.

    normal: RandomState(seed).randn(size); uniform: 2 * RandomState(seed).rand(size) - 1.
    """
    state, rows = np.random.RandomState(0), []  # seeded anew for every row: making one takes 30 times as long
    for seed in seeds:
        state.seed(seed)
        rows.append(state.randn(size) if latent == "normal" else 2 * state.rand(size) - 1)
    return torch.from_numpy(np.stack(rows).astype(np.float32))


def by_rows(synthesis: Layers, rows: int, repeat: bool) -> Layers:
    """Returns a synthesis of (n, rows, w) as one of (n, w), each row repeated, or of (n, rows * w), the rows side by side."""

    def call(x: Tensor, labels: Labels) -> Tensor:
        stacked = x[:, None].expand(-1, rows, -1) if repeat else x.unflatten(1, (rows, -1))
        return synthesis(stacked, labels)

    return call


def range_mistakes(output_range: PixelRange) -> list[str]:
    """Returns what is wrong with an output range."""
    low, high = output_range
    return [] if low < high else [f"output_range {list(output_range)} is empty; it is [lo, hi]"]


def check_images(generator: Walkable, most: int = TRIED) -> tuple[int, int, int]:
    """Runs a generator on a few seeds, at most so many at once, and returns its images' (c, h, w).

    Raises:
        ModelError: it fails, or its images differ from call to call or with the batch, have the wrong shape, hold NaN or infinity,
            or lie outside the output range.
    """
    n = max(1, min(TRIED, most))
    known = max(2, n)  # one that is tried alone is tried beside another too
    z = draw(MEAN_SEEDS[:known], generator.z_dim, generator.latent).to(generator.device)
    # From the first class to the last; the last one if only one is tried.
    last = max(0, len(generator.class_names) - 1)
    labels = torch.linspace(last, 0, known, device=generator.device).long()
    labels = labels if n == 1 else labels.flip(0)
    beside = replace(generator, batch=max(2, generator.batch))

    def rendered(rows: Rows) -> Tensor:
        with torch.no_grad():
            return beside.raw(beside.latents(z[rows], labels[rows]), labels[rows])

    try:
        raw = _tried(generator, rendered, n)
    except torch.OutOfMemoryError:
        if n == 1:
            raise ModelError(too_large(generator.device)) from None
        return check_images(generator, n // 2)
    shape = _checked_shape(generator, tuple(raw.shape), n)
    check_alike(generator.title, rendered, raw)
    if not bool(torch.isfinite(raw).all()):
        raise ModelError(f"{generator.title} returns images that hold NaN or infinity")
    share = generator.clamped(raw)
    if share > MOST_CLAMPED:
        low, high = generator.output_range
        raise ModelError(
            f"{generator.title} returns values from {float(raw.min()):.3g} to {float(raw.max()):.3g}, and "
            f"{share:.0%} of its pixels lie outside output_range [{low:g}, {high:g}]; set it to the range that the network was "
            "trained on"
        )
    return shape


def _tried(generator: Walkable, rendered: Callable[[Rows], Tensor], n: int) -> Tensor:
    """Returns the raw images of n latents. Raises ModelError if the generator fails on them, and says if it takes other numbers."""
    name = generator.title
    try:
        raw = rendered(torch.arange(n, device=generator.device))
    except (ModelError, torch.OutOfMemoryError):
        raise
    # A user's network may raise anything.
    except Exception as error:
        frozen = frozen_sizes(rendered, n, generator.device)
        cure = frozen or "check latent_dim, latent_axes, classes, space and mapping"
        raise ModelError(f"{name} failed on {n} latents of size {generator.z_dim}: {described(error, -1)}; {cure}") from error
    if raw.ndim == 4 and len(raw) != n and (frozen := frozen_sizes(rendered, n, generator.device)):
        raise ModelError(f"{name} returns {tuple(raw.shape)} for {n} latents; {frozen}")
    return raw


def _checked_shape(generator: Walkable, shape: tuple[int, ...], n: int) -> tuple[int, int, int]:
    """Returns (c, h, w). Raises ModelError if `shape` is not (n, c, h, w) for n latents, or differs from `image_shape`."""
    if len(shape) != 4 or shape[0] != n or shape[1] not in (1, 3):
        raise ModelError(
            f"{generator.title} returns {shape} for {n} latents; (n, c, h, w) with 1 or 3 channels is needed"
            + ("; set image_shape: [c, h, w] for flat outputs" if len(shape) in (2, 3) else "")
        )
    if generator.image_shape and shape[1:] != generator.image_shape:
        raise ModelError(f"{generator.title} returns images {shape[1:]}, but image_shape is {generator.image_shape}")
    return shape[1], shape[2], shape[3]
