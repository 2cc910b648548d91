"""How good and how diverse a generator's samples are, beside real images in some feature space."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
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


def probe(
    known: Float[Tensor, "n p"],
    labels: Int[Tensor, " n"],
    seen: Float[Tensor, "m p"],
    answers: Int[Tensor, " m"],
    count: int,
    seed: int,
) -> float:
    """Returns the accuracy on `seen` of a linear classifier of its features, fitted to `count` of `known` of each class."""
    draw = torch.Generator().manual_seed(seed)
    classes = [(labels == c).nonzero().squeeze(1) for c in range(int(labels.max()) + 1)]
    rows = torch.cat([c[torch.randperm(len(c), generator=draw)[:count]] for c in classes])
    mean, deviation = known.mean(0), known.std(0) + 1e-6
    x, y = (known[rows] - mean) / deviation, labels[rows]
    weight = torch.zeros(known.shape[1], len(classes), requires_grad=True)
    bias = torch.zeros(len(classes), requires_grad=True)
    optimiser = torch.optim.LBFGS([weight, bias], max_iter=100)

    def loss() -> Tensor:
        optimiser.zero_grad()
        total = F.cross_entropy(x @ weight + bias, y) + 3e-3 * weight.square().sum()
        total.backward()  # type: ignore[no-untyped-call]
        return total

    optimiser.step(loss)  # type: ignore[no-untyped-call]
    with torch.no_grad():
        return float((((seen - mean) / deviation @ weight + bias).argmax(1) == answers).float().mean())
