"""Small versions of images, in a file: enough to tell which of a seed's samples look different, in constant memory."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Int32
from PIL import Image

SIDE = 16  # pixels


def shape_of(content: bytes) -> tuple[int, int, int]:
    """Returns an encoded image's height, width and channels, without decoding it."""
    with Image.open(io.BytesIO(content)) as picture:
        return picture.height, picture.width, len(picture.getbands())


def small(content: bytes) -> bytes:
    """Returns the means over an encoded image's 16 x 16 cells as bytes; every pixel, if it has no more."""
    with Image.open(io.BytesIO(content)) as picture:
        size = min(SIDE, picture.width), min(SIDE, picture.height)
        return (picture if picture.size == size else picture.resize(size, Image.Resampling.BOX)).tobytes()


class SmallImages:
    """Rows of bytes in a new file at `path`, all of one length."""

    def __init__(self, path: Path) -> None:
        self.file = path.open("w+b")
        self.length = 0

    def append(self, row: bytes) -> None:
        """Adds a row. Raises ValueError if it is of another length than the first one."""
        self.length = self.length or len(row)
        if len(row) != self.length:
            raise ValueError(f"an image of {len(row)} small pixels among those of {self.length}")
        self.file.write(row)

    def rows(self, positions: Sequence[int]) -> Int32[np.ndarray, "n p"]:
        """Returns the rows at these positions, counted from 0 in the order in which they were added."""
        found = np.empty((len(positions), self.length), np.int32)
        for row, position in zip(found, positions, strict=True):
            self.file.seek(position * self.length)
            row[:] = np.frombuffer(self.file.read(self.length), np.uint8)
        return found

    def close(self) -> None:
        self.file.close()
