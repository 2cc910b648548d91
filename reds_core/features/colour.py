"""Colour as a feature: each channel's mean and standard deviation, over the image or a region of it."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from reds_core.features.region import Region, load_segment, load_weights
from reds_core.models.config import Access, Config
from reds_core.types import Feature, Images


class Colour(Config):
    """Mean and spread of every colour channel."""

    kind: Literal["colour"]
    region: Region | None = Field(None, description="Where to look; everywhere if absent.")
    negate: bool = Field(False, description="Everywhere but in the region.")

    def mistakes(self) -> list[str]:
        """What a field's own type cannot see."""
        if self.negate and not self.region:
            return ["negate needs a region to negate"]
        return [] if not self.region else [f"region: {m}" for m in self.region.mistakes()]

    def load(self, access: Access, shape: tuple[int, int, int]) -> Feature:
        return _ColourFeature(self, access, shape)


class _ColourFeature:
    names: tuple[str, ...] = ()
    unit = "channel means and deviations, 0 to 1 (L2)"

    def __init__(self, config: Colour, access: Access, shape: tuple[int, int, int]) -> None:
        self.negate = config.negate
        self.segment = None
        self.weights = torch.ones(1, 1, 1, 1, device=access.device).expand(1, 1, *shape[1:])
        if config.region and config.region.segment:
            self.segment = load_segment(config.region.segment, access)
        elif config.region:
            weights = load_weights(config.region, access, shape)[None, None]
            self.weights = 1 - weights if config.negate else weights

    def bind(self, images: Images) -> Tensor | None:
        if not self.segment:
            return None
        found = self.segment(images)
        return 1 - found if self.negate else found

    def __call__(self, images: Images, bound: Tensor | None) -> Tensor:
        weights = self.weights if bound is None else bound
        # A segment that the seed does not show has no colour: 0 / 0 makes the row non-finite, which is a reject.
        weights = weights / weights.sum((2, 3), keepdim=True)
        mean = (images * weights).sum((2, 3))
        variance = ((images - mean[:, :, None, None]).square() * weights).sum((2, 3))
        # The small constant keeps the derivative of the root finite on a flat image.
        return torch.cat([mean, (variance + 1e-8).sqrt()], 1)
