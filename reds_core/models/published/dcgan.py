"""DCGAN in plain PyTorch (Radford et al., "Unsupervised Representation Learning with Deep Convolutional GANs", ICLR 2016).

Transposed convolutions of 4x4: the first makes 4x4 features of z, each other doubles them. Batch normalisations, which are fixed
once trained, are part of the convolutions. This is the network of PyTorch's tutorial.
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


class DcGan(Config):
    """The architecture of a DCGAN: what its file of weights does not say."""

    layout: ClassVar[torch.memory_format] = torch.channels_last
    classes: ClassVar[int] = 0

    kind: Literal["dcgan"]
    z_dim: Size
    channels: Annotated[tuple[Size, ...], Field(min_length=1, max_length=10)] = Field(
        description="The channels after each convolution but the last, from 4x4 pixels up."
    )
    colours: Size

    @property
    def resolution(self) -> int:
        """The side of an image, in pixels."""
        return 4 << len(self.channels)

    def build(self) -> nn.Module:
        """Returns the network, without its weights."""
        return Generator(self)


class Generator(nn.Module):
    """Maps (n, z) normal latents to (n, colours, size, size) images in [-1, 1]. Class indices are ignored."""

    def __init__(self, a: DcGan) -> None:
        super().__init__()
        self.first = nn.ConvTranspose2d(a.z_dim, a.channels[0], 4)
        widths = pairwise((*a.channels, a.colours))
        self.layers = nn.ModuleList(nn.ConvTranspose2d(i, o, 4, stride=2, padding=1) for i, o in widths)

    def forward(self, z: Tensor, labels: Tensor) -> Tensor:
        x = self.first(z[:, :, None, None])
        for layer in self.layers:
            x = layer(F.relu(x))
        return torch.tanh(x)
