"""Soft masks: how much of each pixel of an image belongs to an object, by a segmentation network.

    m(x)    the share, 0 to 1, that the network's scores give to the chosen classes, at the image's own size

An image shows the object if m > 1/2 for at least a thousandth of its pixels. Where it does not, there is nothing to measure: NaN,
which is a reject. A mask of zeros instead would make everything look held.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Literal

import torch.nn.functional as F
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor

from reds_core.errors import ModelError
from reds_core.features.input import NetworkInput
from reds_core.models.config import Access, Count
from reds_core.types import Images

SMALLEST = 1e-3  # of an image's pixels: a smaller object does not count as shown

Masks = Float[Tensor, "n 1 h w"]  # 0 to 1
FindMask = Callable[[Images], Masks]


class MaskInput(NetworkInput):
    """A segmentation network, images -> (n, k, h, w) scores, and which of its classes are the object."""

    classes: Annotated[tuple[Annotated[Count, Field(ge=0)], ...], Field(min_length=1)] = Field(
        description="Indices of the network's classes that are the object."
    )
    scores: Literal["softmax", "sigmoid", "none"] = Field(
        "softmax",
        description="How scores become shares of a pixel: softmax over classes; sigmoid of each; none if they are shares already.",
    )

    def load_mask(self, access: Access) -> FindMask:
        """Returns m(x), which has derivatives."""
        network = self.load_network(access)

        def mask(images: Images) -> Masks:
            scores = network(images)
            self._check(scores)
            shares = scores.softmax(1) if self.scores == "softmax" else scores.sigmoid() if self.scores == "sigmoid" else scores
            share = shares[:, list(self.classes)].sum(1, keepdim=True)
            if share.shape[2:] != images.shape[2:]:
                share = F.interpolate(share, images.shape[2:], mode="bilinear", align_corners=False, antialias=True)
            # Overlapping sigmoids may add up to more than the whole pixel; so may a softmax, by rounding.
            return share.clamp(0, 1)

        return mask

    def _check(self, scores: Tensor) -> None:
        if scores.ndim != 4 or max(self.classes) >= scores.shape[1]:
            raise ModelError(
                f"the segmentation network returns {tuple(scores.shape)}; (n, classes, h, w) with a class {max(self.classes)} is "
                "needed"
            )
        if self.scores == "softmax" and scores.shape[1] == 1:
            raise ModelError(
                "the segmentation network has a single class, and a softmax over it is 1 everywhere; choose scores: sigmoid, or "
                "scores: none if the network ends in a sigmoid of its own"
            )


def shown(masks: Masks) -> Bool[Tensor, " n"]:
    """Returns which masks show an object."""
    return (masks > 0.5).flatten(1).float().mean(1) >= SMALLEST


def or_nan(values: Float[Tensor, "n ..."], known: Bool[Tensor, " n"]) -> Float[Tensor, "n ..."]:
    """Returns the values, with NaN in the rows that are not known."""
    return values.masked_fill(~known.reshape(-1, *[1] * (values.ndim - 1)), float("nan"))


def eroded(masks: Masks, pixels: int) -> Masks:
    """Returns masks shrunk by `pixels`: each pixel gets the lowest value around it. The image's border does not count."""
    if not pixels:
        return masks
    size = 2 * pixels + 1
    # The lowest value of a square is the lowest of its rows' lowest values.
    rows = F.max_pool2d(-masks, (1, size), 1, (0, pixels))
    return -F.max_pool2d(rows, (size, 1), 1, (pixels, 0))
