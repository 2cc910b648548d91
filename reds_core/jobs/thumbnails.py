"""Thumbnails: what a report shows of a shard's images, made once, with the shard, so that a report reads no tar.

    shard-00000.zip   s00000123-d02p-w03.webp and so on, of accepted and of rejected candidates, stored in the order of the table

A contact sheet shows few seeds, so a shard has thumbnails of few, spread over it. None has more than about MOST_BYTES: what hardly
compresses, such as noise, gets a lower quality. Equal pixels give equal bytes.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
from PIL import Image

from reds_core.jobs.images import Pixels, decode
from reds_core.spec.fields import Spec
from reds_core.types import Candidate

SIDE = 160  # pixels, the longer side of a thumbnail
MOST_BYTES = 4096
EXACT = 64  # pixels; smaller images keep every pixel as it is, if they fit in MOST_BYTES
QUALITIES = (90, 80, 65, 50, 35, 20)
MOST_SEEDS, MOST_ALONE, MOST_CELLS = 24, 96, 800  # on a contact sheet: seeds, seeds of a run without variants, images
NEVER = (1980, 1, 1, 0, 0, 0)  # the least time that a zip can hold
ENDING = ".webp"


def most_seeds(spec: Spec) -> int:
    """Returns how many seeds a contact sheet shows at most, and of how many a shard has thumbnails."""
    if not spec.walks:
        return MOST_ALONE
    cells = 1 + (spec.seeds.images is not None) + 2 * spec.trajectory.directions * spec.trajectory.waypoints
    return max(1, min(MOST_SEEDS, MOST_CELLS // cells))


def pictured(spec: Spec, seeds: Sequence[int]) -> list[int]:
    """Returns those of a shard's seeds that have thumbnails, spread evenly over it."""
    count = min(most_seeds(spec), len(seeds))
    return [seeds[int((i + 0.5) * len(seeds) / count)] for i in range(count)]


def shrunk(pixels: Pixels) -> Pixels:
    """Returns an image with at most SIDE pixels down and across."""
    height, width, channels = pixels.shape
    if max(height, width) <= SIDE:
        return pixels
    picture = _picture_of(pixels)
    picture.thumbnail((SIDE, SIDE))
    return np.asarray(picture).reshape(picture.height, picture.width, channels)


def thumbnail(pixels: Pixels) -> bytes:
    """Returns the WebP file of an image's thumbnail."""
    picture = _picture_of(shrunk(pixels))
    tries: list[tuple[Image.Image, dict[str, Any]]] = [(picture, {"lossless": True})] if max(picture.size) <= EXACT else []
    tries += [(picture, {"quality": quality}) for quality in QUALITIES]
    tries.append((picture.reduce(2), {"quality": QUALITIES[-1]}))  # white noise
    content = b""
    for image, options in tries:
        file = io.BytesIO()
        image.save(file, "WEBP", **options)
        content = file.getvalue()
        if len(content) <= MOST_BYTES:
            break
    return content


def _picture_of(pixels: Pixels) -> Image.Image:
    return Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)


def thumbnail_of(candidate: Candidate, channels: int) -> tuple[str, bytes]:
    """Returns a candidate's key, and its thumbnail; b"" if it has no image."""
    pixels = candidate.small if candidate.reason else candidate.pixels
    if candidate.image and not pixels.size:
        pixels = decode(candidate.image, channels)
    return candidate.key, thumbnail(pixels) if pixels.size else b""


def write_thumbnails(file: IO[bytes], thumbnails: Iterable[tuple[str, bytes]]) -> None:
    """Writes thumbnails with their keys; b"" is left out."""
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for key, content in thumbnails:
            if content:
                archive.writestr(zipfile.ZipInfo(key + ENDING, NEVER), content)


def read_thumbnails(path: Path) -> dict[str, bytes]:
    """Returns a shard's thumbnails by key."""
    with zipfile.ZipFile(path) as archive:
        return {name.removesuffix(ENDING): archive.read(name) for name in archive.namelist()}
