"""What the style-based generators have in common: the mapping z [, class] -> w, and the scales of modulated convolutions.

Published networks multiply weights by constants at run time (equalised learning rates). Here those constants are multiplied in when
a checkpoint is imported (reds_core.models.checkpoints), so that every layer is a plain one.

A modulated convolution scales its input channels by a style, and its output channels back to unit variance. Scaling the activations
equals scaling the weights for each sample, and stays one dense convolution for the whole batch.
"""

from __future__ import annotations

import math
from itertools import pairwise

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

EPSILON = 1e-8


def unit(x: Float[Tensor, "n k"]) -> Float[Tensor, "n k"]:
    """Returns rows (n, k) scaled to a mean square of 1."""
    return x * (x.square().mean(1, keepdim=True) + EPSILON).rsqrt()


def leaky(x: Tensor) -> Tensor:
    """Applies a leaky ReLU that keeps the variance."""
    return F.leaky_relu(x, 0.2) * math.sqrt(2)


def clamped(x: Tensor, limit: float | None) -> Tensor:
    """Clamps activations to +-limit, as networks trained in half precision do."""
    return x if limit is None else x.clamp(-limit, limit)


def modulation(
    style: Float[Tensor, "n i"], weight: Float[Tensor, "o i k k"]
) -> tuple[Float[Tensor, "n i 1 1"], Float[Tensor, "n o 1 1"]]:
    """Returns the scales of a convolution's input channels and of its output channels."""
    if style.dtype == torch.float16:
        # A style's length cancels out, but its square must not overflow.
        style = style / style.detach().abs().amax(1, keepdim=True)
    scale = (style.square() @ weight.square().sum((2, 3)).T + EPSILON).rsqrt()
    return style[:, :, None, None], scale[:, :, None, None]


class Mapping(nn.Module):
    """Maps (n, z) normal latents and (n,) class indices to (n, w). `mean` is the mean w that truncation moves towards.

    `class_dim` is the size of a class's vector, w if None. It is brought to unit length apart from z, or, if `joint`, together with
    it. With `class_means`, every class has a mean of its own.
    """

    def __init__(
        self, z_dim: int, w_dim: int, classes: int, layers: int, class_dim: int | None = None, joint: bool = False,
        class_means: bool = False,
    ) -> None:  # fmt: skip
        super().__init__()
        class_dim = class_dim or w_dim
        self.joint = joint
        self.embed = nn.Embedding(classes, class_dim) if classes else None
        sizes = [z_dim + (class_dim if classes else 0)] + [w_dim] * layers
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(sizes))
        self.mean: Tensor
        self.register_buffer("mean", torch.zeros(*[classes] * class_means, w_dim))

    def forward(self, z: Tensor, labels: Tensor) -> Tensor:
        if self.embed is None:
            x = unit(z)
        elif self.joint:
            x = unit(torch.cat([z, self.embed(labels)], 1))
        else:
            x = torch.cat([unit(z), unit(self.embed(labels))], 1)
        for layer in self.layers:
            x = leaky(layer(x))
        return x
