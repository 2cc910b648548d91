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
    # Set by torch's older names: by the newer ones, whatever reads the older ones meanwhile, as torch.export does, is an error.
    cudnn, cublas = torch.backends.cudnn, torch.backends.cuda.matmul
    before = [setting.fp32_precision == "tf32" for setting in (cudnn.conv, cublas)]  # type: ignore[attr-defined]
    try:
        cudnn.allow_tf32 = cublas.allow_tf32 = precision == "tf32"
        yield
    finally:
        cudnn.allow_tf32, cublas.allow_tf32 = before
