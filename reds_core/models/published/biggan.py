"""BigGAN in plain PyTorch (Brock et al., "Large Scale GAN Training for High Fidelity Natural Image Synthesis", ICLR 2019).

Residual blocks that double the size, each normalised by the class and by a part of z of its own; attention at some sizes. The
spectral norms of the weights and the statistics of the normalisations are fixed; they are multiplied in on import.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor, nn

from reds_core.models.config import Config
from reds_core.models.published.limits import Size


class BigGan(Config):
    """The architecture of a BigGAN: what its file of weights does not say."""

    # Its normalisations divide by variances near zero, which would make the rounding of another layout visible.
    layout: ClassVar[torch.memory_format] = torch.contiguous_format

    kind: Literal["biggan"]
    z_dim: Size
    classes: Size
    shared_dim: Size = Field(description="The size of a class's vector.")
    z_parts: Size = Field(
        description="The parts of z: the first starts the image and each block gets one of the others; 1 if all of z starts it."
    )
    bottom: Size = Field(description="The width of the first features, in pixels.")
    channels: Annotated[tuple[Size, ...], Field(min_length=2, max_length=10)] = Field(
        description="The channels before and after every block."
    )
    attention: tuple[Size, ...] = Field(description="The image sizes, in pixels, that attention follows.")
    colours: Size

    @model_validator(mode="after")
    def _parts(self) -> BigGan:
        if self.z_parts not in (1, len(self.channels)) or self.z_dim % self.z_parts:
            raise ValueError(
                f"z of {self.z_dim} numbers cannot be split into {self.z_parts} parts for {len(self.channels) - 1} blocks"
            )
        return self

    @property
    def resolution(self) -> int:
        """The side of an image, in pixels."""
        return self.bottom << (len(self.channels) - 1)

    def build(self) -> nn.Module:
        """Returns the network, without its weights."""
        return Generator(self)


class Generator(nn.Module):
    """Maps (n, z) normal latents and (n,) class indices to (n, colours, size, size) images in [-1, 1]."""

    def __init__(self, a: BigGan) -> None:
        super().__init__()
        self.parts, self.bottom = a.z_parts, a.bottom
        part = a.z_dim // a.z_parts
        condition = a.shared_dim + (part if a.z_parts > 1 else 0)
        self.shared = nn.Embedding(a.classes, a.shared_dim)
        self.linear = nn.Linear(part, a.channels[0] * a.bottom**2)
        self.blocks = nn.ModuleList(Block(i, o, condition) for i, o in pairwise(a.channels))
        sizes = [a.bottom * 2 ** (k + 1) for k in range(len(self.blocks))]
        self.attention = nn.ModuleDict(
            {str(k): Attention(a.channels[k + 1]) for k, size in enumerate(sizes) if size in a.attention}
        )
        self.scale = nn.Parameter(torch.ones(a.channels[-1], 1, 1))
        self.shift = nn.Parameter(torch.zeros(a.channels[-1], 1, 1))
        self.rgb = nn.Conv2d(a.channels[-1], a.colours, 3, padding=1)

    def forward(self, z: Tensor, labels: Tensor) -> Tensor:
        y = self.shared(labels)
        first, *rest = z.chunk(self.parts, 1)
        x = self.linear(first).unflatten(1, (-1, self.bottom, self.bottom))
        for k, block in enumerate(self.blocks):
            x = block(x, torch.cat([y, rest[k]], 1) if rest else y)
            if str(k) in self.attention:
                x = self.attention[str(k)](x)
        return torch.tanh(self.rgb(F.relu(x * self.scale + self.shift)))


class Block(nn.Module):
    """Maps (n, i, s, s) features and (n, k) conditions to (n, o, 2s, 2s) features."""

    def __init__(self, fan_in: int, fan_out: int, condition: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = Norm(fan_in, condition), Norm(fan_out, condition)
        self.conv1 = nn.Conv2d(fan_in, fan_out, 3, padding=1)
        self.conv2 = nn.Conv2d(fan_out, fan_out, 3, padding=1)
        self.skip = nn.Conv2d(fan_in, fan_out, 1)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        h, x = (F.interpolate(v, scale_factor=2.0) for v in (F.relu(self.norm1(x, condition)), x))
        h = self.conv2(F.relu(self.norm2(self.conv1(h), condition)))
        # The 1x1 convolution could come before the doubling, for a quarter of the work, but then images would differ from the
        # published ones by more than the usual rounding: trained normalisations divide by variances near zero.
        y: Tensor = h + self.skip(x)
        return y


class Norm(nn.Module):
    """Normalises by fixed statistics, with a gain and a bias that depend on the condition."""

    def __init__(self, channels: int, condition: int) -> None:
        super().__init__()
        self.gain = nn.Linear(condition, channels)
        self.bias = nn.Linear(condition, channels, bias=False)
        self.mean: Tensor
        self.var: Tensor
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("var", torch.ones(channels))

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        gain, bias = self.gain(condition)[:, :, None, None], self.bias(condition)[:, :, None, None]
        y: Tensor = F.batch_norm(x, self.mean, self.var, eps=0.0) * gain + bias
        return y


class Attention(nn.Module):
    """Lets each place of (n, c, s, s) attend to all of a grid half as fine (Zhang et al., "Self-Attention GANs", ICML 2019)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.theta = nn.Conv2d(channels, channels // 8, 1, bias=False)
        self.phi = nn.Conv2d(channels, channels // 8, 1, bias=False)
        self.g = nn.Conv2d(channels, channels // 2, 1, bias=False)
        self.o = nn.Conv2d(channels // 2, channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        theta = self.theta(x).flatten(2)
        phi, g = (F.max_pool2d(f(x), 2).flatten(2) for f in (self.phi, self.g))
        share = (theta.mT @ phi).softmax(2)
        y: Tensor = x + self.o((g @ share.mT).unflatten(2, x.shape[2:]))
        return y
