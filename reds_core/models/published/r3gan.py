"""R3GAN in plain PyTorch (Huang et al., "The GAN is dead; long live the GAN! A Modern GAN Baseline", NeurIPS 2024).

z, with a vector of the class after it, scales 4x4 maps of features. Then come stages, each with twice the size: a filter
[1, 3, 3, 1] that doubles, and residual blocks without normalisation, whose 3x3 convolutions work in groups.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor, nn

from reds_core.models.config import Config
from reds_core.models.published.limits import Classes, Layers, Size
from reds_core.models.published.stylegan2 import doubled

Widths = Annotated[tuple[Size, ...], Field(min_length=1, max_length=12)]


class R3Gan(Config):
    """The architecture of an R3GAN: what its file of weights does not say. Every tuple has an entry for each stage, from 4x4 up."""

    layout: ClassVar[torch.memory_format] = torch.channels_last

    kind: Literal["r3gan"]
    z_dim: Size
    classes: Classes
    class_dim: Annotated[int, Field(ge=0, le=2**16)] = Field(description="The size of a class's vector; 0 without classes.")
    channels: Widths
    expanded: Widths = Field(description="The channels inside the blocks.")
    groups: Widths = Field(description="The groups of the 3x3 convolutions.")
    blocks: Annotated[tuple[Layers, ...], Field(min_length=1, max_length=12)]
    colours: Size

    @model_validator(mode="after")
    def _stages(self) -> R3Gan:
        if len({len(x) for x in (self.channels, self.expanded, self.groups, self.blocks)}) != 1:
            raise ValueError("channels, expanded, groups and blocks must have an entry for each stage")
        if any(wide % count for wide, count in zip(self.expanded, self.groups, strict=True)):
            raise ValueError(f"the channels {self.expanded} cannot be split into groups {self.groups}")
        return self

    @property
    def resolution(self) -> int:
        """The side of an image, in pixels."""
        return 4 << (len(self.channels) - 1)

    def build(self) -> nn.Module:
        """Returns the network, without its weights."""
        return Generator(self)


class Generator(nn.Module):
    """Maps (n, z) normal latents and (n,) class indices to (n, colours, size, size) images, roughly in [-1, 1]."""

    def __init__(self, a: R3Gan) -> None:
        super().__init__()
        self.embed = nn.Embedding(a.classes, a.class_dim) if a.classes else None
        self.basis = nn.Parameter(torch.zeros(a.channels[0], 4, 4))
        self.linear = nn.Linear(a.z_dim + a.class_dim, a.channels[0], bias=False)
        # A stage of as many channels as the one before has no convolution between the two.
        self.between = nn.ModuleList(nn.Identity() if i == o else nn.Conv2d(i, o, 1, bias=False) for i, o in pairwise(a.channels))
        self.stages = nn.ModuleList(
            nn.Sequential(*(Block(width, inside, groups) for _ in range(count)))
            for width, inside, groups, count in zip(a.channels, a.expanded, a.groups, a.blocks, strict=True)
        )
        self.rgb = nn.Conv2d(a.channels[-1], a.colours, 1, bias=False)

    def forward(self, z: Tensor, labels: Tensor) -> Tensor:
        if self.embed is not None:
            z = torch.cat([z, self.embed(labels)], 1)
        x = self.stages[0](self.basis * self.linear(z)[:, :, None, None])
        for between, stage in zip(self.between, list(self.stages)[1:], strict=True):
            x = stage(doubled(between(x)))
        image: Tensor = self.rgb(x)
        return image


class Block(nn.Module):
    """Maps (n, c, s, s) features to features of the same shape: a sum with what three convolutions make of them."""

    def __init__(self, channels: int, expanded: int, groups: int) -> None:
        super().__init__()
        self.widen = nn.Conv2d(channels, expanded, 1)
        self.conv = nn.Conv2d(expanded, expanded, 3, padding=1, groups=groups)
        self.narrow = nn.Conv2d(expanded, channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        inside = F.leaky_relu(self.conv(F.leaky_relu(self.widen(x), 0.2)), 0.2)
        y: Tensor = x + self.narrow(inside)
        return y
