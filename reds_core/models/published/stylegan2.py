"""StyleGAN2 in plain PyTorch (Karras et al., "Analyzing and Improving the Image Quality of StyleGAN", CVPR 2020).

A constant of 4x4 (or of another size, for images that are not square), then a block for every doubling of the size: a convolution
that doubles, one that does not, and a map to colours.
`form` says how the blocks add up: "skip" sums the colours of all blocks, so that a smaller image is available part of the way, for
less work; "resnet" adds each block's input to its output; "orig" does neither.
"""

from __future__ import annotations

import copy
import math
from itertools import pairwise
from typing import Annotated, ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor, nn

from reds_core.models.config import Config
from reds_core.models.published.limits import Classes, Layers, Positive, Size
from reds_core.models.published.style import Mapping, clamped, leaky, modulation

MOST_PIXELS = 8192  # a side of an image


class StyleGan2(Config):
    """The architecture of a StyleGAN2: what its file of weights does not say."""

    layout: ClassVar[torch.memory_format] = torch.channels_last

    kind: Literal["stylegan2"]
    z_dim: Size
    w_dim: Size
    classes: Classes
    mapping_layers: Layers
    channels: Annotated[tuple[Size, ...], Field(min_length=1, max_length=12)] = Field(
        description="The channels of each block, from 4x4 pixels up."
    )
    colours: Size
    form: Literal["skip", "resnet", "orig"]
    clamp: Positive | None = Field(description="Activations are clamped to +-this; not at all if null.")
    base: tuple[Size, Size] = Field((4, 4), description="The height and width of the constant, in pixels.")
    class_dim: Size | None = Field(None, description="The size of a class's vector; w_dim if null.")
    joint: bool = Field(False, description="Whether z and the class's vector are brought to unit length together.")

    @model_validator(mode="after")
    def _size(self) -> StyleGan2:
        if max(self.size) > MOST_PIXELS:
            raise ValueError(f"images of {self.size[0]}x{self.size[1]} pixels are larger than {MOST_PIXELS}")
        return self

    @property
    def resolution(self) -> int:
        """The height of an image, in pixels."""
        return self.size[0]

    @property
    def size(self) -> tuple[int, int]:
        """The height and width of an image, in pixels."""
        return self.base[0] << (len(self.channels) - 1), self.base[1] << (len(self.channels) - 1)

    @property
    def rows(self) -> int:
        """How many rows of w the synthesis takes."""
        return 2 * len(self.channels)

    def build(self) -> nn.ModuleDict:
        """Returns `mapping` and `synthesis`, without their weights."""
        return nn.ModuleDict({"mapping": self.mapping(), "synthesis": Synthesis(self)})

    def mapping(self) -> Mapping:
        """Returns the mapping, without its weights."""
        return Mapping(self.z_dim, self.w_dim, self.classes, self.mapping_layers, self.class_dim, self.joint)


class Synthesis(nn.Module):
    """Maps (n, rows, w) to (n, colours, h, w) images, roughly in [-1, 1]."""

    def __init__(self, a: StyleGan2) -> None:
        super().__init__()
        self.form = a.form
        self.const = nn.Parameter(torch.zeros(a.channels[0], *a.base))
        pairs = [(0, a.channels[0]), *pairwise(a.channels)]
        self.blocks = nn.ModuleList(Block(a, i, o, k, a.form == "skip" or k == len(pairs) - 1) for k, (i, o) in enumerate(pairs))

    def forward(self, w: Tensor) -> Tensor:
        x = self.const.expand(len(w), -1, -1, -1)
        image: Tensor | None = None
        for k, block in enumerate(self.blocks):
            # A block's colours share their row of w with the next block's first convolution.
            x, image = block(x, image, w[:, max(0, 2 * k - 1) :])
        if image is None:
            raise ValueError("a synthesis without colours")
        return image

    def upto(self, count: int) -> Synthesis:
        """Returns the part of this network with `count` blocks. It shares the weights, and ignores the last rows of w."""
        part = copy.copy(self)
        part._modules = self._modules | {"blocks": self.blocks[:count]}
        return part


