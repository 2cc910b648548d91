"""A rendered test world: a small room in colour at 64x64, with a sofa, whose true factors are known. No weights: nothing is learnt.

    z (64) --entangled--> u (64) --squashed--> factors --drawn--> image (3, 64, 64)

z -> u: orthogonal mixings and, between them, couplings: one half of the numbers turns the other half, pair by pair, by angles that
depend smoothly on the first half. Each is inverted exactly, and neither changes the normal distribution: u is N(0, I) if z is. No
axis of z is a factor, and a straight line in z bends in u.

u -> factors: erf(u / sqrt 2) is uniform over (-1, 1), hence over a factor's range, which is chosen such that every room is a room. The
numbers that no factor needs are faint fields of texture on the wall and the floor, so that none is without effect.

Drawing: shapes whose edges are sigmoids of distances, about a pixel wide, painted back to front. Everything is smooth.
Coordinates: x to the right and y down, 0 to 1 over the image. Colours are those of the image, 0 to 1, with a soft limit below 1.
"""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reds_core.types import Images, Latents

SIZE = 64
DIM = 64
COUPLINGS = 4
TURN = 1.2  # radians: the largest angle of a coupling
TEXTURE = 0.02  # the largest amplitude of a field, of brightness 1
SHARP = 160.0  # 1 / the width of an edge: 10 to 90 % in 1.8 pixels

SEGMENTS = ("wall", "floor", "window", "sofa", "lamp", "picture")

