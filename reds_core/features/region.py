"""Where in the image a feature looks: a box, a mask from a file, or what a segmentation network finds in the seed's image.

A region is a weight for every pixel, 0 to 1. A segment's weights are fixed by the seed's own image (`bind`), so that a variant
is compared with its seed on the same pixels.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from pydantic import Field
from torch import Tensor

from reds_core.errors import ModelError
from reds_core.features.network import NetworkInput
from reds_core.models.config import Access, Config, Count, File, Number, Sha256
from reds_core.types import Images

Fraction = Annotated[Number, Field(ge=0, le=1)]


class Segment(NetworkInput):
    """The pixels that a segmentation network, images -> (n, k, h, w) scores, gives to some of its classes."""

    classes: Annotated[tuple[Count, ...], Field(min_length=1, description="Indices of the network's classes.")]


class Region(Config):
    """Exactly one of `box`, `mask` and `segment`."""

    box: tuple[Fraction, Fraction, Fraction, Fraction] | None = Field(
        None, description="[top, left, bottom, right] in fractions of the image."
    )
    mask: File | None = Field(None, description="An image of the generator's size; white is inside.")
    sha256: Sha256 | None = Field(None, description="The mask file's hash, to pin it.")
    segment: Segment | None = Field(None, description="A segmentation network and the classes that count.")

    def mistakes(self) -> list[str]:
        """What a field's own type cannot see."""
        given = [k for k in ("box", "mask", "segment") if getattr(self, k) is not None]
        if len(given) != 1:
            return [f"give exactly one of box, mask and segment, not {', '.join(given) or 'none'}"]
        if self.box and (self.box[0] >= self.box[2] or self.box[1] >= self.box[3]):
            return [f"box {list(self.box)} is empty: it is [top, left, bottom, right], top < bottom and left < right"]
        if self.sha256 and not self.mask:
            return ["sha256 pins a mask's file, but there is no mask"]
        return []


def load_weights(region: Region, access: Access, shape: tuple[int, int, int]) -> Tensor:
    """A box's or mask's weights, (h, w)."""
    _, h, w = shape
    if region.box:
        top, left, bottom, right = (round(v * size) for v, size in zip(region.box, (h, w, h, w), strict=True))
        weights = torch.zeros(h, w)
        weights[top:bottom, left:right] = 1
    else:
        weights = _read_mask(region, (h, w))
    if not bool(weights.any()):
        raise ModelError(f"the region {region.box or region.mask} holds no pixel of a {h}x{w} image; make it larger")
    return weights.to(access.device)


def load_segment(segment: Segment, access: Access) -> Callable[[Images], Tensor]:
    """A function from the seeds' images to their weights, (n, 1, h, w), the share of the classes asked for."""
    network = segment.load_network(access)

    def weights(images: Images) -> Tensor:
        with torch.no_grad():
            scores = network(images)
            if scores.ndim != 4 or max(segment.classes) >= scores.shape[1]:
                raise ModelError(
                    f"the segmentation network gives {tuple(scores.shape)}; (n, classes, h, w) with class "
                    f"{max(segment.classes)} is needed"
                )
            share = scores.softmax(1)[:, list(segment.classes)].sum(1, keepdim=True)
            return F.interpolate(share, images.shape[2:], mode="bilinear", align_corners=False)

    return weights


def _read_mask(region: Region, size: tuple[int, int]) -> Tensor:
    try:
        with Image.open(str(region.mask)) as image:
            pixels = np.asarray(image.convert("L"), np.float32) / 255
    except OSError as error:
        raise ModelError(f"the mask {region.mask} cannot be read as an image: {error}") from error
    if pixels.shape != size:
        raise ModelError(
            f"the mask {region.mask} is {pixels.shape[0]}x{pixels.shape[1]}, the generator's images are "
            f"{size[0]}x{size[1]}; resize the mask"
        )
    return torch.from_numpy(pixels)