class Block(nn.Module):
    """Maps features (n, i, h, w) to (n, o, 2h, 2w), and adds to the image so far. The first block starts from the constant."""

    def __init__(self, a: StyleGan2, fan_in: int, fan_out: int, k: int, rgb: bool) -> None:
        super().__init__()
        size = (a.base[0] << k, a.base[1] << k)
        self.residual = a.form == "resnet" and k > 0
        self.up = StyledConv(a, fan_in, fan_out, size, doubles=True) if k else None
        self.conv = StyledConv(a, fan_out, fan_out, size, doubles=False)
        self.rgb = ToColours(a, fan_out) if rgb else None
        self.skip = nn.Conv2d(fan_in, fan_out, 1, bias=False) if self.residual else None

    def forward(self, x: Tensor, image: Tensor | None, w: Tensor) -> tuple[Tensor, Tensor | None]:
        rows = iter(w.unbind(1))
        around = doubled(self.skip(x)) * math.sqrt(0.5) if self.skip is not None else None
        if self.up is not None:
            x = self.up(x, next(rows))
        x = self.conv(x, next(rows), math.sqrt(0.5) if self.residual else 1.0)
        if around is not None:
            x = around + x
        if self.rgb is not None:
            colours = self.rgb(x, next(rows))
            image = colours if image is None else doubled(image) + colours
        return x, image


class StyledConv(nn.Module):
    """Applies a modulated 3x3 convolution, and adds a fixed image of noise and a bias, before an activation."""

    def __init__(self, a: StyleGan2, fan_in: int, fan_out: int, size: tuple[int, int], doubles: bool) -> None:
        super().__init__()
        self.doubles, self.clamp = doubles, a.clamp
        self.affine = nn.Linear(a.w_dim, fan_in)
        self.weight = nn.Parameter(torch.zeros(fan_out, fan_in, 3, 3))
        self.bias = nn.Parameter(torch.zeros(fan_out))
        self.noise: Tensor
        self.register_buffer("noise", torch.zeros(size))

    def forward(self, x: Tensor, w: Tensor, gain: float = 1.0) -> Tensor:
        before, after = modulation(self.affine(w), self.weight)
        x = x * before
        if self.doubles:
            x = blurred(F.conv_transpose2d(x, self.weight.transpose(0, 1), stride=2))
        else:
            x = F.conv2d(x, self.weight, padding=1)
        x = leaky(x * after + self.noise + self.bias[:, None, None]) * gain
        return clamped(x, None if self.clamp is None else self.clamp * gain)


class ToColours(nn.Module):
    """Applies a modulated 1x1 convolution to colours. Its scale is part of its affine map."""

    def __init__(self, a: StyleGan2, fan_in: int) -> None:
        super().__init__()
        self.clamp = a.clamp
        self.affine = nn.Linear(a.w_dim, fan_in)
        self.conv = nn.Conv2d(fan_in, a.colours, 1)

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        return clamped(self.conv(x * self.affine(w)[:, :, None, None]), self.clamp)


def blurred(x: Tensor) -> Tensor:
    """Filters what a transposed convolution of stride 2 returned by [1, 3, 3, 1] in both directions, to one pixel less."""
    taps = torch.tensor([1.0, 3.0, 3.0, 1.0], dtype=x.dtype, device=x.device) / 4
    kernel = taps.outer(taps).expand(x.shape[1], 1, 4, 4)
    return F.conv2d(x, kernel, padding=1, groups=x.shape[1])


def doubled(x: Tensor) -> Tensor:
    """Doubles the size by the same filter: bilinear interpolation, with black around the image."""
    return F.interpolate(F.pad(x, (1, 1, 1, 1)), scale_factor=2.0, mode="bilinear", align_corners=False)[:, :, 2:-2, 2:-2]
