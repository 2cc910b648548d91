"""An object's place and shape, as the moments of its soft mask m (mask.py): six lengths, in fractions of the image.

    a = mean(m)                        its area: sqrt(a) is a length
    p = m / sum(m)                     the mask as a density over pixels, at y, x in (0, 1)
    E[y], E[x]                         its centre
    s_y = sqrt(Var[y] + 1 / 12 h^2)    its extent down and across; the second term is a pixel's own
    s_x = sqrt(Var[x] + 1 / 12 w^2)
    Cov[x, y] / sqrt((s_y^2 + s_x^2) / 2)    how far it leans, in [-that root, that root]

A pixel counts as a small square, not as a point: a rectangle's extents are its sides over sqrt(12), whatever its size.
"""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from reds_core.features.mask import MaskInput, Masks, or_nan, shown
from reds_core.models.config import Access
from reds_core.types import Feature, Features, Images


class Segmentation(MaskInput):
    """Where an object is and what shape it has, whatever it looks like: the moments of a segmentation network's mask."""

    kind: Literal["segmentation"]

    def load(self, access: Access, shape: tuple[int, int, int]) -> Feature:
        """Returns the feature, for images of any shape."""
        return _SegmentationFeature(self, access)


class _SegmentationFeature:
    names: tuple[str, ...] = ()
    unit = "size, place and extent in fractions of the image (L2)"

    def __init__(self, config: Segmentation, access: Access) -> None:
        self.mask = config.load_mask(access)

    def bind(self, images: Images) -> None:
        return None

    def __call__(self, images: Images, bound: Tensor | None) -> Features:
        mask = self.mask(images)
        return or_nan(moments(mask), shown(mask))


def moments(masks: Masks) -> Float[Tensor, "n 6"]:
    """Returns each mask's sqrt(area), centre y and x, extent y and x, and lean; NaN for an empty mask."""
    h, w = masks.shape[2:]
    m = masks[:, 0]
    area = m.mean((1, 2))
    p = m / m.sum((1, 2), keepdim=True)
    y = (torch.arange(h, device=m.device, dtype=m.dtype) + 0.5) / h
    x = (torch.arange(w, device=m.device, dtype=m.dtype) + 0.5) / w
    rows, columns = p.sum(2), p.sum(1)
    cy, cx = rows @ y, columns @ x
    dy, dx = y - cy[:, None], x - cx[:, None]
    var_y = (rows * dy.square()).sum(1) + 1 / (12 * h**2)
    var_x = (columns * dx.square()).sum(1) + 1 / (12 * w**2)
    lean = torch.einsum("nhw,nh,nw->n", p, dy, dx) / ((var_y + var_x) / 2).sqrt()
    return torch.stack([area.sqrt(), cy, cx, var_y.sqrt(), var_x.sqrt(), lean], 1)
