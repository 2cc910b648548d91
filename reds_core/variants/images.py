"""Images as files: encoded bytes, and tensors exactly as a reader of the file will see them."""

from __future__ import annotations

import io
import zlib
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from reds_core.types import Candidate, Images

ImageFormat = Literal["png", "jpg", "webp"]
DEFAULT_QUALITY = 95


def to_levels(images: Images) -> Tensor:
    """Images in [0, 1] -> uint8, the same shape."""
    return (images * 255).round().to(torch.uint8)


def to_bytes(images: Images) -> np.ndarray:
    """Images in [0, 1] -> uint8 (n, h, w, c), on the host."""
    levels: np.ndarray = to_levels(images).permute(0, 2, 3, 1).contiguous().cpu().numpy()
    return levels


def encode(pixels: np.ndarray, image: ImageFormat, quality: int | None) -> bytes:
    """uint8 (h, w, c) with c 1 or 3 -> the bytes of a file; equal pixels give equal bytes."""
    picture = Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)
    lossy: dict[str, Any] = {"quality": quality or DEFAULT_QUALITY}
    # zlib's way for filtered pixels: to search them for repeats takes eight times as long at 1024x1024, for no fewer bytes.
    options: dict[str, Any] = {"png": {"compress_type": zlib.Z_RLE}, "jpg": lossy | {"subsampling": "4:4:4"}, "webp": lossy}[image]
    file = io.BytesIO()
    picture.save(file, {"png": "PNG", "jpg": "JPEG", "webp": "WEBP"}[image], **options)
    return file.getvalue()


def file_of(candidate: Candidate, image: ImageFormat, quality: int | None) -> bytes:
    """The encoded file of an accepted candidate."""
    return candidate.image or encode(candidate.pixels, image, quality)


def decode(file: bytes, channels: int) -> np.ndarray:
    """The bytes of a file -> uint8 (h, w, channels). Raises OSError if it is no image."""
    with Image.open(io.BytesIO(file)) as picture:
        pixels = np.asarray(picture.convert("L" if channels == 1 else "RGB"))
    return pixels[:, :, None] if channels == 1 else pixels


def as_stored(images: Images, image: ImageFormat, quality: int | None) -> tuple[Images, list[bytes]]:
    """Images as a reader will see them, and their files if encoding them was needed to know (a lossy format)."""
    if image == "png":
        return (images * 255).round() / 255, []
    files = [encode(x, image, quality) for x in to_bytes(images)]
    pixels = np.stack([decode(f, images.shape[1]) for f in files])
    return torch.from_numpy(pixels).to(images.device).permute(0, 3, 1, 2).to(images.dtype) / 255, files
