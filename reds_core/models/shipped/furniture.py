"""What a rendered room shows: the light that falls on it, and a layer for each segment, which rooms.py paints back to front."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from reds_core.models.shipped.shapes import band, box, disc, edge, either, rounded, tint

Values = dict[str, Tensor]  # a group's factors by name, each (n, 1, 1, 1)
Layer = tuple[Tensor, Tensor]  # its colour (n, 3, h, w), and its share of every pixel (n, 1, h, w)


def daylight(x: Tensor, y: Tensor, room: dict[str, Values]) -> Tensor:
    """Returns the daylight, and its colour, on each pixel, (n, 3, h, w): from the window, and a little from everywhere."""
    window, light = room["window"], room["light"]
    reach = torch.exp(-(((x - window["x"]) / 0.38) ** 2) - ((y - window["y"] - 0.1) / 0.45) ** 2)
    return tint(light["day"] * (0.16 + 0.42 * reach), 0.6 * light["warmth"], 0.0) + 0.64


def lamplight(x: Tensor, y: Tensor, lamp: Values) -> Tensor:
    """Returns the lamplight, and its colour, on each pixel, (n, 3, h, w)."""
    reach = torch.exp(-(((x - lamp["x"]) / 0.17) ** 2) - ((y - lamp["height"]) / 0.2) ** 2)
    return tint(0.55 * lamp["glow"] * reach, lamp["warmth"], 0.0)


def paint_wall(x: Tensor, y: Tensor, room: dict[str, Values], texture: Tensor, light: Tensor) -> Layer:
    """Paints the wall, with a skirting board along the floor."""
    wall, horizon = room["wall"], room["floor"]["horizon"]
    paint = tint(wall["lightness"], wall["warmth"], wall["green"])
    board = box(x, y, -1.0, 2.0, horizon - 0.045, horizon)
    colour = (paint * (1 + texture) + board * (0.8 * paint + 0.25 - paint)) * light
    return colour, torch.ones_like(board)


def paint_floor(x: Tensor, y: Tensor, room: dict[str, Values], texture: Tensor, light: Tensor) -> Layer:
    """Paints the floor: boards that run to a vanishing point, a rug, a patch of daylight, and the shadow under the sofa."""
    floor, sofa, window, day = (room[k] for k in ("floor", "sofa", "window", "light"))
    deep = F.softplus((y - floor["horizon"]) * 20) / 20  # 0 above the horizon: the boards' lines stay finite
    lines = torch.cos(2 * math.pi * 2.2 * (x - 0.5) / (deep + 0.25))
    wood = tint(floor["lightness"], floor["warmth"], 0.0) * (1 + 0.07 * torch.tanh(2 * lines) + 2 * texture)
    rug = disc(x, y, floor["rug_x"], 0.90, floor["rug"], 0.075)
    border = rug - disc(x, y, floor["rug_x"], 0.90, floor["rug"] * 0.86, 0.06)
    woven = tint(floor["rug_lightness"], floor["rug_warmth"], floor["rug_green"]) * (1 - 0.35 * border)
    colour = wood + rug * (woven - wood)
    # The window's light, where it falls on the floor: it leans with the sun, and is softer than any edge.
    leaning = x - day["slant"] * (y - 0.6) - window["x"] - 0.06
    patch = torch.sigmoid((window["width"] + leaning) * 40) * torch.sigmoid((window["width"] - leaning) * 40)
    patch = patch * torch.sigmoid((y - floor["horizon"] - 0.04) * 60)
    sun = tint(0.75 * day["day"] * patch, 0.5 * day["warmth"], 0.0)
    under = torch.exp(-(((x - sofa["x"]) / (0.58 * sofa["width"])) ** 4) - ((y - sofa["base"] - 0.01) / 0.035) ** 2)
    colour = colour * (light + sun) * (1 - 0.5 * under)
    return colour, edge(y - floor["horizon"]).expand_as(under)


def paint_window(x: Tensor, y: Tensor, room: dict[str, Values]) -> Layer:
    """Paints the window: a white frame of four panes before the sky, with hills at the bottom, and a sill."""
    window, light = room["window"], room["light"]
    left, right = window["x"] - window["width"], window["x"] + window["width"]
    top, bottom = window["y"] - window["height"], window["y"] + window["height"]
    frame = box(x, y, left, right, top, bottom)
    panes = box(x, y, left + 0.022, right - 0.022, top + 0.022, bottom - 0.022)
    cross = either(band(x - window["x"], 0.011), band(y - window["y"], 0.011))
    sky = tint(0.25 + 0.65 * light["day"], light["warmth"] - 0.35 + 0.6 * (y - top), 0.0)
    hills = edge(y - bottom + 0.08 + 0.015 * torch.cos(14 * (x - left)))
    view = sky + hills * (tint(0.12 + 0.35 * light["day"], 0.3, 0.6) - sky)
    white = 0.68 + 0.25 * light["day"]
    sill = box(x, y, left - 0.02, right + 0.02, bottom, bottom + 0.025)
    return white + panes * (1 - cross) * (view - white), either(frame, sill)


def paint_picture(x: Tensor, y: Tensor, picture: Values, light: Tensor) -> Layer:
    """Paints a framed landscape: a sky of one colour, a hill of its complement, a pale sun."""
    across, down = x - picture["x"], y - picture["y"]
    width, height = picture["width"], picture["height"]
    frame = band(across, width) * band(down, height)
    inner = band(across, width - 0.02) * band(down, height - 0.02)
    sky = tint(picture["lightness"] + 0.2, picture["warmth"], picture["green"])
    hill = tint(0.7 * picture["lightness"], -picture["warmth"], -picture["green"])
    view = sky + edge(down - picture["hill"] - 0.03 * torch.sin(across * 30)) * (hill - sky)
    view = view + disc(across, down, 0.35 * width, -0.4 * height, 0.022, 0.022) * (0.95 - view)
    wood = torch.full_like(view, 0.16)
    return (wood + inner * (view - wood)) * light, frame


def paint_lamp(x: Tensor, y: Tensor, lamp: Values) -> Layer:
    """Paints a floor lamp: its foot, its pole and its shade, which is brightest in the middle."""
    across, foot = x - lamp["x"], 0.85
    pole = band(across, 0.012) * edge(y - lamp["height"]) * edge(foot - y)
    base = disc(across, y, 0.0, foot, 0.05, 0.018)
    half = lamp["shade"] * (1 + 2.5 * (y - lamp["height"]))  # wider below
    shade = band(across, half) * band(y - lamp["height"], 0.075)
    metal = torch.full_like(shade, 0.18)
    lit = tint(0.5 + 0.5 * lamp["glow"] * torch.exp(-((across / 0.08) ** 2)), lamp["warmth"], 0.0)
    return metal + shade * (lit - metal), either(pole, base, shade)


def paint_sofa(x: Tensor, y: Tensor, sofa: Values) -> Layer:
    """Paints the sofa: feet, a back with two cushions, a seat with two, arms and a pillow, lighter towards the left and on top.

    The light in the room leaves its cloth alone. Otherwise cloth of another colour could look just like cloth in another light, and
    holding how the sofa looks would not hold the sofa.
    """
    half, base = sofa["width"] / 2, sofa["base"]
    left, right, top = sofa["x"] - half, sofa["x"] + half, base - sofa["back"]
    seat = base - sofa["seat"] * sofa["back"]
    arm = sofa["arm"]
    cloth = tint(sofa["lightness"], sofa["warmth"], sofa["green"]) * (1 - 0.25 * (x - 0.45))
    back = rounded(x, y, left + 0.4 * arm, right - 0.4 * arm, top, base - 0.03)
    front = rounded(x, y, left + 0.4 * arm, right - 0.4 * arm, seat + 0.02, base - 0.015)
    arms = either(*(rounded(x, y, a, a + arm, seat - 0.085, base - 0.015) for a in (left, right - arm)))
    tops = either(*(rounded(x, y, a + 0.012, a + arm - 0.012, seat - 0.075, seat - 0.02) for a in (left, right - arm)))
    feet = either(*(box(x, y, a, a + 0.025, base - 0.03, base + 0.018) for a in (left + 0.03, right - 0.055)))
    colour = torch.full_like(back, 0.10).expand(-1, 3, -1, -1)
    for share, shade in [
        (back, 0.80),
        (either(*cushions(x, y, left + arm, right - arm, top + 0.03, seat + 0.03)), 1.05),
        (front, 0.66),
        (either(*cushions(x, y, left + arm, right - arm, seat - 0.015, seat + 0.05)), 1.25),
    ]:
        colour = colour + share * (shade * cloth - colour)
    inside = right - left - 2 * arm - 0.14
    at = left + arm + sofa["pillow"] * inside
    pillow = rounded(x, y, at, at + 0.14, seat - 0.12, seat + 0.01)
    colour = colour + pillow * (tint(torch.full_like(at, 0.6), sofa["pillow_warmth"], sofa["pillow_green"]) - colour)
    colour = colour + arms * ((0.85 + 0.3 * tops) * cloth - colour)
    return colour, either(feet, back, front, arms)


def cushions(x: Tensor, y: Tensor, left: Tensor, right: Tensor, top: Tensor, bottom: Tensor) -> tuple[Tensor, Tensor]:
    """Returns two cushions side by side."""
    middle = (left + right) / 2
    return rounded(x, y, left, middle - 0.004, top, bottom), rounded(x, y, middle + 0.004, right, top, bottom)
