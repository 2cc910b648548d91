"""What published code builds: the networks, by their own names, whose checkpoints have no file in tests/data, and pickles of any.

They are written after the descriptions of the papers and the names in the checkpoints, as literally as they allow: with a spectral
norm for every layer and a statistic for every normalisation, where reds_core has plain weights.
"""

from __future__ import annotations

import math
from itertools import count
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import spectral_norm
from torch.nn.utils.spectral_norm import SpectralNorm

from reds_core.models.checkpoints.stand_ins import Record, Storage, Stored


def stored(tensor: Tensor) -> Stored:
    """Returns a tensor as `read_checkpoint` does."""
    data = tensor.detach().contiguous()
    storage = Storage(data.dtype, data.numpy().tobytes())
    return Stored(storage, 0, tuple(data.shape), tuple(data.stride()))


def state_of(network: nn.Module) -> dict[str, Stored]:
    """Returns a state dict as `read_checkpoint` does."""
    return {name: stored(tensor) for name, tensor in network.state_dict().items()}


def record_of(module: nn.Module) -> Record:
    """Returns a module that was saved whole, as `read_checkpoint` does: its class's name, its tensors, its settings."""
    held = [(name, value) for name, value in (*module._parameters.items(), *module._buffers.items()) if value is not None]
    settings = {k: v for k, v in vars(module).items() if isinstance(v, int | float | str)}
    found = Record(settings | {
        "_parameters": {name: stored(value) for name, value in held}, "_buffers": {},
        "_modules": {name: record_of(child) for name, child in module._modules.items() if child is not None},
    })  # fmt: skip
    found.kind = f"{type(module).__module__}.{type(module).__name__}"
    return found


def moved(network: nn.Module) -> nn.Module:
    """Gives every tensor of a network a value that is not its initial one, and returns it in evaluation mode."""
    draw = torch.Generator().manual_seed(0)
    for name, tensor in (*network.named_parameters(), *network.named_buffers()):
        if tensor.is_floating_point() and not name.endswith(("_u", "_v")):
            tensor.data += 0.1 * torch.randn(tensor.shape, generator=draw)
            if "var" in name:
                tensor.data.abs_().add_(0.5)
    for module in network.modules():
        for hook in module._forward_pre_hooks.values():
            if isinstance(hook, SpectralNorm):
                hook.compute_weight(module, do_power_iteration=True)  # moves its estimate to the weights' new singular vectors
    return network.eval()


# Projected GAN's FastGAN


