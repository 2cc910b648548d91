"""A segmentation network for rendered rooms (rooms.py): which pixels show the wall, the floor, the sofa.

It goes down to an eighth of the size and back up, with a shortcut across at each size. Activations (SiLU) and pooling (average) are
smooth: its Jacobian is what holds an object, and a kink would make it jump.
"""

from __future__ import annotations

from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn

from reds_core.models.shipped.rooms import SEGMENTS


class Segmenter(nn.Module):
    """Maps (n, 3, h, w) images in [0, 1], h and w multiples of 8, to (n, segments, h, w) scores."""

    def __init__(self, widths: tuple[int, ...] = (16, 32, 64, 80), segments: int = len(SEGMENTS)) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, widths[0], 3, padding=1), nn.SiLU())
        self.down = nn.ModuleList(nn.Sequential(_conv(a, b), _conv(b, b)) for a, b in pairwise(widths))
        self.narrow = nn.ModuleList(nn.Conv2d(b, a, 1) for a, b in pairwise(widths))
        self.up = nn.ModuleList(_conv(a, a) for a in widths[:-1])
        self.head = nn.Conv2d(widths[0], segments, 1)

    def embed(self, x: Tensor) -> Tensor:
        """Returns the last hidden layer, (n, 16, h, w)."""
        across: list[Tensor] = [self.stem(x * 2 - 1)]
        for down in self.down:
            across.append(down(F.avg_pool2d(across[-1], 2)))
        y: Tensor = across.pop()
        for narrow, up in zip(reversed(self.narrow), reversed(self.up), strict=True):
            y = up(F.interpolate(narrow(y), scale_factor=2.0, mode="bilinear", align_corners=False) + across.pop())
        return y

    def forward(self, x: Tensor) -> Tensor:
        scores: Tensor = self.head(self.embed(x))
        return scores


def _conv(fan_in: int, fan_out: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(fan_in, fan_out, 3, padding=1, bias=False), nn.BatchNorm2d(fan_out), nn.SiLU())
