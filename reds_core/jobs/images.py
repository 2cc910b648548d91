"""Images as files: encoded, and as tensors exactly as a reader of the file will see them."""

from __future__ import annotations

import io
import zlib
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image

from reds_core.types import Candidate, Images, Levels

ImageFormat = Literal["png", "jpg", "webp"]
DEFAULT_QUALITY = 95
MOST_PIXELS = {"png": 2**31 - 1, "jpg": 65_500, "webp": 16_383}  # down or across, of a file of the format

Pixels = UInt8[np.ndarray, "h w c"]


def to_levels(images: Images) -> Levels:
    """Returns images rounded to bytes."""
    return (images * 255).round().to(torch.uint8)


def to_bytes(images: Images) -> UInt8[np.ndarray, "n h w c"]:
    """Returns images rounded to bytes, channels last, on the host."""
    return on_host(to_levels(images))


def on_host(levels: Levels) -> UInt8[np.ndarray, "n h w c"]:
    """Returns bytes with channels last, on the host."""
    found: np.ndarray = levels.permute(0, 2, 3, 1).contiguous().cpu().numpy()
    return found


def from_levels(levels: Levels) -> Images:
    """Returns the images in [0, 1] that bytes stand for."""
    return levels.float() / 255


def size_problem(image: ImageFormat, height: int, width: int) -> str:
    """Returns in words why images of this size cannot be stored in a format, or ""."""
    most = MOST_PIXELS[image]
    if max(height, width) <= most:
        return ""
    return f"{image} files have at most {most:,} pixels down or across, and the images have {height:,}x{width:,}; choose png"


def encode(pixels: Pixels, image: ImageFormat, quality: int | None) -> bytes:
    """Returns the file of an image of 1 or 3 channels; equal pixels give equal bytes."""
    picture = Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)
    lossy: dict[str, Any] = {"quality": quality or DEFAULT_QUALITY}
    # zlib's strategy for filtered pixels: searching them for repeats takes eight times as long at 1024x1024, and saves no bytes.
    options: dict[str, Any] = {"png": {"compress_type": zlib.Z_RLE}, "jpg": lossy | {"subsampling": "4:4:4"}, "webp": lossy}[image]
    file = io.BytesIO()
    picture.save(file, {"png": "PNG", "jpg": "JPEG", "webp": "WEBP"}[image], **options)
    return file.getvalue()


def file_of(candidate: Candidate, image: ImageFormat, quality: int | None) -> bytes:
    """Returns the encoded file of an accepted candidate."""
    return candidate.image or encode(candidate.pixels, image, quality)


def decode(file: bytes, channels: int) -> Pixels:
    """Returns the pixels of a file, in 1 or 3 channels. Raises OSError if it is not an image."""
    with Image.open(io.BytesIO(file)) as picture:
        pixels = np.asarray(picture.convert("L" if channels == 1 else "RGB"))
    return pixels[:, :, None] if channels == 1 else pixels


def as_stored(images: Images, image: ImageFormat, quality: int | None) -> tuple[Images, list[bytes]]:
    """Returns images as a reader will see them, and their files if they had to be encoded to know (in a lossy format)."""
    if image == "png":
        return (images * 255).round() / 255, []
    files = [encode(x, image, quality) for x in to_bytes(images)]
    pixels = np.stack([decode(f, images.shape[1]) for f in files])
    return torch.from_numpy(pixels).to(images.device).permute(0, 3, 1, 2).to(images.dtype) / 255, files
