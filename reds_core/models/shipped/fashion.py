"""The networks trained on Fashion-MNIST: a generator, a classifier and a judge for gray garments of 32x32 pixels.

The generator is style-based (Karras et al., "Analyzing and Improving the Image Quality of StyleGAN", CVPR 2020), without
noise inputs, so that an image is a function of its latent alone:

    mapping    (z, class) -> w          an MLP; w is the space that trajectories walk
    synthesis  w -> image               a constant, then convolutions whose input channels are scaled by an affine map of w

A modulated convolution scales the *activations* before an ordinary convolution, and its output channels after it. That equals
scaling the weights for each sample, and stays one dense convolution for the whole batch, in reverse mode, forward mode and vmap.
"""

from __future__ import annotations

import math
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reds_core.models.published.style import leaky, unit

CLASS_NAMES = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")


class ScaledLinear(nn.Module):
    """Applies a linear layer whose weights have unit variance and are scaled at run time (equalised learning rate)."""

    def __init__(self, fan_in: int, fan_out: int, bias: float = 0.0, rate: float = 1.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(fan_out, fan_in) / rate)
        self.bias = nn.Parameter(torch.full((fan_out,), bias / rate))
        self.gain = rate / math.sqrt(fan_in)
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight * self.gain, self.bias * self.rate)


class Mapping(nn.Module):
    """Maps (n, z) normal latents and (n,) class indices to (n, w). `mean` is the mean w of every class.

    Without classes, the indices are ignored, and there is one mean.
    """

    def __init__(self, z_dim: int = 64, w_dim: int = 128, classes: int = len(CLASS_NAMES), layers: int = 4) -> None:
        super().__init__()
        self.z_dim = z_dim
        self.embed = nn.Parameter(torch.randn(classes, z_dim)) if classes else None
        sizes = [z_dim * (2 if classes else 1)] + [w_dim] * layers
        self.layers = nn.ModuleList(ScaledLinear(a, b, rate=0.1) for a, b in pairwise(sizes))
        self.mean: Tensor
        self.register_buffer("mean", torch.zeros(max(1, classes), w_dim))

    def forward(self, z: Tensor, label: Tensor) -> Tensor:
        x = unit(z)
        if self.embed is not None:
            x = torch.cat([x, unit(self.embed[label])], 1)
        for layer in self.layers:
            x = leaky(layer(x))
        return x


class StyledConv(nn.Module):
    """Applies a 3x3 (or 1x1) convolution whose input is scaled by the latent, and its output back to unit variance."""

    def __init__(self, w_dim: int, fan_in: int, fan_out: int, kernel: int = 3, demodulate: bool = True) -> None:
        super().__init__()
        self.affine = ScaledLinear(w_dim, fan_in, bias=1.0)
        self.weight = nn.Parameter(torch.randn(fan_out, fan_in, kernel, kernel))
        self.bias = nn.Parameter(torch.zeros(fan_out))
        self.gain = 1 / math.sqrt(fan_in * kernel * kernel)
        self.demodulate = demodulate
        self.padding = kernel // 2

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        style = self.affine(w)
        weight = self.weight * self.gain
        y = F.conv2d(x * style[:, :, None, None], weight, padding=self.padding)
        if self.demodulate:
            norm = (style.square() @ weight.square().sum((2, 3)).T + 1e-8).rsqrt()
            y = y * norm[:, :, None, None]
        return y + self.bias[:, None, None]


class Synthesis(nn.Module):
    """Maps (n, w) latents to (n, 1, 32, 32) images, roughly in [-1, 1]. Each further entry of `channels` doubles the size.

    Given (n, rows, w), the layers of a block get two rows of their own, the second for its colours too.
    """

    def __init__(self, w_dim: int = 128, channels: tuple[int, ...] = (128, 128, 64, 32), colours: int = 1) -> None:
        super().__init__()
        self.colours = colours
        self.rows = 2 * len(channels)
        self.const = nn.Parameter(torch.randn(1, channels[0], 4, 4))
        pairs = list(zip((channels[0], *channels), channels, strict=False))
        self.first = nn.ModuleList(StyledConv(w_dim, a, b) for a, b in pairs)
        self.second = nn.ModuleList(StyledConv(w_dim, b, b) for _, b in pairs)
        self.to_image = nn.ModuleList(StyledConv(w_dim, b, colours, kernel=1, demodulate=False) for _, b in pairs)

    def forward(self, w: Tensor) -> Tensor:
        rows = (w[:, None].expand(-1, self.rows, -1) if w.ndim == 2 else w).unbind(1)
        x = self.const.expand(len(w), -1, -1, -1)
        image = x.new_zeros(len(w), self.colours, 4, 4)
        for k, (first, second, to_image) in enumerate(zip(self.first, self.second, self.to_image, strict=True)):
            if k:
                x = _double(x)
                image = _double(image)
            x = leaky(first(x, rows[2 * k]))
            x = leaky(second(x, rows[2 * k + 1]))
            image = image + to_image(x, rows[2 * k + 1])
        return image


