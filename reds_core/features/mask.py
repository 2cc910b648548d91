"""Soft masks: how far each pixel of an image belongs to an object, by a segmentation network.

    m(x)    the share, 0 to 1, that the network's scores give to the classes asked for, at the image's own size

An image shows the object if m > 1/2 for at least a thousandth of its pixels. Where it does not, there is nothing to measure: NaN,
which is a reject, never a mask of zeros, by which everything would look held.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Literal

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from reds_core.errors import ModelError
from reds_core.features.input import NetworkInput
from reds_core.models.config import Access, Count
from reds_core.types import Images

SMALLEST = 1e-3  # of an image's pixels: less is no object

Mask = Callable[[Images], Tensor]  # (n, c, h, w) -> (n, 1, h, w), 0 to 1


class MaskInput(NetworkInput):
    """A segmentation network, images -> (n, k, h, w) scores, and which of its classes are the object."""

    classes: Annotated[tuple[Annotated[Count, Field(ge=0)], ...], Field(min_length=1)] = Field(
        description="Indices of the network's classes that are the object."
    )
    scores: Literal["softmax", "sigmoid", "none"] = Field(
        "softmax",
        description="What makes shares of the scores: a softmax over classes, a sigmoid of each, or nothing, if they are shares.",
    )

    def load_mask(self, access: Access) -> Mask:
        """m(x), with its derivatives."""
        network = self.load_network(access)

        def mask(images: Images) -> Tensor:
            scores = network(images)
            self._check(scores)
            shares = scores.softmax(1) if self.scores == "softmax" else scores.sigmoid() if self.scores == "sigmoid" else scores
            share = shares[:, list(self.classes)].sum(1, keepdim=True)
            if share.shape[2:] != images.shape[2:]:
                share = F.interpolate(share, images.shape[2:], mode="bilinear", align_corners=False, antialias=True)
            # Overlapping sigmoids may add up to more than all of a pixel; a softmax may by rounding.
            return share.clamp(0, 1)

        return mask

    def _check(self, scores: Tensor) -> None:
        if scores.ndim != 4 or max(self.classes) >= scores.shape[1]:
            raise ModelError(
                f"the segmentation network gives {tuple(scores.shape)}; (n, classes, h, w) with class {max(self.classes)} is needed"
            )
        if self.scores == "softmax" and scores.shape[1] == 1:
            raise ModelError(
                "the segmentation network has one class, of which a softmax makes 1 everywhere; give scores: sigmoid, or scores: none "
                "if the network ends in a sigmoid of its own"
            )


def shown(masks: Tensor) -> Tensor:
    """Which of masks (n, 1, h, w) show an object: (n,)."""
    return (masks > 0.5).flatten(1).float().mean(1) >= SMALLEST


def or_nan(values: Tensor, known: Tensor) -> Tensor:
    """Values (n, ...), NaN in the rows that are not `known` (n,)."""
    return values.masked_fill(~known.reshape(-1, *[1] * (values.ndim - 1)), float("nan"))


def eroded(masks: Tensor, pixels: int) -> Tensor:
    """Masks (n, 1, h, w) shrunk: each pixel gets the least of the square of `pixels` around it. The image's border does not count."""
    if not pixels:
        return masks
    size = 2 * pixels + 1
    # A square is a column of rows.
    rows = F.max_pool2d(-masks, (1, size), 1, (0, pixels))
    return -F.max_pool2d(rows, (size, 1), 1, (pixels, 0))
