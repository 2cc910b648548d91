"""Soft shapes and colours to paint with: every edge is a sigmoid of a distance, about a pixel wide, so that everything is smooth.

x runs to the right and y down, from 0 to 1 over the image. A shape is its share of every pixel, from 0 to 1. Tensors broadcast:
x is (w,), y is (h, 1), and what differs between images is (n, 1, 1, 1).
"""

from __future__ import annotations

import torch
from torch import Tensor

SHARP = 160.0  # 1 / the width of an edge: 10 to 90 % in 1.8 pixels of an image of 64


def tint(lightness: Tensor, warmth: Tensor | float, green: Tensor | float) -> Tensor:
    """Returns a colour, (n, 3, ...): its lightness, warmth (orange to blue) and greenness (green to purple), both in (-1, 1)."""
    channels = [(0.55, -0.35), (-0.05, 0.25), (-0.62, -0.20)]
    return torch.cat([lightness * (1 + a * warmth + b * green) for a, b in channels], 1)


def edge(inside: Tensor) -> Tensor:
    """Returns 1 where a signed distance is well inside, 0 where it is well outside."""
    return torch.sigmoid(SHARP * inside)


def band(distance: Tensor, half: Tensor | float) -> Tensor:
    """Returns 1 within `half` of a line on either side, by the signed distance from it. No absolute value: that has a kink."""
    return edge(half + distance) * edge(half - distance)


def box(x: Tensor, y: Tensor, left: Tensor | float, right: Tensor | float, top: Tensor, bottom: Tensor) -> Tensor:
    """Returns a rectangle."""
    return edge(x - left) * edge(right - x) * edge(y - top) * edge(bottom - y)


def rounded(x: Tensor, y: Tensor, left: Tensor, right: Tensor, top: Tensor, bottom: Tensor) -> Tensor:
    """Returns a rectangle with round corners: the distance inside is the soft minimum of the distances to its four sides."""
    corner = 36.0
    far = torch.exp(corner * (left - x)) + torch.exp(corner * (x - right))
    far = far + torch.exp(corner * (top - y)) + torch.exp(corner * (y - bottom))
    return torch.sigmoid(-SHARP / corner * torch.log(far))


def disc(x: Tensor, y: Tensor, at: Tensor | float, down: Tensor | float, wide: Tensor | float, high: Tensor | float) -> Tensor:
    """Returns an ellipse. Its edge is about a pixel wide at its top and bottom."""
    return edge(high * (1 - ((x - at) / wide) ** 2 - ((y - down) / high) ** 2) / 2)


def either(*shares: Tensor) -> Tensor:
    """Returns the union of shapes."""
    outside = 1 - shares[0]
    for share in shares[1:]:
        outside = outside * (1 - share)
    return 1 - outside
