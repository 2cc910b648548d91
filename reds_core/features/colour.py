"""Colour as a feature: each channel's mean and standard deviation, over the image or a region of it."""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from reds_core.features.region import EVERYWHERE, PixelWeights, Region, negate_mistakes
from reds_core.models.config import Access, Config
from reds_core.types import Feature, Features, Images


class Colour(Config):
    """Every colour channel's mean and standard deviation, over the whole image or a region."""

    kind: Literal["colour"]
    region: Region | None = Field(None, description="Where to look; everywhere if absent.")
    negate: bool = Field(False, description="Look everywhere but in the region.")

    def mistakes(self) -> list[str]:
        return negate_mistakes(self.region, self.negate)

    def load(self, access: Access, shape: tuple[int, int, int]) -> Feature:
        """Returns the feature for images of `shape` (c, h, w)."""
        return _ColourFeature(self, access, shape)


class _ColourFeature:
    names: tuple[str, ...] = ()
    unit = "channel means and deviations, 0 to 1 (L2)"

    def __init__(self, config: Colour, access: Access, shape: tuple[int, int, int]) -> None:
        self.region = PixelWeights(config.region or EVERYWHERE, config.negate, access, shape)

    def bind(self, images: Images) -> Float[Tensor, "n 1 h w"] | None:
        return self.region.bind(images)

    def __call__(self, images: Images, bound: Float[Tensor, "n 1 h w"] | None) -> Features:
        weights = self.region.weights(images, bound)
        weights = weights / weights.sum((2, 3), keepdim=True)
        mean = (images * weights).sum((2, 3))
        variance = ((images - mean[:, :, None, None]).square() * weights).sum((2, 3))
        # The small constant keeps the derivative of the root finite on a flat image.
        return torch.cat([mean, (variance + 1e-8).sqrt()], 1)
