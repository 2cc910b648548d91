"""Where in the image a feature looks: a box, a mask from a file, or what a segmentation network finds.

A region is a weight for every pixel, 0 to 1. A segment's weights are fixed by the seed's own image (`bind`), so that a variant is
compared with its seed on the same pixels; or they are found in every image anew (`recompute`), so that they follow what moves.

`erode` draws a segment in from its border. A low pass of sigma s blurs before the weights apply, so that a pixel at distance e from
the border takes the share Phi(-e / s) from beyond it: 16 % for e = s, 2 % for e = 2 s. Erode by twice the sigma to keep that out.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from pydantic import Field
from torch import Tensor

from reds_core.errors import ModelError
from reds_core.features.mask import FindMask, MaskInput, Masks, eroded, or_nan, shown
from reds_core.models.config import Access, Config, Count, File, Number, Sha256
from reds_core.types import Images

Fraction = Annotated[Number, Field(ge=0, le=1)]


class Segment(MaskInput):
    """The pixels that a segmentation network assigns to the chosen classes."""

    in_pixels: ClassVar[tuple[str, ...]] = ("erode",)
    erode: Annotated[Count, Field(ge=0)] = Field(
        0, description="How many pixels the segment, or with negate what surrounds it, shrinks at its border."
    )
    recompute: bool = Field(
        False, description="Find the segment in every image anew; otherwise it stays where it is in the seed's image."
    )


class Region(Config):
    """A part of the image, by exactly one of `box`, `mask` and `segment`."""

    in_pixels: ClassVar[tuple[str, ...]] = ("mask",)
    box: tuple[Fraction, Fraction, Fraction, Fraction] | None = Field(
        None, description="A rectangle, [top, left, bottom, right], in fractions of the image."
    )
    mask: File | None = Field(None, description="An image file of the generator's size; white is inside, gray in part.")
    sha256: Sha256 | None = Field(None, description="The mask file's SHA-256 in hex, to pin it; any content is accepted if absent.")
    segment: Segment | None = Field(None, description="What a segmentation network finds.")

    def mistakes(self) -> list[str]:
        given = [k for k in ("box", "mask", "segment") if getattr(self, k) is not None]
        if len(given) != 1:
            return [f"exactly one of box, mask and segment is needed, not {' and '.join(given) or 'none'}"]
        if self.box and (self.box[0] >= self.box[2] or self.box[1] >= self.box[3]):
            return [f"box {list(self.box)} is empty: it is [top, left, bottom, right], top < bottom and left < right"]
        if self.sha256 and not self.mask:
            return ["sha256 pins a mask's file, and there is no mask"]
        return []


def negate_mistakes(region: Region | None, negate: bool) -> list[str]:
    """Returns what is wrong with a feature's `region` and `negate` together."""
    return ["negate needs a region"] if negate and not region else []


EVERYWHERE = Region(box=(0, 0, 1, 1), mask=None, sha256=None, segment=None)


class PixelWeights:
    """A region ready to use: the weights of an image's pixels. `fixed` has them, (h, w), if they are the same for all images."""

    def __init__(self, region: Region, negate: bool, access: Access, shape: tuple[int, int, int]) -> None:
        self.fixed: Float[Tensor, "h w"] | None = None
        if region.segment:
            self.find, self.at_seed = _load_segment(region.segment, negate, access), not region.segment.recompute
        else:
            inside = _load_weights(region, access, shape)
            self.fixed = weights = 1 - inside if negate else inside
            self.find, self.at_seed = (lambda images: weights[None, None]), False

    def bind(self, images: Images) -> Masks | None:
        """Returns the weights in the seeds' images, if it is those that count."""
        if not self.at_seed:
            return None
        with torch.no_grad():
            return self.find(images)

    def weights(self, images: Images, bound: Masks | None) -> Float[Tensor, "_n 1 h w"]:
        """Returns the weights in images: (n, 1, h, w), or (1, 1, h, w) if they are the same for all."""
        return self.find(images) if bound is None else bound


def _load_segment(segment: Segment, negate: bool, access: Access) -> FindMask:
    """Returns the weights of a segment in images: NaN for an image that does not show it, or leaves nothing to look at."""
    mask = segment.load_mask(access)

    def weights(images: Images) -> Masks:
        found = mask(images)
        # It is what is looked at that shrinks, whether that is the segment or everything else.
        looked_at = eroded(1 - found if negate else found, segment.erode)
        return or_nan(looked_at, shown(found) & shown(looked_at))

    return weights


def _load_weights(region: Region, access: Access, shape: tuple[int, int, int]) -> Float[Tensor, "h w"]:
    """Returns a box's or mask's weights."""
    _, h, w = shape
    if region.box:
        top, left, bottom, right = (round(v * size) for v, size in zip(region.box, (h, w, h, w), strict=True))
        weights = torch.zeros(h, w)
        weights[top:bottom, left:right] = 1
    else:
        weights = _read_mask(region, (h, w))
    if not bool(weights.any()):
        raise ModelError(f"the region {region.box or region.mask} covers no pixel of a {h}x{w} image; make it larger")
    return weights.to(access.device)


def _read_mask(region: Region, size: tuple[int, int]) -> Float[Tensor, "h w"]:
    try:
        with Image.open(str(region.mask)) as image:
            pixels = np.asarray(image.convert("L"), np.float32) / 255
    except OSError as error:
        raise ModelError(f"the mask {region.mask} cannot be read as an image: {error}") from error
    if pixels.shape != size:
        raise ModelError(
            f"the mask {region.mask} is {pixels.shape[0]}x{pixels.shape[1]} pixels, but the generator's images are "
            f"{size[0]}x{size[1]}; resize the mask"
        )
    return torch.from_numpy(pixels)
