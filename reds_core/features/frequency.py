"""A band of the Fourier transform as a feature: the closed-form example of the REDs paper (arXiv 2201.10423).

The coefficients F(u, v) of the orthonormal two-dimensional transform with low <= sqrt(u^2 + v^2) < high, in cycles per pixel,
as real and imaginary parts. By Parseval, a distance between two such vectors is the L2 distance between the band-passed images.
0.5 is the Nyquist limit along an axis. A band that ends there includes the corners beyond it, so that [0, a) and [a, 0.5]
together make up the whole image.
"""

from __future__ import annotations

import math
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from reds_core.errors import ModelError
from reds_core.features.filters import to_gray
from reds_core.models.config import Access, Config, Number
from reds_core.types import Feature, Features, Images

CyclesPerPixel = Annotated[Number, Field(ge=0, le=0.5)]


class Frequency(Config):
    """The Fourier coefficients of one band of spatial frequencies."""

    kind: Literal["frequency"]
    in_pixels: ClassVar[tuple[str, ...]] = ("low", "high")
    low: CyclesPerPixel = Field(description="The lower edge, in cycles per pixel, inclusive; 0 is the mean brightness.")
    high: CyclesPerPixel = Field(description="The upper edge, in cycles per pixel, exclusive; 0.5 includes the finest detail.")
    gray: bool = Field(False, description="Look at brightness only.")

    def mistakes(self) -> list[str]:
        return [] if self.low < self.high else [f"the band from low {self.low:g} to high {self.high:g} is empty"]

    def load(self, access: Access, shape: tuple[int, int, int]) -> Feature:
        """Returns the feature for images of `shape` (c, h, w). Raises ModelError if the band is empty at that size."""
        return _Band(self, access, shape)


class _Band:
    names: tuple[str, ...] = ()
    unit = "band-passed pixel values (L2)"

    def __init__(self, config: Frequency, access: Access, shape: tuple[int, int, int]) -> None:
        _, h, w = shape
        self.gray = config.gray
        u, v = torch.fft.fftfreq(h)[:, None], torch.fft.rfftfreq(w)[None]
        radius = torch.sqrt(u**2 + v**2)
        inside = (radius >= config.low) & ((radius < config.high) | (config.high == 0.5))
        if not bool(inside.any()):
            raise ModelError(
                f"no Fourier coefficient of a {h}x{w} image lies from {config.low:g} to {config.high:g} cycles per pixel; "
                f"they are 1/{max(h, w)} apart: widen the band"
            )
        # A real transform leaves out the mirror image of the half-plane that it keeps: all that is kept, but for the line that
        # mirrors itself, counts twice.
        twice = torch.full_like(radius, math.sqrt(2))
        twice[:, 0] = 1
        if w % 2 == 0:
            twice[:, -1] = 1
        self.where = inside.flatten().nonzero().squeeze(1).to(access.device)
        self.weights = twice.flatten().to(access.device)[self.where]

    def bind(self, images: Images) -> None:
        return None

    def __call__(self, images: Images, bound: Tensor | None) -> Features:
        x = to_gray(images) if self.gray else images
        coefficients = torch.fft.rfft2(x, norm="ortho").flatten(2)[:, :, self.where] * self.weights
        return torch.view_as_real(coefficients).flatten(1)
