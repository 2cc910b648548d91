"""What the formats share."""

from __future__ import annotations

import torch
from torch import Tensor

from reds_core.errors import ModelError

State = dict[str, Tensor]

FILTER = (1.0, 3.0, 3.0, 1.0)


def check_filter(kernel: Tensor, gain: float) -> None:
    """Raises ModelError if a StyleGAN2 resamples by another filter (4, 4) than ours does."""
    taps = torch.tensor(FILTER)
    expected = taps.outer(taps) / taps.sum() ** 2 * gain
    if kernel.shape != expected.shape or not torch.allclose(kernel, expected, atol=1e-6):
        raise ModelError(f"a resampling filter other than {list(map(int, FILTER))} is not supported")
