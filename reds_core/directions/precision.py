"""The precision of GPUs: float32 where images and features are measured, TF32 where a product only chooses a direction.

torch runs convolutions in TF32 by default, with 10 bits of mantissa. That is enough for the row of a Jacobian, but a drift measured
with it would be off by more than an image loses when it is rounded to bytes, and a small difference would be only rounding.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import torch


@contextmanager
def float32_as(precision: Literal["ieee", "tf32"]) -> Iterator[None]:
    """Computes float32 convolutions and matrix products on GPUs in this precision, and restores the settings afterwards."""
    places = (torch.backends.cudnn.conv, torch.backends.cuda.matmul)  # type: ignore[attr-defined]
    before = [place.fp32_precision for place in places]
    try:
        for place in places:
            place.fp32_precision = precision
        yield
    finally:
        for place, own in zip(places, before, strict=True):
            place.fp32_precision = own
