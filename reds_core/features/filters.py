"""Images with only some of their colours and scales left: what several features look through.

lowpass s     a Gaussian of s pixels: what is coarser than s stays
highpass s    the image minus that Gaussian: what is finer than s stays
"""

from __future__ import annotations

from functools import cache
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from reds_core.models.config import Number
from reds_core.types import Images

Sigma = Annotated[Number, Field(gt=0)]
LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601


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
