"""Pixels as a feature: of the whole image or a region, in colour or gray, at all scales or only the coarse or the fine ones.

The whole image is filtered first, then a region's pixels are weighted. Near the region's border they therefore hold some of what
lies beyond it; region.py says how much, and how to keep it out.
"""

from __future__ import annotations

from typing import ClassVar, Literal

from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from reds_core.features.filters import Sigma, filtered
from reds_core.features.region import EVERYWHERE, PixelWeights, Region, negate_mistakes
from reds_core.models.config import Access, Config
from reds_core.types import Feature, Features, Images


class Pixels(Config):
    """Pixel values, of the whole image or of a region."""

    kind: Literal["pixels"]
    in_pixels: ClassVar[tuple[str, ...]] = ("lowpass", "highpass")
    region: Region | None = Field(None, description="Where to look; everywhere if absent.")
    negate: bool = Field(False, description="Look everywhere but in the region.")
    gray: bool = Field(False, description="Look at brightness only.")
    lowpass: Sigma | None = Field(
        None, description="Keep what is coarser than this many pixels (the sigma of a Gaussian); all scales if absent."
    )
    highpass: Sigma | None = Field(
        None, description="Keep what is finer than this many pixels (the sigma of a Gaussian); all scales if absent."
    )

    def mistakes(self) -> list[str]:
        return negate_mistakes(self.region, self.negate)

    def load(self, access: Access, shape: tuple[int, int, int]) -> Feature:
        """Returns the feature for images of `shape` (c, h, w)."""
        return _PixelFeature(self, access, shape)


class _PixelFeature:
    names: tuple[str, ...] = ()
    unit = "pixel values 0 to 1 (L2)"

    def __init__(self, config: Pixels, access: Access, shape: tuple[int, int, int]) -> None:
        self.config = config
        self.region = PixelWeights(config.region or EVERYWHERE, config.negate, access, shape)
        self.at = self.fixed = None
        if config.region and self.region.fixed is not None:
            weights = self.region.fixed.flatten()
            # Pixels of weight zero are left out, so that a small region stays a small feature.
            self.at = weights.nonzero().squeeze(1)
            self.fixed = weights[self.at]

    def bind(self, images: Images) -> Float[Tensor, "n 1 h w"] | None:
        return self.region.bind(images)

    def __call__(self, images: Images, bound: Float[Tensor, "n 1 h w"] | None) -> Features:
        x = filtered(images, self.config.gray, self.config.lowpass, self.config.highpass)
        if self.at is not None and self.fixed is not None:
            return (x.flatten(2)[:, :, self.at] * self.fixed).flatten(1)
        return (x * self.region.weights(images, bound)).flatten(1)
