"""Our StyleGAN2 and StyleGAN3 beside a port of the published reference: `python -m tests.benchmarks.generators [SIZE] [BATCH]`.

Prints; asserts nothing.

    published    weights scaled for every sample, convolved in groups; filters over samples with zeros between; torch's own layout
    ours         activations scaled, one dense convolution; transposed and strided filters; channels last on a CPU

Random weights, a quarter of the published channels, float32, the same function: the difference of their images, relative, is
printed too. "product" is a forward pass and a vector-Jacobian product.
"""

from __future__ import annotations

import copy
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reds_core.models.published import stylegan2, stylegan3
from reds_core.models.published.style import EPSILON, clamped, leaky, unit
from reds_core.models.published.stylegan2 import StyleGan2
from reds_core.models.published.stylegan3 import StyleGan3


def grouped(x: Tensor, weight: Tensor, style: Tensor, padding: int, doubles: bool) -> Tensor:
    n = len(x)
    w = weight * style[:, None, :, None, None]
    w = w * (w.square().sum((2, 3, 4), keepdim=True) + EPSILON).rsqrt()
    x = x.reshape(1, -1, *x.shape[2:])
    if doubles:
        y = F.conv_transpose2d(x, w.transpose(1, 2).flatten(0, 1), stride=2, groups=n)
    else:
        y = F.conv2d(x, w.flatten(0, 1), padding=padding, groups=n)
    return y.reshape(n, -1, *y.shape[2:])


def filtered(x: Tensor, taps: Tensor, up: int, down: int, low: int, high: int) -> Tensor:
    n, c, h, w = x.shape
    x = F.pad(x.reshape(n, c, h, 1, w, 1), (0, up - 1, 0, 0, 0, up - 1)).reshape(n, c, h * up, w * up)
    x = F.pad(x, (low, high, low, high))
    if taps.ndim == 2:
        x = F.conv2d(x, taps.expand(c, 1, -1, -1), groups=c)
    else:
        for kernel in (taps[None, :], taps[:, None]):
            x = F.conv2d(x, kernel.expand(c, 1, -1, -1), groups=c)
    return x[:, :, ::down, ::down]


def styled2(self: stylegan2.StyledConv, x: Tensor, w: Tensor, gain: float = 1.0) -> Tensor:
    x = grouped(x, self.weight, self.affine(w), 1, self.doubles)
    if self.doubles:
        taps = torch.tensor([1.0, 3, 3, 1], device=x.device) / 4
        x = filtered(x, taps.outer(taps), 1, 1, 1, 1)
    return clamped(leaky(x + self.noise + self.bias[:, None, None]) * gain, self.clamp)


def doubled2(x: Tensor) -> Tensor:
    taps = torch.tensor([1.0, 3, 3, 1], device=x.device) / 4
    return filtered(x, taps.outer(taps), 2, 1, 2, 1)


def filtered3(self: stylegan3.FilteredLayer, x: Tensor, w: Tensor) -> Tensor:
    x = grouped(x, self.weight, unit(self.affine(w)), self.layer.kernel - 1, False) * self.gain + self.bias[:, None, None]
    x = filtered(x, self.up_filter * self.layer.up, self.layer.up, 1, *self.padding)
    return filtered(clamped(leaky(x), self.clamp), self.down_filter, 1, self.layer.down, 0, 0)


def main() -> None:
    size = int(sys.argv[1]) if len(sys.argv) > 1 else 128
    batch = int(sys.argv[2]) if len(sys.argv) > 2 else 4
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    widths = tuple(min(8192 // (4 * 2**k), 256) for k in range(size.bit_length() - 2))
    two = StyleGan2(
        kind="stylegan2", z_dim=512, w_dim=512, classes=0, mapping_layers=2, channels=widths, colours=3, form="skip", clamp=None
    )
    three = StyleGan3(
        kind="stylegan3", z_dim=512, w_dim=512, classes=0, mapping_layers=2, resolution=size, colours=3, layers=14, critical=2,
        channel_base=8192, channel_max=256, first_cutoff=2, first_stopband=2**2.1, last_stopband_rel=2**0.3, margin=10, kernel=3,
        filter_size=6, oversampling=2, radial=False, output_scale=0.25, clamp=256,
    )  # fmt: skip
    radial = three.model_copy(update={"kernel": 1, "radial": True, "channel_base": 16384, "channel_max": 512})
    print(f"{size}x{size}, {batch} images at a time, on {device}, {torch.get_num_threads()} threads; milliseconds an image\n")
    print(f"{'':12}{'published':>11}{'ours':>9}{'ratio':>7}{'product: published':>20}{'ours':>9}{'ratio':>7}{'difference':>12}")
    for name, a in (("StyleGAN2", two), ("StyleGAN3-T", three), ("StyleGAN3-R", radial)):
        torch.manual_seed(0)
        ours = _random(a.build()["synthesis"]).to(device).requires_grad_(False)
        theirs = copy.deepcopy(ours)
        if device.type == "cpu":
            ours.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # absent in torch's stubs
        w = torch.randn(batch, a.rows, 512, device=device)
        with _published():
            due, forward, product = _timed(theirs, w)
        found, *own = _timed(ours, w)
        print(
            f"{name:12}{forward:11.1f}{own[0]:9.1f}{forward / own[0]:7.2f}{product:20.1f}{own[1]:9.1f}{product / own[1]:7.2f}"
            f"{float((due - found).norm() / due.norm()):12.1e}",
            flush=True,
        )


def _random(network: nn.Module) -> nn.Module:
    for name, tensor in network.state_dict().items():
        if name.endswith("filter"):
            taps = torch.hann_window(len(tensor) + 2, periodic=False)[1:-1]
            tensor.copy_((taps.outer(taps) if tensor.ndim == 2 else taps) / taps.sum() ** tensor.ndim)
        elif not name.endswith("gain"):
            tensor.copy_(torch.randn_like(tensor) * (0.05 if name.endswith(("affine.weight", "noise")) else 1))
    return network


class _published:
    """Replaces the modules' own forward passes by the published algorithm's."""

    places: tuple[tuple[Any, str, Callable[..., Tensor]], ...] = (
        (stylegan2.StyledConv, "forward", styled2),
        (stylegan3.FilteredLayer, "forward", filtered3),
        (stylegan2, "doubled", doubled2),
    )

    def __enter__(self) -> None:
        self.before = [getattr(place, name) for place, name, _ in self.places]
        for place, name, new in self.places:
            setattr(place, name, new)

    def __exit__(self, *error: object) -> None:
        for (place, name, _), before in zip(self.places, self.before, strict=True):
            setattr(place, name, before)


def _timed(network: nn.Module, w: Tensor) -> tuple[Tensor, float, float]:
    """Returns the images, and milliseconds per image: forward, and with a product."""

    def forward() -> Tensor:
        with torch.no_grad():
            images: Tensor = network(w)
        return images

    def product() -> Tensor:
        leaf = w.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(network(leaf).sum(), leaf)
        return gradient

    return forward(), _best(forward, len(w)), _best(product, len(w))


def _best(call: Callable[[], Tensor], n: int) -> float:
    call()
    times = []
    for _ in range(3):
        began = time.perf_counter()
        call()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        times.append(time.perf_counter() - began)
    return 1000 * min(times) / n


if __name__ == "__main__":
    main()