# Lowest and highest value. A colour is a lightness, its warmth (orange to blue) and its greenness (green to purple).
FACTORS: dict[str, dict[str, tuple[float, float]]] = {
    "sofa": {
        "x": (0.38, 0.52), "base": (0.86, 0.92), "width": (0.54, 0.68), "back": (0.30, 0.38), "seat": (0.42, 0.54), "arm": (0.07, 0.10),
        "lightness": (0.30, 0.52), "warmth": (-0.8, 0.8), "green": (-0.8, 0.8), "pillow": (0.1, 0.9), "pillow_warmth": (-0.9, 0.9), "pillow_green": (-0.9, 0.9),
    },
    "lamp": {"x": (0.84, 0.93), "height": (0.36, 0.50), "shade": (0.06, 0.09), "glow": (0.05, 1), "warmth": (0.1, 0.6)},
    "picture": {
        "x": (0.63, 0.71), "y": (0.18, 0.26), "width": (0.09, 0.14), "height": (0.08, 0.12), "lightness": (0.35, 0.65), "warmth": (-1, 1),
        "green": (-1, 1), "hill": (-0.03, 0.04),
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

Values = dict[str, Tensor]  # a group's factors by name, each (n, 1, 1, 1)
Layer = tuple[Tensor, Tensor]  # its colour (n, 3, 64, 64), and its share of every pixel (n, 1, 64, 64)


class Rooms(nn.Module):
    """(n, 64) latents -> (n, 3, 64, 64) images in [0, 1]; with the factors and the segments that they show."""

    mixing: Tensor  # (couplings + 1, 64, 64) orthogonal
    angles: Tensor  # (couplings, 16, 32)
    fields: Tensor  # (64 - factors, 64, 64)
    x: Tensor  # (64,) of pixel centres; down a column, `y`
    y: Tensor
    low: Tensor
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

    def entangled(self, z: Latents) -> Tensor:
        """(n, 64) -> u (n, 64)."""
        u = z @ self.mixing[0]
        for k in range(COUPLINGS):
            u = self._turned(u, k, 1) @ self.mixing[k + 1]
        return u

    def inverse(self, u: Tensor) -> Latents:
        """The z (n, 64) of u (n, 64)."""
        for k in reversed(range(COUPLINGS)):
            u = self._turned(u @ self.mixing[k + 1].T, k, -1)
        return u @ self.mixing[0].T

    def _turned(self, u: Tensor, k: int, sign: int) -> Tensor:
        """One half as it is, the other turned in planes by angles (n, 16) that the first half says."""
        half, first, second = u.split([DIM // 2, DIM // 4, DIM // 4], 1)
        angle = sign * TURN * torch.sin(half @ self.angles[k].T)
        cos, sin = torch.cos(angle), torch.sin(angle)
        return torch.cat([half, cos * first - sin * second, sin * first + cos * second], 1)

    def factors(self, z: Latents) -> dict[str, Tensor]:
        """The true factors by group, {name: (n, k)}, in units of their own standard deviations over all rooms."""
        known = math.sqrt(3) * _uniform(self.entangled(z)[:, : len(NAMES)])  # a uniform number on (-1, 1) deviates by 1 / sqrt 3
        return dict(zip(FACTORS, known.split([len(names) for names in FACTORS.values()], 1), strict=True))

    def forward(self, z: Latents) -> Images:
        return self.render(self.entangled(z))

    def render(self, u: Tensor) -> Images:
        """Images of rooms whose squashed factors come first in u (n, 64)."""
        image = torch.zeros((), dtype=u.dtype, device=u.device)
        for colour, share in self._layers(u).values():
            image = image + share * (colour - image)
        return _limited(image)

    def masks(self, z: Latents) -> Tensor:
        """How much of every pixel shows each of SEGMENTS: (n, segments, 64, 64), summing to 1."""
        shown: dict[str, Tensor] = {}
        for segment, (_, share) in self._layers(self.entangled(z)).items():
            shown = {behind: mask * (1 - share) for behind, mask in shown.items()} | {segment: share}
        return torch.cat([shown[name] for name in SEGMENTS], 1)

    def _layers(self, u: Tensor) -> dict[str, Layer]:
        """The layer of every segment, back to front."""
        known = _uniform(u)
        values = self.low + (self.high - self.low) * (known[:, : len(NAMES)] + 1) / 2
        columns = dict(zip(NAMES, values[:, :, None, None, None].unbind(1), strict=True))
        room = {group: {name: columns[group, name] for name in names} for group, names in FACTORS.items()}
        texture = torch.einsum("nk,khw->nhw", known[:, len(NAMES) :], self.fields)[:, None]
        x, y = self.x, self.y
        day = self._daylight(room)
        glow = self._glow(room["lamp"])
        return {
            "wall": _wall(x, y, room, texture, day + glow),
            "floor": _floor(x, y, room, texture, 0.9 * day + 0.6 * glow),
            "window": _window(x, y, room),
            "picture": _picture(x, y, room["picture"], 0.75 + 0.25 * day),
            "lamp": _lamp(x, y, room["lamp"]),
            "sofa": _sofa(x, y, room["sofa"]),
        }

    def _daylight(self, room: dict[str, Values]) -> Tensor:
        """How much light of which colour falls where: from the window, and a little from everywhere."""
        window, light = room["window"], room["light"]
        reach = torch.exp(-(((self.x - window["x"]) / 0.38) ** 2) - ((self.y - window["y"] - 0.1) / 0.45) ** 2)
        return _tint(light["day"] * (0.16 + 0.42 * reach), 0.6 * light["warmth"], 0) + 0.64

    def _glow(self, lamp: Values) -> Tensor:
        reach = torch.exp(-(((self.x - lamp["x"]) / 0.17) ** 2) - ((self.y - lamp["height"]) / 0.2) ** 2)
        return _tint(0.55 * lamp["glow"] * reach, lamp["warmth"], 0)


def _wall(x: Tensor, y: Tensor, room: dict[str, Values], texture: Tensor, light: Tensor) -> Layer:
    wall, horizon = room["wall"], room["floor"]["horizon"]
    paint = _tint(wall["lightness"], wall["warmth"], wall["green"])
    board = _box(x, y, -1.0, 2.0, horizon - 0.045, horizon)
    colour = (paint * (1 + texture) + board * (0.8 * paint + 0.25 - paint)) * light
    return colour, torch.ones_like(board)


def _floor(x: Tensor, y: Tensor, room: dict[str, Values], texture: Tensor, light: Tensor) -> Layer:
    """Boards that run to a vanishing point, a rug, a patch of daylight, and the shadow under the sofa."""
    floor, sofa, window, day = (room[k] for k in ("floor", "sofa", "window", "light"))
    deep = F.softplus((y - floor["horizon"]) * 20) / 20  # 0 above the horizon: the boards' lines stay finite
    lines = torch.cos(2 * math.pi * 2.2 * (x - 0.5) / (deep + 0.25))
    wood = _tint(floor["lightness"], floor["warmth"], 0) * (1 + 0.07 * torch.tanh(2 * lines) + 2 * texture)
    rug = _disc(x, y, floor["rug_x"], 0.90, floor["rug"], 0.075)
    border = rug - _disc(x, y, floor["rug_x"], 0.90, floor["rug"] * 0.86, 0.06)
    woven = _tint(floor["rug_lightness"], floor["rug_warmth"], floor["rug_green"]) * (1 - 0.35 * border)
    colour = wood + rug * (woven - wood)
    # The window's light, where it falls on the floor: it leans with the sun, and is softer than any edge.
    leaning = x - day["slant"] * (y - 0.6) - window["x"] - 0.06
    patch = torch.sigmoid((window["width"] + leaning) * 40) * torch.sigmoid((window["width"] - leaning) * 40)
    patch = patch * torch.sigmoid((y - floor["horizon"] - 0.04) * 60)
    sun = _tint(0.75 * day["day"] * patch, 0.5 * day["warmth"], 0)
    under = torch.exp(-(((x - sofa["x"]) / (0.58 * sofa["width"])) ** 4) - ((y - sofa["base"] - 0.01) / 0.035) ** 2)
    colour = colour * (light + sun) * (1 - 0.5 * under)
    return colour, _edge(y - floor["horizon"]).expand_as(under)


def _window(x: Tensor, y: Tensor, room: dict[str, Values]) -> Layer:
    """A white frame of four panes before the sky, with hills at the bottom."""
    window, light = room["window"], room["light"]
    left, right = window["x"] - window["width"], window["x"] + window["width"]
    top, bottom = window["y"] - window["height"], window["y"] + window["height"]
    frame = _box(x, y, left, right, top, bottom)
    panes = _box(x, y, left + 0.022, right - 0.022, top + 0.022, bottom - 0.022)
    cross = _either(_band(x - window["x"], 0.011), _band(y - window["y"], 0.011))
    sky = _tint(0.25 + 0.65 * light["day"], light["warmth"] - 0.35 + 0.6 * (y - top), 0)
    hills = _edge(y - bottom + 0.08 + 0.015 * torch.cos(14 * (x - left)))
    view = sky + hills * (_tint(0.12 + 0.35 * light["day"], 0.3, 0.6) - sky)
    white = 0.68 + 0.25 * light["day"]
    sill = _box(x, y, left - 0.02, right + 0.02, bottom, bottom + 0.025)
    return white + panes * (1 - cross) * (view - white), _either(frame, sill)


def _picture(x: Tensor, y: Tensor, picture: Values, light: Tensor) -> Layer:
    """A framed landscape: a sky of one colour, a hill of its complement, a pale sun."""
    across, down = x - picture["x"], y - picture["y"]
    width, height = picture["width"], picture["height"]
    frame = _band(across, width) * _band(down, height)
    inner = _band(across, width - 0.02) * _band(down, height - 0.02)
    sky = _tint(picture["lightness"] + 0.2, picture["warmth"], picture["green"])
    hill = _tint(0.7 * picture["lightness"], -picture["warmth"], -picture["green"])
    view = sky + _edge(down - picture["hill"] - 0.03 * torch.sin(across * 30)) * (hill - sky)
    view = view + _disc(across, down, 0.35 * width, -0.4 * height, 0.022, 0.022) * (0.95 - view)
    wood = torch.full_like(view, 0.16)
    return (wood + inner * (view - wood)) * light, frame


def _lamp(x: Tensor, y: Tensor, lamp: Values) -> Layer:
    across, foot = x - lamp["x"], 0.85
    pole = _band(across, 0.012) * _edge(y - lamp["height"]) * _edge(foot - y)
    base = _disc(across, y, 0, foot, 0.05, 0.018)
    half = lamp["shade"] * (1 + 2.5 * (y - lamp["height"]))  # wider below
    shade = _band(across, half) * _band(y - lamp["height"], 0.075)
    metal = torch.full_like(shade, 0.18)
    lit = _tint(0.5 + 0.5 * lamp["glow"] * torch.exp(-((across / 0.08) ** 2)), lamp["warmth"], 0)
    return metal + shade * (lit - metal), _either(pole, base, shade)


def _sofa(x: Tensor, y: Tensor, sofa: Values) -> Layer:
    """Feet, a back with two cushions, a seat with two, arms and a pillow, lighter towards the left and on top.

    Its cloth is the same in every light: cloth of another colour would look just like cloth in another light, and to hold how the sofa
    looks would not be to hold the sofa.
    """
    half, base = sofa["width"] / 2, sofa["base"]
    left, right, top = sofa["x"] - half, sofa["x"] + half, base - sofa["back"]
    seat = base - sofa["seat"] * sofa["back"]
    arm = sofa["arm"]
    cloth = _tint(sofa["lightness"], sofa["warmth"], sofa["green"]) * (1 - 0.25 * (x - 0.45))
    back = _rounded(x, y, left + 0.4 * arm, right - 0.4 * arm, top, base - 0.03)
    front = _rounded(x, y, left + 0.4 * arm, right - 0.4 * arm, seat + 0.02, base - 0.015)
    arms = _either(*(_rounded(x, y, a, a + arm, seat - 0.085, base - 0.015) for a in (left, right - arm)))
    tops = _either(*(_rounded(x, y, a + 0.012, a + arm - 0.012, seat - 0.075, seat - 0.02) for a in (left, right - arm)))
    feet = _either(*(_box(x, y, a, a + 0.025, base - 0.03, base + 0.018) for a in (left + 0.03, right - 0.055)))
    colour = torch.full_like(back, 0.10).expand(-1, 3, -1, -1)
    for share, shade in [
        (back, 0.80),
        (_either(*_pair(x, y, left + arm, right - arm, top + 0.03, seat + 0.03)), 1.05),
        (front, 0.66),
        (_either(*_pair(x, y, left + arm, right - arm, seat - 0.015, seat + 0.05)), 1.25),
    ]:
        colour = colour + share * (shade * cloth - colour)
    inside = right - left - 2 * arm - 0.14
    at = left + arm + sofa["pillow"] * inside
    pillow = _rounded(x, y, at, at + 0.14, seat - 0.12, seat + 0.01)
    colour = colour + pillow * (_tint(torch.full_like(at, 0.6), sofa["pillow_warmth"], sofa["pillow_green"]) - colour)
    colour = colour + arms * ((0.85 + 0.3 * tops) * cloth - colour)
    return colour, _either(feet, back, front, arms)


def _pair(x: Tensor, y: Tensor, left: Tensor, right: Tensor, top: Tensor, bottom: Tensor) -> tuple[Tensor, Tensor]:
    """Two cushions side by side."""
    middle = (left + right) / 2
    return _rounded(x, y, left, middle - 0.004, top, bottom), _rounded(x, y, middle + 0.004, right, top, bottom)


def _tint(lightness: Tensor, warmth: Tensor | float, green: Tensor | float) -> Tensor:
    """(n, 3, ...): a colour, by its lightness, warmth (orange to blue) and greenness (green to purple), the last two in (-1, 1)."""
    channels = [(0.55, -0.35), (-0.05, 0.25), (-0.62, -0.20)]
    return torch.cat([lightness * (1 + a * warmth + b * green) for a, b in channels], 1)


def _uniform(u: Tensor) -> Tensor:
    """Normal numbers -> uniform ones on (-1, 1)."""
    return torch.erf(u / math.sqrt(2))


def _edge(inside: Tensor) -> Tensor:
    """1 where a distance is well inside, 0 well outside."""
    return torch.sigmoid(SHARP * inside)


def _band(distance: Tensor, half: Tensor | float) -> Tensor:
    """1 where a signed distance from a line is well below `half` on either side. No absolute value: that has a kink."""
    return _edge(half + distance) * _edge(half - distance)


def _box(x: Tensor, y: Tensor, left: Tensor | float, right: Tensor | float, top: Tensor, bottom: Tensor) -> Tensor:
    return _edge(x - left) * _edge(right - x) * _edge(y - top) * _edge(bottom - y)


def _rounded(x: Tensor, y: Tensor, left: Tensor, right: Tensor, top: Tensor, bottom: Tensor) -> Tensor:
    """A box with round corners: the distance inside is the soft minimum of those to its four sides."""
    corner = 36.0
    far = torch.exp(corner * (left - x)) + torch.exp(corner * (x - right))
    far = far + torch.exp(corner * (top - y)) + torch.exp(corner * (y - bottom))
    return torch.sigmoid(-SHARP / corner * torch.log(far))


def _disc(x: Tensor, y: Tensor, at: Tensor | float, down: Tensor | float, wide: Tensor | float, high: Tensor | float) -> Tensor:
    """An ellipse; its edge is about a pixel wide at its top and bottom."""
    return _edge(high * (1 - ((x - at) / wide) ** 2 - ((y - down) / high) ** 2) / 2)


def _either(*shares: Tensor) -> Tensor:
    """The union of shapes."""
    outside = 1 - shares[0]
    for share in shares[1:]:
        outside = outside * (1 - share)
    return 1 - outside


def _limited(image: Tensor) -> Tensor:
    """Colours as they are up to about 0.9, and softly below 1."""
    return image - F.softplus(24 * (image - 0.97)) / 24


def _orthogonal(a: np.ndarray) -> np.ndarray:
    q, r = np.linalg.qr(a)
    return q * np.sign(np.diag(r))  # the sign is a matter of the library
