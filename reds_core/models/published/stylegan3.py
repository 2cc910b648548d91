"""StyleGAN3 in plain PyTorch, configurations T and R (Karras et al., "Alias-Free Generative Adversarial Networks", NeurIPS 2021).

Features are signals, sampled finely enough for what they hold. The input is a set of waves, turned and shifted by w. A layer is a
modulated convolution, and a nonlinearity at a higher sampling rate between two low-pass filters:

    x -> conv -> + bias -> upsample, filter -> leaky ReLU -> filter, downsample

Layers differ in sampling rate, cutoff and size, by one rule for all of them (`StyleGan3.plan`). The filters are in the checkpoint.
"""

from __future__ import annotations

import math
from typing import Annotated, ClassVar, Literal

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from reds_core.models.config import Config
from reds_core.models.published.limits import Classes, Factor, Layers, Positive, Size
from reds_core.models.published.style import Mapping, clamped, leaky, modulation, unit


class Layer(Config):
    """One layer's place in the plan; sizes in samples."""

    fan_in: Size
    fan_out: Size
    in_size: Size
    out_size: Size
    up: Factor  # of the sampling rate before and after the nonlinearity
    down: Factor
    kernel: Literal[1, 3]
    radial: bool


class OwnPlan(Config):
    """Layers that follow no rule, such as those of StyleGAN-XL, which puts more of them on a smaller network's first ones."""

    rate: Positive = Field(description="The sampling rate of the waves.")
    bandwidth: Positive = Field(description="Their highest frequency, in cycles.")
    layers: Annotated[tuple[Layer, ...], Field(min_length=2, max_length=65)]


