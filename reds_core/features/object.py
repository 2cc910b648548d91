"""An object as a person means it: *this* sofa, with its look and its place.

    f(x) = [x * m(x), m(x)]    m: the object's soft mask in x itself

x * m, the picture cut out, is how the object looks; m is where it is and what shape it has. Both are pixel values from 0 to 1, so
they can stand in one vector without calibration: an object that moves, or changes its shape, its colour or its pattern, moves away
from its seed's. An image that does not show it has no f: NaN, a reject.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from reds_core.features.filters import Sigma, blurred, to_gray
from reds_core.features.mask import MaskInput, or_nan, shown
from reds_core.models.config import Access
from reds_core.types import Feature, Features, Images


class Object(MaskInput):
    """One object's look and place: the pixels that a segmentation network assigns to it, and its mask."""

    kind: Literal["object"]
    in_pixels: ClassVar[tuple[str, ...]] = ("lowpass",)
    gray: bool = Field(False, description="Look at brightness only.")
    lowpass: Sigma | None = Field(
        None,
        description="Keep what is coarser than this many pixels (the sigma of a Gaussian) of the cut-out and its mask; all scales "
        "if absent.",
    )

    def load(self, access: Access, shape: tuple[int, int, int]) -> Feature:
        """Returns the feature, for images of any shape."""
        return _ObjectFeature(self, access)


class _ObjectFeature:
    names: tuple[str, ...] = ()
    unit = "the object's pixels and mask, 0 to 1 (L2)"

    def __init__(self, config: Object, access: Access) -> None:
        self.config = config
        self.mask = config.load_mask(access)

    def bind(self, images: Images) -> None:
        return None

    def __call__(self, images: Images, bound: Tensor | None) -> Features:
        mask = self.mask(images)
        look = to_gray(images) if self.config.gray else images
        both = torch.cat([look * mask, mask], 1)
        # After cutting out: before it, what surrounds the object would leak in.
        if self.config.lowpass is not None:
            both = blurred(both, self.config.lowpass)
        return or_nan(both, shown(mask)).flatten(1)