def _double(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)


class Generator(nn.Module):
    """Maps (n, z) and (n,) class indices to images: what is trained, saved and loaded as `fashion-mnist`.

    Without classes it is `fashion-mnist-unlabelled`, which ignores the indices.
    """

    def __init__(self, classes: int = len(CLASS_NAMES)) -> None:
        super().__init__()
        self.mapping = Mapping(classes=classes)
        self.synthesis = Synthesis()

    def forward(self, z: Tensor, label: Tensor) -> Tensor:
        image: Tensor = self.synthesis(self.mapping(z, label))
        return image


def _convolutions(widths: tuple[int, ...]) -> nn.ModuleList:
    """Returns two smooth convolutions for every width after the first."""
    found = nn.ModuleList()
    for a, b in pairwise(widths):
        found.append(nn.Sequential(nn.Conv2d(a, b, 3, padding=1, bias=False), nn.BatchNorm2d(b), nn.SiLU()))
        found.append(nn.Sequential(nn.Conv2d(b, b, 3, padding=1, bias=False), nn.BatchNorm2d(b), nn.SiLU()))
    return found


def _pooled(convs: nn.ModuleList, x: Tensor) -> Tensor:
    """Runs `_convolutions` on images in [0, 1], halving their size after every second one."""
    x = x * 2 - 1
    for k in range(0, len(convs), 2):
        x = F.avg_pool2d(convs[k + 1](convs[k](x)), 2)
    return x.flatten(1)


class Classifier(nn.Module):
    """Maps (n, 1, 32, 32) images in [0, 1] to (n, 10) class scores, by a plain VGG-like network.

    Activations (SiLU) and pooling (average) are smooth: its Jacobian is what holds an attribute, and a kink would make it jump.
    """

    def __init__(self, classes: int = len(CLASS_NAMES)) -> None:
        super().__init__()
        self.convs = _convolutions((1, 32, 64, 128))
        self.hidden = nn.Linear(128 * 16, 128)
        self.head = nn.Linear(128, classes)

    def embed(self, x: Tensor) -> Tensor:
        """Returns the last hidden layer, (n, 128)."""
        return F.silu(self.hidden(F.dropout(_pooled(self.convs, x), 0.3, self.training)))

    def forward(self, x: Tensor) -> Tensor:
        scores: Tensor = self.head(self.embed(x))
        return scores


class Embedding(nn.Module):
    """Maps (n, 1, 32, 32) images in [0, 1] to (n, 64) features that views of one image share; trained without labels."""

    def __init__(self) -> None:
        super().__init__()
        self.convs = _convolutions((1, 24, 48, 96))
        self.head = nn.Linear(96 * 16, 64)

    def forward(self, x: Tensor) -> Tensor:
        features: Tensor = self.head(_pooled(self.convs, x))
        return features


class _Residual(nn.Module):
    def __init__(self, fan_in: int, fan_out: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.BatchNorm2d(fan_in), nn.ReLU(), nn.Conv2d(fan_in, fan_out, 3, stride, 1, bias=False),
            nn.BatchNorm2d(fan_out), nn.ReLU(), nn.Conv2d(fan_out, fan_out, 3, 1, 1, bias=False),
        )  # fmt: skip
        self.skip = nn.Conv2d(fan_in, fan_out, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.skip(x) + self.body(x)
        return y


class Judge(nn.Module):
    """Maps (n, 1, 32, 32) images in [0, 1] to (n, 10) class scores, by a pre-activation residual network.

    Its architecture, its seed and its augmentations differ from `Classifier`'s, and it is never used to hold an attribute.
    """

    def __init__(self, classes: int = len(CLASS_NAMES)) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 24, 3, padding=1, bias=False)
        self.blocks = nn.Sequential(
            _Residual(24, 24, 1), _Residual(24, 48, 2), _Residual(48, 48, 1), _Residual(48, 96, 2), _Residual(96, 96, 1)
        )  # fmt: skip
        self.norm = nn.BatchNorm2d(96)
        self.head = nn.Linear(96, classes)

    def embed(self, x: Tensor) -> Tensor:
        """Returns the last hidden layer, (n, 96)."""
        y: Tensor = F.relu(self.norm(self.blocks(self.stem(x * 2 - 1)))).mean((2, 3))
        return y

    def forward(self, x: Tensor) -> Tensor:
        scores: Tensor = self.head(self.embed(x))
        return scores
