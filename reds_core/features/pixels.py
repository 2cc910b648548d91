"""Pixels as a feature: all of them or a region's, in colour or gray, of all scales or of coarse or fine ones alone.

lowpass s     a Gaussian of s pixels: what is coarser than s stays
highpass s    the image minus that Gaussian: what is finer than s stays
"""

from __future__ import annotations

from functools import cache
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from reds_core.features.region import Region, load_segment, load_weights
from reds_core.models.config import Access, Config, Number
from reds_core.types import Feature, Images

Sigma = Annotated[Number, Field(gt=0)]
LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601


class Pixels(Config):
    """Pixel values, of the whole image or of a region."""

    kind: Literal["pixels"]
    region: Region | None = Field(None, description="Where to look; everywhere if absent.")
    negate: bool = Field(False, description="Everywhere but in the region.")
    gray: bool = Field(False, description="Brightness only.")
    lowpass: Sigma | None = Field(None, description="Keep what is coarser than this many pixels (Gaussian sigma).")
    highpass: Sigma | None = Field(None, description="Keep what is finer than this many pixels (Gaussian sigma).")

    def mistakes(self) -> list[str]:
        """What a field's own type cannot see."""
        if self.negate and not self.region:
            return ["negate needs a region to negate"]
        return [] if not self.region else [f"region: {m}" for m in self.region.mistakes()]

    def load(self, access: Access, shape: tuple[int, int, int]) -> Feature:
        return _PixelFeature(self, access, shape)


class _PixelFeature:
    names: tuple[str, ...] = ()
    unit = "pixel values 0 to 1 (L2)"

    def __init__(self, config: Pixels, access: Access, shape: tuple[int, int, int]) -> None:
        self.config = config
        self.segment = None
        self.weights = self.where = None
        if config.region and config.region.segment:
            self.segment = load_segment(config.region.segment, access)
        elif config.region:
            weights = load_weights(config.region, access, shape)
            weights = (1 - weights if config.negate else weights).flatten()
            # Pixels of weight zero are left out, so that a small region stays a small feature.
            self.where = weights.nonzero().squeeze(1)
            self.weights = weights[self.where]

    def bind(self, images: Images) -> Tensor | None:
        if not self.segment:
            return None
        found = self.segment(images)
        return 1 - found if self.config.negate else found

    def __call__(self, images: Images, bound: Tensor | None) -> Tensor:
        x = filtered(images, self.config.gray, self.config.lowpass, self.config.highpass)
        if bound is not None:
            x = x * bound
        x = x.flatten(2)
        if self.where is not None and self.weights is not None:
            x = x[:, :, self.where] * self.weights
        return x.flatten(1)


def filtered(images: Images, gray: bool, lowpass: float | None, highpass: float | None) -> Images:
    """Images with only the asked-for colours and scales left."""
    x = to_gray(images) if gray else images
    if lowpass is not None:
        x = blurred(x, lowpass)
    if highpass is not None:
        x = x - blurred(x, highpass)
    return x


def to_gray(images: Images) -> Images:
    """(n, 3, h, w) -> (n, 1, h, w) brightness; other channel counts: the mean."""
    if images.shape[1] != 3:
        return images.mean(1, keepdim=True)
    return (images * images.new_tensor(LUMA)[:, None, None]).sum(1, keepdim=True)


def blurred(images: Images, sigma: float) -> Images:
    """A Gaussian blur that keeps the mean of a constant image at the border, as two matrix products.

    Matrices, not a convolution: any sigma fits any image, and every kind of derivative passes through a product.
    """
    rows = _gaussian(images.shape[2], sigma, images.device)
    columns = _gaussian(images.shape[3], sigma, images.device)
    return rows @ images @ columns.T


@cache
def _gaussian(size: int, sigma: float, device: torch.device) -> Tensor:
    at = torch.arange(size, dtype=torch.float64)
    weights = torch.exp(-0.5 * ((at[:, None] - at[None]) / sigma) ** 2)
    return (weights / weights.sum(1, keepdim=True)).float().to(device)
