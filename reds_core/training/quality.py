"""How good and how diverse a generator's samples are, beside real images in some feature space."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


def kernel_distance(x: Float[Tensor, "n p"], y: Float[Tensor, "m p"]) -> float:
    """Returns the unbiased squared MMD of two sets of features, with the cubic kernel of KID (Binkowski et al. 2018)."""
    kxx, kyy, kxy = ((a.double() @ b.double().T / a.shape[1] + 1) ** 3 for a, b in ((x, x), (y, y), (x, y)))
    n, m = len(x), len(y)
    within = (kxx.sum() - kxx.trace()) / (n * (n - 1)) + (kyy.sum() - kyy.trace()) / (m * (m - 1))
    return float(within - 2 * kxy.mean())


def density_and_coverage(real: Float[Tensor, "n p"], fake: Float[Tensor, "m p"], k: int = 5) -> tuple[float, float]:
    """Returns how many real neighbourhoods a sample lies in, over k, and the share that hold a sample (Naeem et al. 2020)."""
    radius = torch.cdist(real, real).kthvalue(k + 1, dim=1).values
    inside = torch.cdist(real, fake) < radius[:, None]
    return float(inside.sum(0).float().mean() / k), float(inside.any(1).float().mean())
