"""Images with only some of their colours and scales left: what several features look through.

lowpass s     a Gaussian blur of s pixels: keeps what is coarser than s
highpass s    the image minus that blur: keeps what is finer than s
"""

from __future__ import annotations

from functools import cache
from typing import Annotated

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from reds_core.models.config import Number
from reds_core.types import Images

Sigma = Annotated[Number, Field(gt=0)]
LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601


def filtered(images: Images, gray: bool, lowpass: float | None, highpass: float | None) -> Float[Tensor, "n _c h w"]:
    """Returns images with only the given colours and scales left; sigmas in pixels."""
    x = to_gray(images) if gray else images
    if lowpass is not None:
        x = blurred(x, lowpass)
    if highpass is not None:
        x = x - blurred(x, highpass)
    return x


def to_gray(images: Images) -> Float[Tensor, "n 1 h w"]:
    """Returns the brightness of colour images, and the mean of any other number of channels."""
    if images.shape[1] != 3:
        return images.mean(1, keepdim=True)
    return (images * images.new_tensor(LUMA)[:, None, None]).sum(1, keepdim=True)


def blurred(images: Images, sigma: float) -> Images:
    """Returns images blurred by a Gaussian of `sigma` pixels. At the border, it keeps the mean of a constant image.

    Two matrix products, not a convolution: any sigma fits any image, and every kind of derivative passes through a product.
    """
    rows = _gaussian(images.shape[2], sigma, images.device)
    columns = _gaussian(images.shape[3], sigma, images.device)
    return rows @ images @ columns.T


@cache
def _gaussian(size: int, sigma: float, device: torch.device) -> Float[Tensor, "size size"]:
    at = torch.arange(size, dtype=torch.float64)
    weights = torch.exp(-0.5 * ((at[:, None] - at[None]) / sigma) ** 2)
    return (weights / weights.sum(1, keepdim=True)).float().to(device)
