"""An image file's bytes -> pixels in a generator's shape, whatever the file's format, mode, size and orientation."""

from __future__ import annotations

import io
from typing import Literal

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageOps, UnidentifiedImageError

from reds_core.errors import ModelError, described

Resize = Literal["crop", "pad", "stretch"]
BEHIND = (255, 255, 255)  # what is seen through transparent pixels
BORDER = 0  # of a padded image: black


def looks_like_an_image(content: bytes) -> str:
    """Returns why bytes are no image, by their first few, or ""."""
    if not content:
        return "an empty file"
    try:
        with Image.open(io.BytesIO(content)) as picture:
            return "" if min(picture.size) else "an image without pixels"
    except UnidentifiedImageError:
        return "not an image"
    # Decoders raise whatever they like for bytes that begin like an image.
    except Exception as error:
        return f"not an image: {described(error)}"


def pixels_of(content: bytes, shape: tuple[int, int, int], resize: Resize) -> UInt8[np.ndarray, "h w c"]:
    """Returns an image in a generator's shape.

    Args:
        content: the file's bytes.
        shape: channels, height and width.
        resize: crop: the largest part in the middle with the right proportions; pad: all of it, with black borders; stretch: all
            of it, out of proportion.

    Raises:
        ModelError: it cannot be decoded.
    """
    channels, height, width = shape
    try:
        with Image.open(io.BytesIO(content)) as opened:
            opened.draft(None, (2 * width, 2 * height))  # a JPEG many times too large is decoded at a fraction of its size
            picture = _plain(ImageOps.exif_transpose(opened), "L" if channels == 1 else "RGB")
    # Decoders raise whatever they like on damaged bytes.
    except Exception as error:
        raise ModelError(f"cannot be decoded: {described(error)}") from error
    if picture.size != (width, height):
        method = Image.Resampling.LANCZOS
        if resize == "crop":
            picture = ImageOps.fit(picture, (width, height), method)
        elif resize == "pad":
            picture = ImageOps.pad(picture, (width, height), method, color=BORDER)
        else:
            picture = picture.resize((width, height), method)
    pixels = np.asarray(picture, dtype=np.uint8)
    return pixels[:, :, None] if channels == 1 else pixels


def has_colour(content: bytes) -> bool:
    """Returns whether a file is of an image with colours, by its mode."""
    with Image.open(io.BytesIO(content)) as picture:
        return picture.mode not in ("1", "L", "LA", "I", "F") and not picture.mode.startswith("I;16")


def _plain(picture: Image.Image, mode: Literal["L", "RGB"]) -> Image.Image:
    """Returns an image of any mode in 8 bits, grey or RGB, on a white ground where it is transparent."""
    if picture.mode.startswith("I;16") or picture.mode == "I":
        values = np.asarray(picture).astype(np.int64)
        most = 65535 if picture.mode.startswith("I;16") or values.max(initial=0) > 255 else 255
        picture = Image.fromarray((values.clip(0, most) * 255 // most).astype(np.uint8))
    if picture.mode == "P" or "transparency" in picture.info:
        picture = picture.convert("RGBA")
    if picture.mode in ("LA", "PA", "RGBA", "La", "RGBa"):
        picture = picture.convert("RGBA")
        ground = Image.new("RGBA", picture.size, (*BEHIND, 255))
        picture = Image.alpha_composite(ground, picture)
    return picture.convert(mode)
