"""BigGAN-deep in plain PyTorch (Brock et al., "Large Scale GAN Training for High Fidelity Natural Image Synthesis", ICLR 2019).

Residual blocks of four convolutions, narrow inside, each normalised by z and the class's vector. A block with fewer channels than
the one before keeps the first ones in its shortcut. The statistics of the normalisations belong to a truncation: there is a table
of them, from psi 0 to 1, and between its rows they are mixed.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Annotated, ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from reds_core.models.config import Config
from reds_core.models.published.biggan import Attention
from reds_core.models.published.limits import Size

BOTTOM = 4  # the width of the first features, in pixels


class DeepBlock(Config):
    """One block's channels, and whether it doubles the size."""

    fan_in: Size
    middle: Size
    fan_out: Size
    doubles: bool


class BigGanDeep(Config):
    """The architecture of a BigGAN-deep: what its file of weights does not say."""

    # As in BigGAN, another layout would make rounding visible.
    layout: ClassVar[torch.memory_format] = torch.contiguous_format

    kind: Literal["biggan-deep"]
    z_dim: Size
    classes: Size
    class_dim: Size = Field(description="The size of a class's vector.")
    blocks: Annotated[tuple[DeepBlock, ...], Field(min_length=1, max_length=40)]
    attention: Annotated[int, Field(ge=0)] | None = Field(
        description="The block that attention precedes, counted from 0; none if null."
    )
    levels: Annotated[int, Field(ge=2, le=2**12)] = Field(description="The truncations, from 0 to 1, that have statistics.")
    colours: Size

    @property
    def resolution(self) -> int:
        """The side of an image, in pixels."""
        return BOTTOM << sum(block.doubles for block in self.blocks)

    def build(self) -> nn.Module:
        """Returns the network, without its weights."""
        return Generator(self)


class Generator(nn.Module):
    """Maps (n, z) normal latents and (n,) class indices to (n, colours, size, size) images in [-1, 1]."""

    def __init__(self, a: BigGanDeep) -> None:
        super().__init__()
        condition = a.z_dim + a.class_dim
        self.position = a.attention
        self.embed = nn.Embedding(a.classes, a.class_dim)
        self.linear = nn.Linear(condition, a.blocks[0].fan_in * BOTTOM**2)
        self.blocks = nn.ModuleList(Block(block, condition, a.levels) for block in a.blocks)
        self.attention = nn.ModuleList([] if a.attention is None else [Attention(a.blocks[a.attention].fan_in)])
        self.statistics = Statistics(a.blocks[-1].fan_out, a.levels)
        self.scale = nn.Parameter(torch.ones(a.blocks[-1].fan_out, 1, 1))
        self.shift = nn.Parameter(torch.zeros(a.blocks[-1].fan_out, 1, 1))
        self.rgb = nn.Conv2d(a.blocks[-1].fan_out, a.colours, 3, padding=1)

    def forward(self, z: Tensor, labels: Tensor, psi: float = 1.0) -> Tensor:
        condition = torch.cat([z, self.embed(labels)], 1)
        x = self.linear(condition).unflatten(1, (-1, BOTTOM, BOTTOM))
        for k, block in enumerate(self.blocks):
            if k == self.position:
                x = self.attention[0](x)
            x = block(x, condition, psi)
        return torch.tanh(self.rgb(F.relu(self.statistics(x, psi) * self.scale + self.shift)))

    def at_truncation(self, psi: float) -> Callable[[Tensor, Tensor], Tensor]:
        """Returns the network with the statistics of a truncation, of which those of 1 are the last."""
        return lambda z, labels: self(z, labels, min(psi, 1.0))


class Block(nn.Module):
    """Maps (n, i, s, s) features and (n, k) conditions to (n, o, s, s) features, or of twice the size."""

    def __init__(self, a: DeepBlock, condition: int, levels: int) -> None:
        super().__init__()
        self.doubles, self.fan_out = a.doubles, a.fan_out
        self.norms = nn.ModuleList(Norm(c, condition, levels) for c in (a.fan_in, a.middle, a.middle, a.middle))
        sizes = (a.fan_in, a.middle, 1), (a.middle, a.middle, 3), (a.middle, a.middle, 3), (a.middle, a.fan_out, 1)
        self.convs = nn.ModuleList(nn.Conv2d(i, o, width, padding=width // 2) for i, o, width in sizes)

    def forward(self, x: Tensor, condition: Tensor, psi: float) -> Tensor:
        h = x
        for n, (norm, conv) in enumerate(zip(self.norms, self.convs, strict=True)):
            h = F.relu(norm(h, condition, psi))
            if n == 1 and self.doubles:
                h = F.interpolate(h, scale_factor=2.0)
            h = conv(h)
        x = x[:, : self.fan_out]
        return h + (F.interpolate(x, scale_factor=2.0) if self.doubles else x)


class Norm(nn.Module):
    """Normalises by the statistics of a truncation, with a gain and a bias that depend on the condition."""

    def __init__(self, channels: int, condition: int, levels: int) -> None:
        super().__init__()
        self.gain = nn.Linear(condition, channels)
        self.bias = nn.Linear(condition, channels, bias=False)
        self.statistics = Statistics(channels, levels)

    def forward(self, x: Tensor, condition: Tensor, psi: float) -> Tensor:
        gain, bias = self.gain(condition)[:, :, None, None], self.bias(condition)[:, :, None, None]
        y: Tensor = self.statistics(x, psi) * gain + bias
        return y


class Statistics(nn.Module):
    """Normalises (n, c, s, s) by the mean and variance of a truncation."""

    def __init__(self, channels: int, levels: int) -> None:
        super().__init__()
        self.mean: Tensor
        self.var: Tensor
        self.register_buffer("mean", torch.zeros(levels, channels))
        self.register_buffer("var", torch.ones(levels, channels))

    def forward(self, x: Tensor, psi: float) -> Tensor:
        return F.batch_norm(x, self._at(self.mean, psi), self._at(self.var, psi), eps=0.0)

    def _at(self, table: Tensor, psi: float) -> Tensor:
        # The published code takes the larger share of the row that is farther away, and so do the images that it is known for.
        share, row = math.modf(psi / (1 / (len(table) - 1)))
        return table[int(row)] * share + table[int(row) + 1] * (1 - share) if share else table[int(row)]
