"""A randomly initialised style-based generator of any size, for timing: its images show nothing."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from reds_core.models.shipped.fashion import Mapping, Synthesis

W = 512
CHANNELS = {4: 512, 8: 512, 16: 512, 32: 512, 64: 256, 128: 128, 256: 64}


def synthesis(size: int) -> nn.Module:
    """Builds a network (n, 512) -> (n, 3, size, size) in [-1, 1]."""
    torch.manual_seed(0)
    channels = tuple(count for resolution, count in CHANNELS.items() if resolution <= size)
    return nn.Sequential(Synthesis(W, channels, colours=3), nn.Tanh())


def mapping() -> nn.Module:
    """Builds a network (n, 512) -> (n, 512)."""

    class Unconditional(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.mapping = Mapping(W, W, classes=1)

        def forward(self, z: Tensor) -> Tensor:
            w: Tensor = self.mapping(z, torch.zeros(len(z), dtype=torch.long, device=z.device))
            return w

    torch.manual_seed(1)
    return Unconditional()


def scores() -> nn.Module:
    """Builds a network that maps images (n, 3, h, w) in [0, 1] to scores (n, 10)."""
    torch.manual_seed(2)
    layers: list[nn.Module] = []
    for fan_in, fan_out in ((3, 16), (16, 32), (32, 64)):
        layers += [nn.Conv2d(fan_in, fan_out, 3, stride=2, padding=1), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10))
