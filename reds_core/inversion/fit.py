r"""From sampled latents to those whose images are nearest to the user's, by gradients (Adam).

    |x - x*|^2 / spread^2 + the same of what is held, of coarser versions of both, and a prior |y|^2

y are coordinates in units of how much sampled latents vary (their principal components), so that one rate suits every latent space,
and the prior keeps the latent where the generator was trained. Beyond the radius that holds 99.9 % of sampled latents it cannot go.

In w+, the same latent is fitted for all rows first; then each row gets coordinates of its own.

Adam was chosen by measuring, in w, at 270 to 300 equivalents an image. On 48 test images of Fashion-MNIST it came to a median
distance of 0.16 spreads, Levenberg-Marquardt to 0.17 (64 components, a Jacobian by differences every 8 steps, secants between) or
0.20 (128 components); on 60 others Adam came to 0.154, and L-BFGS with a memory of 10 or 20 to 0.185 and 0.177.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from reds_core.directions.cloud import PLAUSIBLE_SHARE, Cloud, components, components_by_row
from reds_core.types import Images, Labels, Latents

RATE, BETAS = 0.3, (0.8, 0.9)
PRIOR = 1e-5  # of |y|^2, beside squared distances in spreads
PASSES_A_STEP = 3  # a forward pass, and a product
COARSE = 0.1  # the weight of each coarser version
HALVINGS = 3
MOST_COMPONENTS = 512
SHARE_IN_W = 0.4  # of the steps, if rows move apart afterwards

# Images of reconstructions -> what shall be near to zero beside the difference of pixels.
Losses = Callable[[Images], Float[Tensor, " n"]]


@dataclass(frozen=True)
class Space:
    """Where reconstructions lie.

    Args:
        cloud: how sampled latents lie.
        rows: of a latent; more than one in w+.
        apart: whether rows may move apart.
    """

    cloud: Cloud
    rows: int
    apart: bool

    @cached_property
    def stages(self) -> list[tuple[Float[Tensor, "d k"], float]]:
        """Bases, one after the other, and the share of the steps that each gets."""
        # The rows of a sampled latent in w+ are alike: one of them tells how all vary.
        together = components(self.cloud.deviations.chunk(self.rows, 1)[0], MOST_COMPONENTS)[0].repeat(self.rows, 1)
        if self.rows == 1 or not self.apart:
            return [(together, 1.0)]
        by_row = components_by_row(self.cloud.deviations, self.rows, MOST_COMPONENTS)[0]
        return [(together, SHARE_IN_W), (by_row, 1 - SHARE_IN_W)]


def fitted(
    images: Images,
    start: Latents,
    conditions: Labels,
    render: Callable[[Latents, Labels], Images],
    others: Losses,
    space: Space,
    spread: float,
    steps: int,
) -> Latents:
    """Returns the latents that `steps` steps of gradients lead to from `start`, for images that fit into one batch."""
    mean = space.cloud.mean(conditions)
    latents = start
    for basis, share in space.stages:
        squares = basis.square().sum(0)
        radius = torch.linalg.vector_norm(space.cloud.deviations @ basis / squares, dim=1).quantile(PLAUSIBLE_SHARE)
        begun = (latents - mean) @ basis / squares
        rest = latents - mean - begun @ basis.T
        radii = torch.maximum(radius, torch.linalg.vector_norm(begun, dim=1, keepdim=True))
        y = begun.clone().requires_grad_()
        optimiser = torch.optim.Adam([y], lr=RATE, betas=BETAS)
        count = round(steps * share)
        for step in range(count):
            for group in optimiser.param_groups:
                group["lr"] = RATE * 0.5 * (1 + math.cos(math.pi * step / count))
            with torch.enable_grad():
                made = render(mean + rest + y @ basis.T, conditions)
                loss = _apart(made, images) / spread**2 + others(made) + PRIOR * y.square().sum(1)
                (gradient,) = torch.autograd.grad(torch.nan_to_num(loss).sum(), y)
            y.grad = torch.nan_to_num(gradient)
            optimiser.step()
            with torch.no_grad():
                y.mul_((radii / torch.linalg.vector_norm(y, dim=1, keepdim=True)).clamp_max(1))
        latents = (mean + rest + y @ basis.T).detach()
    return latents


def _apart(made: Images, images: Images) -> Float[Tensor, " n"]:
    """Returns squared distances of images, and of coarser versions of them."""
    difference = made - images
    total: Tensor = difference.square().flatten(1).sum(1)
    for _ in range(HALVINGS):
        if min(difference.shape[2:]) < 2:
            break
        difference = F.avg_pool2d(difference, 2) * 2  # an even difference keeps its size
        total = total + COARSE * difference.square().flatten(1).sum(1)
    return total