class StyleGan3(Config):
    """The architecture of a StyleGAN3: what its file of weights does not say. The layers follow from these numbers."""

    layout: ClassVar[torch.memory_format] = torch.channels_last

    kind: Literal["stylegan3"]
    z_dim: Size
    w_dim: Size
    classes: Classes
    mapping_layers: Layers
    resolution: Annotated[int, Field(ge=4, le=4096)]
    colours: Size
    layers: Layers = Field(description="How many layers, without the one to colours.")
    critical: Annotated[int, Field(ge=0)] = Field(description="How many layers at the end are critically sampled.")
    channel_base: Size
    channel_max: Size
    first_cutoff: Positive
    first_stopband: Positive
    last_stopband_rel: Positive
    margin: Annotated[int, Field(ge=0, le=64)]
    kernel: Literal[1, 3]
    filter_size: Annotated[int, Field(ge=1, le=16)]
    oversampling: Annotated[int, Field(ge=1, le=16)] = Field(
        description="The factor of the sampling rate at which the nonlinearity is applied."
    )
    radial: bool = Field(description="Whether downsampling filters are radially symmetric (configuration R).")
    output_scale: float
    clamp: Positive | None
    class_dim: Size | None = Field(None, description="The size of a class's vector; w_dim if null.")
    class_means: bool = Field(False, description="Whether truncation moves towards the mean of the class, not of all.")
    own_plan: OwnPlan | None = Field(None, description="The layers one by one, if they do not follow from the numbers above.")

    @property
    def rows(self) -> int:
        """How many rows of w the synthesis takes."""
        return self.layers + 2

    def rates(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Returns the cutoffs in cycles, sampling rates and sizes after every layer; entries 0 and 1 are the input's."""
        last_cutoff = self.resolution / 2
        last_stopband = last_cutoff * self.last_stopband_rel
        rise = np.minimum(np.arange(self.layers + 1) / (self.layers - self.critical), 1)
        cutoffs = self.first_cutoff * (last_cutoff / self.first_cutoff) ** rise
        stopbands = self.first_stopband * (last_stopband / self.first_stopband) ** rise
        rates = np.exp2(np.ceil(np.log2(np.minimum(stopbands * 2, self.resolution))))
        sizes = rates + 2 * self.margin
        sizes[-2:] = self.resolution
        return cutoffs, rates, sizes

    def waves(self) -> tuple[float, float]:
        """Returns the sampling rate of the waves, and their highest frequency."""
        if self.own_plan is not None:
            return self.own_plan.rate, self.own_plan.bandwidth
        cutoffs, rates, _ = self.rates()
        return float(rates[0]), float(cutoffs[0])

    def plan(self) -> list[Layer]:
        """Returns every layer, the one to colours last."""
        if self.own_plan is not None:
            return list(self.own_plan.layers)
        cutoffs, rates, sizes = self.rates()
        channels = np.rint(np.minimum(self.channel_base / 2 / cutoffs, self.channel_max))
        channels[-1] = self.colours
        found = []
        for k in range(self.layers + 1):
            before, last = max(0, k - 1), k == self.layers
            inner = max(rates[before], rates[k]) * (1 if last else self.oversampling)
            found.append(Layer(
                fan_in=int(channels[before]), fan_out=int(channels[k]), in_size=int(sizes[before]), out_size=int(sizes[k]),
                up=round(inner / rates[before]), down=round(inner / rates[k]), kernel=1 if last else self.kernel,
                radial=self.radial and k < self.layers - self.critical,
            ))  # fmt: skip
        return found

    def taps(self, factor: int) -> int:
        """Returns the length of a filter that changes the sampling rate by a factor."""
        return self.filter_size * factor if factor > 1 else 1

    def padding(self, layer: Layer) -> tuple[int, int]:
        """Returns how many samples to add before and after the upsampled signal so that `out_size` are left in the end."""
        around = (layer.out_size - 1) * layer.down + 1 - (layer.in_size + layer.kernel - 1) * layer.up
        around += self.taps(layer.up) + self.taps(layer.down) - 2
        low = (around + layer.up) // 2
        return low, around - low

    def build(self) -> nn.ModuleDict:
        """Returns `mapping` and `synthesis`, without their weights."""
        return nn.ModuleDict({"mapping": self.mapping(), "synthesis": Synthesis(self)})

    def mapping(self) -> Mapping:
        """Returns the mapping, without its weights."""
        return Mapping(self.z_dim, self.w_dim, self.classes, self.mapping_layers, self.class_dim, class_means=self.class_means)


class Synthesis(nn.Module):
    """Maps (n, rows, w) to (n, colours, size, size) images, roughly in [-1, 1]."""

    def __init__(self, a: StyleGan3) -> None:
        super().__init__()
        plan = a.plan()
        self.output_scale = a.output_scale
        self.input = Waves(a, plan[0].fan_in, plan[0].in_size)
        self.layers = nn.ModuleList(FilteredLayer(a, layer) for layer in plan[:-1])
        self.rgb = ToColours(a, plan[-1])

    def forward(self, w: Tensor) -> Tensor:
        first, *rows = w.unbind(1)
        x = self.input(first)
        for layer, row in zip(self.layers, rows, strict=False):
            x = layer(x, row)
        image: Tensor = self.rgb(x, rows[-1]) * self.output_scale
        return image


class Waves(nn.Module):
    """Maps (n, w) to (n, channels, size, size): sines of fixed frequencies, turned and shifted by w."""

    def __init__(self, a: StyleGan3, channels: int, size: int) -> None:
        super().__init__()
        self.size = size
        self.rate, self.bandwidth = a.waves()
        self.affine = nn.Linear(a.w_dim, 4)  # cosine and sine of the turn, and the shift
        self.weight = nn.Parameter(torch.zeros(channels, channels))
        self.freqs: Tensor
        self.phases: Tensor
        self.register_buffer("freqs", torch.zeros(channels, 2))
        self.register_buffer("phases", torch.zeros(channels))

    def forward(self, w: Tensor) -> Tensor:
        t = self.affine(w)
        cos, sin, dx, dy = (t / t[:, :2].norm(dim=1, keepdim=True)).unbind(1)
        turn = torch.stack([torch.stack([cos, -sin], 1), torch.stack([sin, cos], 1)], 1)
        shift = -(turn @ torch.stack([dx, dy], 1)[:, :, None])
        phases = self.phases + (self.freqs @ shift).squeeze(2)
        freqs = self.freqs @ turn
        # Waves near the end of what the sampling rate can hold are quieter.
        loud = (1 - (freqs.norm(dim=2) - self.bandwidth) / (self.rate / 2 - self.bandwidth)).clamp(0, 1)
        at = (torch.arange(self.size, device=w.device, dtype=w.dtype) + 0.5) / self.rate - self.size / self.rate / 2
        angle = freqs[:, :, 0, None, None] * at + freqs[:, :, 1, None, None] * at[:, None] + phases[:, :, None, None]
        x = (angle * (2 * math.pi)).sin() * loud[:, :, None, None]
        return F.conv2d(x, self.weight[:, :, None, None])


class FilteredLayer(nn.Module):
    """Maps (n, i, in_size, in_size) and (n, w) to (n, o, out_size, out_size)."""

    def __init__(self, a: StyleGan3, layer: Layer) -> None:
        super().__init__()
        self.layer, self.clamp = layer, a.clamp
        self.affine = nn.Linear(a.w_dim, layer.fan_in)
        self.weight = nn.Parameter(torch.zeros(layer.fan_out, layer.fan_in, layer.kernel, layer.kernel))
        self.bias = nn.Parameter(torch.zeros(layer.fan_out))
        self.gain: Tensor  # back to unit variance, by the mean square that training saw
        self.up_filter: Tensor
        self.down_filter: Tensor
        self.register_buffer("gain", torch.ones(()))
        self.register_buffer("up_filter", torch.zeros(a.taps(layer.up)))
        self.register_buffer("down_filter", torch.zeros([a.taps(layer.down)] * (2 if layer.radial else 1)))
        self.padding = a.padding(layer)

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        before, after = modulation(unit(self.affine(w)), self.weight)
        x = F.conv2d(x * before, self.weight, padding=self.layer.kernel - 1) * (after * self.gain)
        x = upsampled(x + self.bias[:, None, None], self.up_filter, self.layer.up, *self.padding)
        return downsampled(clamped(leaky(x), self.clamp), self.down_filter, self.layer.down)


class ToColours(nn.Module):
    """Applies a modulated 1x1 convolution to colours. Its scales are part of its weights."""

    def __init__(self, a: StyleGan3, layer: Layer) -> None:
        super().__init__()
        self.clamp = a.clamp
        self.affine = nn.Linear(a.w_dim, layer.fan_in)
        self.conv = nn.Conv2d(layer.fan_in, layer.fan_out, 1)

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        return clamped(self.conv(x * self.affine(w)[:, :, None, None]), self.clamp)


def upsampled(x: Tensor, taps: Tensor, factor: int, low: int, high: int) -> Tensor:
    """Returns `factor` times the samples in both directions, filtered by `taps`, and `low` and `high` more (or fewer) around them.

    The transposed convolution computes everything that the filter reaches, of which the result is a part.
    """
    count, channels = len(taps), x.shape[1]
    start, length = count - 1 - low, x.shape[2] * factor + low + high - count + 1
    taps = taps * factor
    x = F.conv_transpose2d(x, taps.view(1, 1, -1, 1).expand(channels, -1, -1, -1), stride=(factor, 1), groups=channels)
    x = x[:, :, start : start + length]
    x = F.conv_transpose2d(x, taps.view(1, 1, 1, -1).expand(channels, -1, -1, -1), stride=(1, factor), groups=channels)
    return x[:, :, :, start : start + length]


def downsampled(x: Tensor, taps: Tensor, factor: int) -> Tensor:
    """Returns every `factor`-th sample, in both directions, of a signal filtered by `taps`: a row or, if radial, a square."""
    channels = x.shape[1]
    if taps.ndim == 2:
        return F.conv2d(x, taps.expand(channels, 1, -1, -1), stride=factor, groups=channels)
    x = F.conv2d(x, taps.view(1, 1, -1, 1).expand(channels, -1, -1, -1), stride=(factor, 1), groups=channels)
    return F.conv2d(x, taps.view(1, 1, 1, -1).expand(channels, -1, -1, -1), stride=(1, factor), groups=channels)
