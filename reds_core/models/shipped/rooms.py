"""A rendered test world: a small room in colour at 64x64, with a sofa, whose true factors are known. It has no weights.

    z (64) --entangled--> u (64) --squashed--> factors --painted--> image (3, 64, 64)

z -> u: orthogonal mixings and, between them, couplings: one half of the numbers turns the other half, pair by pair, by angles that
depend smoothly on the first half. Each has an exact inverse, and neither changes the normal distribution: u is N(0, I) if z is. No
axis of z is a factor, and a straight line in z becomes a curve in u.

u -> factors: erf(u / sqrt 2) is uniform over (-1, 1), and is scaled to the factor's range, which is chosen such that every room
looks like a room. The numbers that no factor needs are faint fields of texture on the wall and the floor, so that none
is without effect.

factors -> image: layers with soft edges (shapes.py, furniture.py), painted from back to front. Everything is smooth. x runs to the
right and y down, from 0 to 1 over the image. Colours are the image's own values, 0 to 1, with a soft limit below 1.
"""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from reds_core.models.shipped import furniture
from reds_core.types import Images, Latents

# In the digest of every run that uses the rooms. Raise it by one whenever a latent gives other pixels than before, whether by this
# file, furniture.py or shapes.py: runs of the new rooms then go to new folders and never continue a run of the old ones.
RENDERER_VERSION = 1

SIZE = 64
DIM = 64
COUPLINGS = 4
TURN = 1.2  # radians: the largest angle of a coupling
TEXTURE = 0.02  # the largest amplitude of a field, of brightness 1

SEGMENTS = ("wall", "floor", "window", "sofa", "lamp", "picture")

# The lowest and highest value of each. A colour is a lightness, a warmth (orange to blue) and a greenness (green to purple).
FACTORS: dict[str, dict[str, tuple[float, float]]] = {
    "sofa": {
        "x": (0.38, 0.52), "base": (0.86, 0.92), "width": (0.54, 0.68), "back": (0.30, 0.38), "seat": (0.42, 0.54),
        "arm": (0.07, 0.10), "lightness": (0.30, 0.52), "warmth": (-0.8, 0.8), "green": (-0.8, 0.8), "pillow": (0.1, 0.9),
        "pillow_warmth": (-0.9, 0.9), "pillow_green": (-0.9, 0.9),
    },
    "lamp": {"x": (0.84, 0.93), "height": (0.36, 0.50), "shade": (0.06, 0.09), "glow": (0.05, 1), "warmth": (0.1, 0.6)},
    "picture": {
        "x": (0.63, 0.71), "y": (0.18, 0.26), "width": (0.09, 0.14), "height": (0.08, 0.12), "lightness": (0.35, 0.65),
        "warmth": (-1, 1), "green": (-1, 1), "hill": (-0.03, 0.04),
    },
    "window": {"x": (0.19, 0.31), "y": (0.22, 0.29), "width": (0.11, 0.16), "height": (0.13, 0.18)},
    "light": {"day": (0.1, 1), "warmth": (-0.5, 0.5), "slant": (-0.3, 0.8)},
    "wall": {"lightness": (0.52, 0.76), "warmth": (-0.4, 0.4), "green": (-0.4, 0.4)},
    "floor": {
        "horizon": (0.60, 0.70), "lightness": (0.32, 0.56), "warmth": (0.1, 0.7), "rug": (0.26, 0.38), "rug_x": (0.40, 0.60),
        "rug_lightness": (0.35, 0.70), "rug_warmth": (-0.6, 0.6), "rug_green": (-0.6, 0.6),
    },
}  # fmt: skip
NAMES = [(group, name) for group, names in FACTORS.items() for name in names]

Entangled = Float[Tensor, "n 64"]  # u


