"""Progressive GAN in plain PyTorch (Karras et al., "Progressive Growing of GANs", ICLR 2018), grown to its full size.

z and every layer's features are brought to unit length, over the channels. Each scale doubles the one before by the nearest pixel.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from reds_core.models.config import Config
from reds_core.models.published.limits import Size
from reds_core.models.published.style import EPSILON


class PgGan(Config):
    """The architecture of a Progressive GAN: what its file of weights does not say."""

    layout: ClassVar[torch.memory_format] = torch.channels_last
    classes: ClassVar[int] = 0

    kind: Literal["pggan"]
    z_dim: Size
    channels: Annotated[tuple[Size, ...], Field(min_length=1, max_length=12)] = Field(
        description="The channels of each scale, from 4x4 pixels up."
    )
    colours: Size
    tanh: bool = Field(description="Whether colours are squashed to [-1, 1]; its loss decides it.")

    @property
    def resolution(self) -> int:
        """The side of an image, in pixels."""
        return 4 << (len(self.channels) - 1)

    def build(self) -> nn.Module:
        """Returns the network, without its weights."""
        return Generator(self)


class Generator(nn.Module):
    """Maps (n, z) normal latents to (n, colours, size, size) images, roughly in [-1, 1]. Class indices are ignored."""

    def __init__(self, a: PgGan) -> None:
        super().__init__()
        self.tanh = a.tanh
        self.linear = nn.Linear(a.z_dim, a.channels[0] * 16)
        self.first = nn.Conv2d(a.channels[0], a.channels[0], 3, padding=1)
        self.scales = nn.ModuleList(
            nn.ModuleList([nn.Conv2d(i, o, 3, padding=1), nn.Conv2d(o, o, 3, padding=1)]) for i, o in pairwise(a.channels)
        )
        self.rgb = nn.Conv2d(a.channels[-1], a.colours, 1)

    def forward(self, z: Tensor, labels: Tensor) -> Tensor:
        x = _unit(F.leaky_relu(self.linear(_unit(z)), 0.2).unflatten(1, (-1, 4, 4)))
        x = _unit(F.leaky_relu(self.first(x), 0.2))
        for scale in self.scales:
            x = F.interpolate(x, scale_factor=2.0)
            for conv in scale.children():
                x = _unit(F.leaky_relu(conv(x), 0.2))
        image: Tensor = self.rgb(x)
        return torch.tanh(image) if self.tanh else image


def _unit(x: Tensor) -> Tensor:
    """Returns x (n, c, ...) with a mean square of 1 over the channels."""
    return x * (x.square().mean(1, keepdim=True) + EPSILON).rsqrt()
