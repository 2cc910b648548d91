"""FastGAN in plain PyTorch, as Projected GAN trains it.

Liu et al., "Towards Faster and Stabilized GAN Training for High-fidelity Few-shot Image Synthesis", ICLR 2021; Sauer et al.,
"Projected GANs Converge Faster", NeurIPS 2021.

z, at unit length, becomes 4x4 features, and blocks double their size: the nearest pixel, then one or two convolutions, each with a
gate (one half of its channels, times the sigmoid of the other half). From 64 to 512 pixels, features sixteen times smaller scale
the channels. Normalisations are fixed once trained: a scale and a shift of each channel, by the class where there are classes. The
noise of large networks was drawn anew for every image: there is none here.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from reds_core.models.config import Config
from reds_core.models.published.limits import Classes, Size
from reds_core.models.published.style import unit

FIRST_SCALED, LAST_SCALED = 64, 512  # the sizes, in pixels, that smaller features scale


class FastGan(Config):
    """The architecture of a FastGAN: what its file of weights does not say."""

    layout: ClassVar[torch.memory_format] = torch.channels_last

    kind: Literal["fastgan"]
    z_dim: Size
    classes: Classes
    channels: Annotated[tuple[Size, ...], Field(min_length=5, max_length=9)] = Field(
        description="The channels of each size, from 4x4 pixels up."
    )
    convolutions: Literal[1, 2] = Field(description="How many there are in a block: one in its lite form.")
    colours: Size

    @property
    def resolution(self) -> int:
        """The side of an image, in pixels."""
        return 4 << (len(self.channels) - 1)

    def build(self) -> nn.Module:
        """Returns the network, without its weights."""
        return Generator(self)


class Generator(nn.Module):
    """Maps (n, z) normal latents and (n,) class indices to (n, colours, size, size) images, roughly in [-1, 1]."""

    def __init__(self, a: FastGan) -> None:
        super().__init__()
        self.first = nn.ConvTranspose2d(a.z_dim, 2 * a.channels[0], 4)
        self.blocks = nn.ModuleList(Block(i, o, a.convolutions, a.classes) for i, o in pairwise(a.channels))
        scaled = [k for k in range(len(self.blocks)) if FIRST_SCALED <= 8 << k <= LAST_SCALED]
        self.scales = nn.ModuleDict({str(k): Scale(a.channels[k - 3], a.channels[k + 1]) for k in scaled})
        self.rgb = nn.Conv2d(a.channels[-1], a.colours, 3, padding=1)

    def forward(self, z: Tensor, labels: Tensor) -> Tensor:
        features = [F.glu(self.first(unit(z)[:, :, None, None]), 1)]
        for k, block in enumerate(self.blocks):
            x = block(features[-1], labels)
            features.append(x * self.scales[str(k)](features[k - 3]) if str(k) in self.scales else x)
        image: Tensor = self.rgb(features[-1])
        return image


class Block(nn.Module):
    """Maps (n, i, s, s) features and (n,) class indices to (n, o, 2s, 2s) features."""

    def __init__(self, fan_in: int, fan_out: int, convolutions: int, classes: int) -> None:
        super().__init__()
        fans = (fan_in, *[fan_out] * (convolutions - 1))
        self.layers = nn.ModuleList(Gated(fan, fan_out, classes) for fan in fans)

    def forward(self, x: Tensor, labels: Tensor) -> Tensor:
        x = F.interpolate(x, scale_factor=2.0)
        for layer in self.layers:
            x = layer(x, labels)
        return x


class Gated(nn.Module):
    """Applies a convolution, the scale and shift of the class, and a gate."""

    def __init__(self, fan_in: int, fan_out: int, classes: int) -> None:
        super().__init__()
        self.conditional = classes > 0
        self.conv = nn.Conv2d(fan_in, 2 * fan_out, 3, padding=1, bias=False)
        self.scale = nn.Embedding(max(1, classes), 2 * fan_out)
        self.shift = nn.Embedding(max(1, classes), 2 * fan_out)

    def forward(self, x: Tensor, labels: Tensor) -> Tensor:
        of = labels if self.conditional else torch.zeros_like(labels)
        return F.glu(self.conv(x) * self.scale(of)[:, :, None, None] + self.shift(of)[:, :, None, None], 1)


class Scale(nn.Module):
    """Maps small features (n, i, s, s) to a factor for each channel of large ones, (n, o, 1, 1)."""

    def __init__(self, fan_in: int, fan_out: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(fan_in, fan_out, 4, bias=False)
        self.mix = nn.Conv2d(fan_out, fan_out, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return torch.sigmoid(self.mix(F.silu(self.conv(F.adaptive_avg_pool2d(x, 4)))))