class Rooms(nn.Module):
    """Renders (n, 64) latents as (n, 3, 64, 64) images in [0, 1], and knows the factors and the segments that they show."""

    mixing: Tensor  # (couplings + 1, 64, 64) orthogonal
    angles: Tensor  # (couplings, 16, 32)
    fields: Tensor  # (64 - factors, 64, 64)
    x: Tensor  # (64,), the pixels' centres
    y: Tensor  # (64, 1)
    low: Tensor  # (factors,), the lowest value of each
    high: Tensor

    def __init__(self) -> None:
        super().__init__()
        draw = np.random.RandomState(64)
        mixing = np.stack([_orthogonal(draw.randn(DIM, DIM)) for _ in range(COUPLINGS + 1)])
        angles = draw.randn(COUPLINGS, DIM // 4, DIM // 2) / math.sqrt(DIM / 2)
        at = (np.arange(SIZE) + 0.5) / SIZE
        waves = draw.uniform(-5, 5, (DIM - len(NAMES), 2))
        phase = draw.uniform(0, 2 * np.pi, (DIM - len(NAMES), 1, 1))
        fields = np.cos(2 * np.pi * (waves[:, :1, None] * at[:, None] + waves[:, 1:, None] * at) + phase)
        ranges = np.array([FACTORS[group][name] for group, name in NAMES])
        numbers = {"mixing": mixing, "angles": angles, "fields": TEXTURE * fields, "x": at, "y": at[:, None]}
        for name, value in {**numbers, "low": ranges[:, 0], "high": ranges[:, 1]}.items():
            self.register_buffer(name, torch.from_numpy(np.ascontiguousarray(value)).float())

    def entangled(self, z: Latents) -> Entangled:
        """Returns the u of z."""
        u = z @ self.mixing[0]
        for k in range(COUPLINGS):
            u = self._turned(u, k, 1) @ self.mixing[k + 1]
        return u

    def inverse(self, u: Entangled) -> Latents:
        """Returns the z of u."""
        for k in reversed(range(COUPLINGS)):
            u = self._turned(u @ self.mixing[k + 1].T, k, -1)
        return u @ self.mixing[0].T

    def _turned(self, u: Entangled, k: int, sign: int) -> Entangled:
        """Returns one half as it is, the other turned plane by plane, by angles (n, 16) that depend on the first half."""
        half, first, second = u.split([DIM // 2, DIM // 4, DIM // 4], 1)
        angle = sign * TURN * torch.sin(half @ self.angles[k].T)
        cos, sin = torch.cos(angle), torch.sin(angle)
        return torch.cat([half, cos * first - sin * second, sin * first + cos * second], 1)

    def factors(self, z: Latents) -> dict[str, Tensor]:
        """Returns the true factors by group, {group: (n, k)}, in units of their standard deviations over all rooms."""
        # The standard deviation of a uniform number on (-1, 1) is 1 / sqrt 3.
        known = math.sqrt(3) * _uniform(self.entangled(z)[:, : len(NAMES)])
        return dict(zip(FACTORS, known.split([len(names) for names in FACTORS.values()], 1), strict=True))

    def forward(self, z: Latents) -> Images:
        return self.render(self.entangled(z))

    def render(self, u: Entangled) -> Images:
        """Returns the images of u."""
        image = torch.zeros((), dtype=u.dtype, device=u.device)
        for colour, share in self._layers(u).values():
            image = image + share * (colour - image)
        return _limited(image)

    def masks(self, z: Latents) -> Float[Tensor, "n _segments 64 64"]:
        """Returns the share of every pixel that shows each of SEGMENTS, summing to 1."""
        shown: dict[str, Tensor] = {}
        for segment, (_, share) in self._layers(self.entangled(z)).items():
            shown = {behind: mask * (1 - share) for behind, mask in shown.items()} | {segment: share}
        return torch.cat([shown[name] for name in SEGMENTS], 1)

    def _layers(self, u: Entangled) -> dict[str, furniture.Layer]:
        """Returns the layer of every segment, from back to front."""
        known = _uniform(u)
        values = self.low + (self.high - self.low) * (known[:, : len(NAMES)] + 1) / 2
        columns = dict(zip(NAMES, values[:, :, None, None, None].unbind(1), strict=True))
        room = {group: {name: columns[group, name] for name in names} for group, names in FACTORS.items()}
        texture = torch.einsum("nk,khw->nhw", known[:, len(NAMES) :], self.fields)[:, None]
        x, y = self.x, self.y
        day = furniture.daylight(x, y, room)
        glow = furniture.lamplight(x, y, room["lamp"])
        return {
            "wall": furniture.paint_wall(x, y, room, texture, day + glow),
            "floor": furniture.paint_floor(x, y, room, texture, 0.9 * day + 0.6 * glow),
            "window": furniture.paint_window(x, y, room),
            "picture": furniture.paint_picture(x, y, room["picture"], 0.75 + 0.25 * day),
            "lamp": furniture.paint_lamp(x, y, room["lamp"]),
            "sofa": furniture.paint_sofa(x, y, room["sofa"]),
        }


def _uniform(u: Tensor) -> Tensor:
    """Maps normal numbers to uniform ones on (-1, 1)."""
    return torch.erf(u / math.sqrt(2))


def _limited(image: Tensor) -> Tensor:
    """Returns colours as they are up to about 0.9, and bent softly to stay below 1."""
    return image - F.softplus(24 * (image - 0.97)) / 24


def _orthogonal(a: np.ndarray) -> np.ndarray:
    """Returns the orthogonal factor of a square matrix."""
    q, r = np.linalg.qr(a)
    return q * np.sign(np.diag(r))  # libraries differ in the columns' signs