class NoiseInjection(nn.Module):
    """Silent here: at evaluation, the published one adds new noise to every image."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        return x


class CCBN(nn.Module):
    def __init__(self, channels: int, condition: int) -> None:
        super().__init__()
        self.gain = spectral_norm(nn.Linear(condition, channels))
        self.bias = spectral_norm(nn.Linear(condition, channels))
        self.register_buffer("stored_mean", torch.zeros(channels))
        self.register_buffer("stored_var", torch.ones(channels))

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        mean, var = self.get_buffer("stored_mean"), self.get_buffer("stored_var")
        out: Tensor = F.batch_norm(x, mean, var) * (1 + self.gain(y))[:, :, None, None] + self.bias(y)[:, :, None, None]
        return out


def conv(i: int, o: int, size: int, padding: int = 0, bias: bool = False) -> nn.Module:
    return spectral_norm(nn.Conv2d(i, o, size, padding=padding, bias=bias))


def up_block(i: int, o: int, lite: bool) -> nn.Sequential:
    layers: list[nn.Module] = [nn.Upsample(scale_factor=2.0)]
    for fan in (i,) if lite else (i, o):
        noise = [] if lite else [NoiseInjection()]
        layers += [conv(fan, 2 * o, 3, 1), *noise, nn.BatchNorm2d(2 * o), nn.GLU(1)]
    return nn.Sequential(*layers)


class UpBlockCond(nn.Module):
    def __init__(self, i: int, o: int, condition: int, lite: bool) -> None:
        super().__init__()
        self.lite = lite
        if lite:
            self.conv, self.bn = conv(i, 2 * o, 3, 1), CCBN(2 * o, condition)
        else:
            self.conv1, self.conv2 = conv(i, 2 * o, 3, 1), conv(o, 2 * o, 3, 1)
            self.bn1, self.bn2, self.noise = CCBN(2 * o, condition), CCBN(2 * o, condition), NoiseInjection()

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        x = F.interpolate(x, scale_factor=2.0)
        if self.lite:
            return F.glu(self.bn(self.conv(x), y), 1)
        x = F.glu(self.bn1(self.conv1(x), y), 1)
        return F.glu(self.bn2(self.conv2(x), y), 1)


class SEBlock(nn.Module):
    def __init__(self, i: int, o: int) -> None:
        super().__init__()
        self.main = nn.Sequential(nn.AdaptiveAvgPool2d(4), conv(i, o, 4), nn.SiLU(), conv(o, o, 1), nn.Sigmoid())


class InitLayer(nn.Module):
    def __init__(self, z_dim: int, channels: int) -> None:
        super().__init__()
        first = spectral_norm(nn.ConvTranspose2d(z_dim, 2 * channels, 4, bias=False))
        self.init = nn.Sequential(first, nn.BatchNorm2d(2 * channels), nn.GLU(1))


class FastganSynthesis(nn.Module):
    def __init__(self, z_dim: int, resolution: int, classes: int, lite: bool) -> None:
        super().__init__()
        widths = {4: 16, 8: 12, 16: 10, 32: 8, 64: 6, 128: 4, 256: 4, 512: 3, 1024: 2}
        self.sizes = [size for size in widths if 8 <= size <= max(256, resolution)]
        if classes:
            self.embed = nn.Embedding(classes, z_dim)
        self.init, self.resolution, self.conditional = InitLayer(z_dim, widths[4]), resolution, classes > 0
        for size in self.sizes:
            fans = widths[size // 2], widths[size]
            block = UpBlockCond(*fans, z_dim, lite) if classes else up_block(*fans, lite)
            self.add_module(f"feat_{size}", block)
            if 64 <= size <= 512:
                self.add_module(f"se_{size}", SEBlock(widths[size // 16], widths[size]))
        self.to_big = conv(widths[resolution], 3, 3, 1, bias=True)

    def forward(self, z: Tensor, labels: Tensor) -> Tensor:
        z = z * (z.square().mean(1, keepdim=True) + 1e-8).rsqrt()
        features = {4: self.init.init(z[:, :, None, None])}
        for size in self.sizes:
            block = self.get_submodule(f"feat_{size}")
            x = features[size // 2]
            x = block(x, self.embed(labels)) if self.conditional else block(x)
            if 64 <= size <= 512:
                x = x * self.get_submodule(f"se_{size}.main")(features[size // 16])
            features[size] = x
        image: Tensor = self.to_big(features[self.resolution])
        return image


class FastganGenerator(nn.Module):
    def __init__(self, z_dim: int, resolution: int, classes: int, lite: bool) -> None:
        super().__init__()
        self.z_dim, self.c_dim, self.img_resolution = z_dim, classes, resolution
        self.mapping, self.synthesis = nn.Identity(), FastganSynthesis(z_dim, resolution, classes, lite)


# pytorch-pretrained-BigGAN


class BigGANBatchNorm(nn.Module):
    def __init__(self, channels: int, condition: int, levels: int) -> None:
        super().__init__()
        self.register_buffer("running_means", torch.zeros(levels, channels))
        self.register_buffer("running_vars", torch.ones(levels, channels))
        if condition:
            self.scale = spectral_norm(nn.Linear(condition, channels, bias=False))
            self.offset = spectral_norm(nn.Linear(condition, channels, bias=False))
        else:
            self.weight, self.bias = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor, truncation: float, condition: Tensor | None = None) -> Tensor:
        means, variances = self.get_buffer("running_means"), self.get_buffer("running_vars")
        share, start = math.modf(truncation / (1 / (len(means) - 1)))
        k = int(start)
        if share:
            mean, var = (t[k] * share + t[k + 1] * (1 - share) for t in (means, variances))
        else:
            mean, var = means[k], variances[k]
        if condition is None:
            return F.batch_norm(x, mean, var, self.weight, self.bias, eps=1e-4)
        x = (x - mean[:, None, None]) / (var[:, None, None] + 1e-4).sqrt()
        out: Tensor = x * (1 + self.scale(condition))[:, :, None, None] + self.offset(condition)[:, :, None, None]
        return out


class GenBlock(nn.Module):
    def __init__(self, i: int, o: int, condition: int, up: bool, levels: int) -> None:
        super().__init__()
        self.up, self.drop, middle = up, i != o, i // 4
        for n, (channels, fans, size) in enumerate(
            ((i, (i, middle), 1), (middle, (middle, middle), 3), (middle, (middle, middle), 3), (middle, (middle, o), 1))
        ):
            self.add_module(f"bn_{n}", BigGANBatchNorm(channels, condition, levels))
            self.add_module(f"conv_{n}", conv(*fans, size, size // 2, bias=True))

    def forward(self, x: Tensor, condition: Tensor, truncation: float) -> Tensor:
        h = x
        for n in range(4):
            h = F.relu(self.get_submodule(f"bn_{n}")(h, truncation, condition))
            if n == 1 and self.up:
                h = F.interpolate(h, scale_factor=2.0)
            h = self.get_submodule(f"conv_{n}")(h)
        x = x[:, : x.shape[1] // 2] if self.drop else x
        return h + (F.interpolate(x, scale_factor=2.0) if self.up else x)


class SelfAttn(nn.Module):
    def __init__(self, c: int) -> None:
        super().__init__()
        self.snconv1x1_theta, self.snconv1x1_phi = conv(c, c // 8, 1), conv(c, c // 8, 1)
        self.snconv1x1_g, self.snconv1x1_o_conv = conv(c, c // 2, 1), conv(c // 2, c, 1)
        self.gamma = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor, condition: Tensor, truncation: float) -> Tensor:
        theta = self.snconv1x1_theta(x).flatten(2)
        phi = F.max_pool2d(self.snconv1x1_phi(x), 2).flatten(2)
        g = F.max_pool2d(self.snconv1x1_g(x), 2).flatten(2)
        share = torch.softmax(theta.mT @ phi, -1)
        out: Tensor = x + self.gamma * self.snconv1x1_o_conv((g @ share.mT).unflatten(2, x.shape[2:]))
        return out


class PretrainedBigGAN(nn.Module):
    def __init__(self, z_dim: int, classes: int, layers: list[list[Any]], attention: int, levels: int) -> None:
        super().__init__()
        ch = 8
        self.embeddings = nn.Linear(classes, z_dim, bias=False)
        self.generator = nn.Module()
        self.generator.gen_z = spectral_norm(nn.Linear(2 * z_dim, 16 * ch * layers[0][1]))
        blocks: list[nn.Module] = [GenBlock(ch * i, ch * o, 2 * z_dim, up, levels) for up, i, o in layers]
        blocks.insert(attention, SelfAttn(ch * layers[attention][1]))
        self.generator.layers = nn.ModuleList(blocks)
        self.generator.bn = BigGANBatchNorm(ch * layers[-1][2], 0, levels)
        self.generator.conv_to_rgb = conv(ch * layers[-1][2], ch * layers[-1][2], 3, 1, bias=True)

    def forward(self, z: Tensor, labels: Tensor, truncation: float) -> Tensor:
        one_hot = F.one_hot(labels, self.embeddings.in_features).float()
        condition = torch.cat([z, self.embeddings(one_hot)], 1)
        g: Any = self.generator
        x = g.gen_z(condition).view(len(z), 4, 4, -1).permute(0, 3, 1, 2)
        for layer in g.layers:
            x = layer(x, condition, truncation)
        return torch.tanh(g.conv_to_rgb(F.relu(g.bn(x, truncation)))[:, :3])


def dcgan(z_dim: int, widths: tuple[int, ...]) -> nn.Module:
    """Returns the tutorial's generator: (n, z, 1, 1) -> (n, 3, size, size)."""
    layers: list[nn.Module] = []
    for n, i, o in zip(count(), (z_dim, *widths), (*widths, 3), strict=False):
        layers.append(nn.ConvTranspose2d(i, o, 4, stride=2 if n else 1, padding=1 if n else 0, bias=False))
        layers += [nn.Tanh()] if n == len(widths) else [nn.BatchNorm2d(o), nn.ReLU()]
    network = nn.Module()
    network.main = nn.Sequential(*layers)
    return network
