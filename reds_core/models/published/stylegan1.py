"""StyleGAN in plain PyTorch (Karras et al., "A Style-Based Generator Architecture for Generative Adversarial Networks", CVPR 2019).

A constant of 4x4, then a block for every doubling of the size, of two layers each. A layer is a convolution, fixed noise and a
bias, an activation, and a style: w scales and shifts the channels, once each has been brought to mean 0 and variance 1 over the
image.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from reds_core.models.config import Config
from reds_core.models.published.limits import Classes, Layers, Size
from reds_core.models.published.style import EPSILON, Mapping


class StyleGan1(Config):
    """The architecture of a StyleGAN: what its file of weights does not say."""

    layout: ClassVar[torch.memory_format] = torch.channels_last

    kind: Literal["stylegan1"]
    z_dim: Size
    w_dim: Size
    classes: Classes
    mapping_layers: Layers
    channels: Annotated[tuple[Size, ...], Field(min_length=1, max_length=12)] = Field(
        description="The channels of each block, from 4x4 pixels up."
    )
    colours: Size

    @property
    def resolution(self) -> int:
        """The side of an image, in pixels."""
        return 4 << (len(self.channels) - 1)

    @property
    def rows(self) -> int:
        """How many rows of w the synthesis takes."""
        return 2 * len(self.channels)

    def build(self) -> nn.ModuleDict:
        """Returns `mapping` and `synthesis`, without their weights."""
        return nn.ModuleDict({"mapping": self.mapping(), "synthesis": Synthesis(self)})

    def mapping(self) -> Mapping:
        """Returns the mapping, without its weights."""
        return Mapping(self.z_dim, self.w_dim, self.classes, self.mapping_layers, self.z_dim, joint=True)


class Synthesis(nn.Module):
    """Maps (n, rows, w) to (n, colours, size, size) images, roughly in [-1, 1]."""

    def __init__(self, a: StyleGan1) -> None:
        super().__init__()
        self.const = nn.Parameter(torch.zeros(a.channels[0], 4, 4))
        pairs = [(a.channels[0], a.channels[0]), *pairwise(a.channels)]
        # The first layer has the constant in place of a convolution; the first of each other block doubles.
        self.convs = nn.ModuleList(nn.Conv2d(c, o, 3, padding=1, bias=False) for i, o in pairs for c in (i, o))[1:]
        self.styles = nn.ModuleList(Style(a.w_dim, o, 4 << k) for k, (_, o) in enumerate(pairs) for _ in range(2))
        self.rgb = nn.Conv2d(a.channels[-1], a.colours, 1)

    def forward(self, w: Tensor) -> Tensor:
        x = self.const.expand(len(w), -1, -1, -1)
        for k, (style, row) in enumerate(zip(self.styles, w.unbind(1), strict=True)):
            if k:
                doubles = k % 2 == 0
                x = self.convs[k - 1](F.interpolate(x, scale_factor=2.0) if doubles else x)
                x = blurred(x) if doubles else x
            x = style(x, row)
        image: Tensor = self.rgb(x)
        return image


class Style(nn.Module):
    """Adds noise and a bias, applies an activation, normalises every channel, and scales and shifts it by w."""

    def __init__(self, w_dim: int, channels: int, size: int) -> None:
        super().__init__()
        self.affine = nn.Linear(w_dim, 2 * channels)
        self.bias = nn.Parameter(torch.zeros(channels, 1, 1))
        self.strength = nn.Parameter(torch.zeros(channels, 1, 1))
        self.noise: Tensor
        self.register_buffer("noise", torch.zeros(size, size))

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        x = F.leaky_relu(x + self.noise * self.strength + self.bias, 0.2)
        x = x - x.mean((2, 3), keepdim=True)
        x = x * (x.square().mean((2, 3), keepdim=True) + EPSILON).rsqrt()
        scale, shift = self.affine(w)[:, :, None, None].chunk(2, 1)
        y: Tensor = x * scale + shift
        return y


def blurred(x: Tensor) -> Tensor:
    """Filters (n, c, s, s) by [1, 2, 1] in both directions, with black around the image."""
    taps = torch.tensor([1.0, 2.0, 1.0], dtype=x.dtype, device=x.device) / 4
    return F.conv2d(x, taps.outer(taps).expand(x.shape[1], 1, 3, 3), padding=1, groups=x.shape[1])
