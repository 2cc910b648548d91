"""StyleGAN2 by the published definition, in its three forms: random state dicts, and the images that they draw.

Written for reading, one image at a time, without anything of the package: what an import is compared with.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

Z, W, RATE, CLAMP = 10, 12, 0.01, 256.0
FILTER = torch.tensor([1.0, 3, 3, 1]).outer(torch.tensor([1.0, 3, 3, 1])) / 64


def random_state(form: str, channels: tuple[int, ...], classes: int, colours: int) -> dict[str, Tensor]:
    """Returns a state dict by the names of stylegan2-ada-pytorch; `channels` from 4x4 pixels up."""
    draw = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=draw)

    def dense(name: str, fan_in: int, fan_out: int, bias: float = 0.0, scale: float = 1.0) -> dict[str, Tensor]:
        return {f"{name}.weight": normal(fan_out, fan_in) * scale, f"{name}.bias": (normal(fan_out) * 0.1 + bias) * scale}

    state = {"mapping.w_avg": normal(W) * 0.2}
    state |= dense("mapping.embed", classes, W) if classes else {}
    state |= dense("mapping.fc0", Z + (W if classes else 0), W, scale=1 / RATE) | dense("mapping.fc1", W, W, scale=1 / RATE)
    for k, c in enumerate(channels):
        block, size, before = f"synthesis.b{4 << k}", 4 << k, channels[max(0, k - 1)]
        state |= {f"{block}.resample_filter": FILTER} if k else {f"{block}.const": normal(c, 4, 4)}
        for name, fan in (("conv0", before), ("conv1", c)) if k else (("conv1", c),):
            layer = f"{block}.{name}"
            state |= dense(f"{layer}.affine", W, fan, 1.0) | {
                f"{layer}.weight": normal(c, fan, 3, 3), f"{layer}.bias": normal(c) * 0.1, f"{layer}.resample_filter": FILTER,
                f"{layer}.noise_const": normal(size, size), f"{layer}.noise_strength": normal() * 0.1,
            }  # fmt: skip
        if form == "skip" or k == len(channels) - 1:
            state |= dense(f"{block}.torgb.affine", W, c, 1.0)
            state |= {f"{block}.torgb.weight": normal(colours, c, 1, 1), f"{block}.torgb.bias": normal(colours) * 0.1}
        if form == "resnet" and k:
            state |= {f"{block}.skip.weight": normal(c, before, 1, 1), f"{block}.skip.resample_filter": FILTER}
    return state


def images(state: dict[str, Tensor], z: Tensor, labels: Tensor, psi: float) -> Tensor:
    """Returns the images of latents (n, Z) and classes (n,), truncated, with fixed noise."""
    x = _unit(z)
    if "mapping.embed.weight" in state:
        vectors = F.one_hot(labels, state["mapping.embed.weight"].shape[1]).float()
        x = torch.cat([x, _unit(_dense(state, "mapping.embed", vectors))], 1)
    for name in ("mapping.fc0", "mapping.fc1"):
        x = F.leaky_relu(_dense(state, name, x, RATE), 0.2) * math.sqrt(2)
    mean = state["mapping.w_avg"]
    return torch.cat([_image(state, w[None]) for w in mean + psi * (x - mean)])


def _image(state: dict[str, Tensor], w: Tensor) -> Tensor:
    size, image, x = 4, None, state["synthesis.b4.const"][None]
    while f"synthesis.b{size}.conv1.weight" in state:
        block = f"synthesis.b{size}"
        residual = f"{block}.skip.weight" in state
        around = x
        if size > 4:
            x = _styled(state, f"{block}.conv0", x, w, doubles=True)
        x = _styled(state, f"{block}.conv1", x, w, gain=math.sqrt(0.5) if residual else 1.0)
        if residual:
            weight = state[f"{block}.skip.weight"]
            x = x + _doubled(F.conv2d(around, weight / math.sqrt(weight.shape[1]))) * math.sqrt(0.5)
        image = image if image is None else _doubled(image)
        if f"{block}.torgb.weight" in state:
            weight = state[f"{block}.torgb.weight"]
            style = _dense(state, f"{block}.torgb.affine", w) / math.sqrt(weight.shape[1])
            y = F.conv2d(x, weight * style[0, :, None, None]) + state[f"{block}.torgb.bias"][:, None, None]
            image = y.clamp(-CLAMP, CLAMP) + (0 if image is None else image)
        size *= 2
    if image is None:
        raise ValueError("a state dict without colours")
    return image


def _styled(state: dict[str, Tensor], name: str, x: Tensor, w: Tensor, doubles: bool = False, gain: float = 1.0) -> Tensor:
    weight = state[f"{name}.weight"] * _dense(state, f"{name}.affine", w)[0, :, None, None]
    weight = weight * (weight.square().sum((1, 2, 3), keepdim=True) + 1e-8).rsqrt()
    if doubles:
        x = _filtered(F.conv_transpose2d(x, weight.transpose(0, 1), stride=2), (1, 1, 1, 1))
    else:
        x = F.conv2d(x, weight, padding=1)
    x = x + state[f"{name}.noise_const"] * state[f"{name}.noise_strength"] + state[f"{name}.bias"][:, None, None]
    return (F.leaky_relu(x, 0.2) * math.sqrt(2) * gain).clamp(-CLAMP * gain, CLAMP * gain)


def _doubled(x: Tensor) -> Tensor:
    n, c, h, w = x.shape
    apart = F.pad(x.reshape(n, c, h, 1, w, 1), (0, 1, 0, 0, 0, 1)).reshape(n, c, 2 * h, 2 * w)
    return _filtered(apart, (2, 1, 2, 1))


def _filtered(x: Tensor, padding: tuple[int, int, int, int]) -> Tensor:
    return F.conv2d(F.pad(x, padding), 4 * FILTER.expand(x.shape[1], 1, 4, 4), groups=x.shape[1])


def _dense(state: dict[str, Tensor], name: str, x: Tensor, rate: float = 1.0) -> Tensor:
    weight = state[f"{name}.weight"]
    return x @ weight.T * (rate / math.sqrt(weight.shape[1])) + state[f"{name}.bias"] * rate


def _unit(x: Tensor) -> Tensor:
    return x * (x.square().mean(1, keepdim=True) + 1e-8).rsqrt()
