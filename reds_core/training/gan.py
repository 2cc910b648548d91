"""Trains the Fashion-MNIST generators.

Non-saturating logistic loss, a projection discriminator with minibatch deviation (Miyato and Koyama 2018; Karras et al. 2018), R1
every 16 steps (Mescheder et al. 2018), and a class head on the discriminator that learns from real images only, so that a sample is
pulled towards the class that it was made for. The weights written are an exponential average. Without labels, there is no
projection and no class head.
"""

from __future__ import annotations

import math
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reds_core.models.published.style import leaky
from reds_core.models.shipped.builtin import save_shipped
from reds_core.models.shipped.fashion import CLASS_NAMES, Generator, ScaledLinear
from reds_core.training.images import load

GROUP = 8  # images of one class that the discriminator sees side by side
RATE = 2.5e-3  # Adam's learning rate, until it falls
R1_EVERY = 16  # steps
UNLABELLED = 50_000  # images that a generator without labels learns from; the other 10,000 stay unseen


class _Down(nn.Module):
    def __init__(self, fan_in: int, fan_out: int) -> None:
        super().__init__()
        self.first = _ScaledConv(fan_in, fan_in, 3)
        self.second = _ScaledConv(fan_in, fan_out, 3)
        self.skip = _ScaledConv(fan_in, fan_out, 1)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = F.avg_pool2d(leaky(self.second(leaky(self.first(x)))), 2) + self.skip(F.avg_pool2d(x, 2))
        return y / math.sqrt(2)


class _ScaledConv(nn.Module):
    def __init__(self, fan_in: int, fan_out: int, kernel: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(fan_out, fan_in, kernel, kernel))
        self.bias = nn.Parameter(torch.zeros(fan_out))
        self.gain = 1 / math.sqrt(fan_in * kernel * kernel)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = F.conv2d(x, self.weight * self.gain, self.bias, padding=self.weight.shape[2] // 2)
        return y


class Discriminator(nn.Module):
    """Maps (n, 1, 32, 32) images in [-1, 1] and (n,) labels to (n,) realness and (n, classes) class scores, or None."""

    def __init__(self, channels: tuple[int, ...] = (32, 64, 128, 128), classes: int = len(CLASS_NAMES)) -> None:
        super().__init__()
        self.stem = _ScaledConv(1, channels[0], 1)
        self.down = nn.Sequential(*(_Down(a, b) for a, b in pairwise(channels)))
        self.last = _ScaledConv(channels[-1] + 1, channels[-1], 3)
        self.hidden = ScaledLinear(channels[-1] * 16, 128)
        self.real = ScaledLinear(128, 1)
        self.project = nn.Parameter(torch.randn(classes, 128)) if classes else None
        self.classes = ScaledLinear(128, classes) if classes else None

    def forward(self, x: Tensor, label: Tensor) -> tuple[Tensor, Tensor | None]:
        h: Tensor = self.down(leaky(self.stem(x)))
        # The deviation among images of one class side by side in the batch, which tells a generator that makes only one coat. In
        # float32: the small deviations of a collapse vanish in bfloat16.
        groups = h.float().unflatten(0, (-1, GROUP))
        deviation = (groups.var(1, unbiased=False) + 1e-6).sqrt().mean(1, keepdim=True).repeat_interleave(GROUP, 0)
        h = leaky(self.last(torch.cat([h, deviation.to(h.dtype)], 1)))
        h = leaky(self.hidden(h.flatten(1)))
        real: Tensor = self.real(h).squeeze(1)
        if self.project is None or self.classes is None:
            return real, None
        return real + (h * self.project[label]).sum(1) / math.sqrt(128), self.classes(h)


class Players:
    """The generator, its average and the discriminator, with their optimisers, and how many real images were shown.

    Args:
        classes: of the labels; 0 trains without them.
        name: of the file that the generator is written to.
        device: where to train; on a CPU in bfloat16, on a GPU in its own float32.
    """

    def __init__(self, classes: int, name: str, device: torch.device) -> None:
        self.classes, self.name, self.device = classes, name, device
        self.g, self.d, self.average = Generator(classes), Discriminator(classes=classes), Generator(classes)
        for net in (self.g, self.d, self.average):
            net.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.average.load_state_dict(self.g.state_dict())
        self.g_opt, self.d_opt = (
            torch.optim.Adam(net.parameters(), lr=RATE, betas=(0.0, 0.99), eps=1e-8) for net in (self.g, self.d)
        )
        self.shown = 0

    def parts(self) -> dict[str, Any]:
        """Returns everything that has a state, by its name in a file."""
        return {"g": self.g, "d": self.d, "average": self.average, "g_opt": self.g_opt, "d_opt": self.d_opt}

    def resume(self, path: Path) -> None:
        """Continues from what `save` wrote."""
        old = torch.load(path, weights_only=True, map_location=self.device)
        for name, part in self.parts().items():
            part.load_state_dict(old[name])
        self.shown = int(old["shown"])

    def save(self, path: Path, weights: Path) -> None:
        """Writes the averaged generator's weights, and the state to continue from."""
        finish(self.average)
        save_shipped(self.average, self.name, weights, torch.float32 if self.classes else torch.float16)
        part = path.with_suffix(".part")
        torch.save({"shown": self.shown, **{name: p.state_dict() for name, p in self.parts().items()}}, part)
        part.replace(path)

    def set_rate(self, rate: float) -> None:
        """Sets both learning rates."""
        for group in (*self.g_opt.param_groups, *self.d_opt.param_groups):
            group["lr"] = rate

    def step_d(self, x: Tensor, y: Tensor, r1: float, class_weight: float) -> list[Tensor]:
        """Takes a step of the discriminator on real images x; returns its loss and the mean realness. `r1` weighs the penalty."""
        batch = len(x)
        with torch.no_grad(), self._fast():
            fake = self.g(torch.randn(batch, self.g.mapping.z_dim, device=self.device), y)
        with self._fast():
            both, guess = self.d(torch.cat([x, fake.to(x.dtype)]), torch.cat([y, y]))
        both = both.float()
        loss = F.softplus(-both[:batch]).mean() + F.softplus(both[batch:]).mean()
        if guess is not None:
            loss = loss + class_weight * F.cross_entropy(guess.float()[:batch], y)
        if r1:
            xr = x[: batch // 2].detach().requires_grad_()
            (gradient,) = torch.autograd.grad(self.d(xr, y[: batch // 2])[0].sum(), xr, create_graph=True)
            loss = loss + r1 * gradient.square().sum((1, 2, 3)).mean()
        self.d_opt.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self.d_opt.step()
        return [loss.detach(), both[:batch].mean().detach()]

    def step_g(self, batch: int, class_weight: float) -> list[Tensor]:
        """Takes a step of the generator; returns its loss and its classes' cross-entropy."""
        y = torch.randint(max(1, self.classes), (batch // GROUP,), device=self.device).repeat_interleave(GROUP)
        with self._fast():
            score, guess = self.d(self.g(torch.randn(batch, self.g.mapping.z_dim, device=self.device), y), y)
        loss = F.softplus(-score.float()).mean()
        of_class = loss.new_zeros(()) if guess is None else F.cross_entropy(guess.float(), y)
        self.g_opt.zero_grad(set_to_none=True)
        (loss + class_weight * of_class).backward()
        self.g_opt.step()
        return [loss.detach(), of_class.detach()]

    def update_average(self, decay: float) -> None:
        """Moves the average towards the generator."""
        with torch.no_grad():
            torch._foreach_lerp_(list(self.average.parameters()), list(self.g.parameters()), 1 - decay)

    def _fast(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cpu")


def train_gan(
    data: Path,
    weights: Path,
    state: Path,
    images: int,
    batch: int,
    seed: int,
    gamma: float,
    class_weight: float,
    unlabelled: bool = False,
    device: str = "cpu",
) -> None:
    """Alternates steps until `images` real images were shown; the learning rate falls linearly over the last third.

    Args:
        data: the folder of Fashion-MNIST's four files.
        weights: the folder that the generator is written to.
        state: the file that training continues from, if it exists.
        images: how many real images to show in all, counting each time that one is shown.
        batch: images per step.
        seed: of all random draws.
        gamma: the weight of R1.
        class_weight: the weight of the class head's cross-entropy.
        unlabelled: learn from the first 50,000 images, without their labels.
        device: where to train.
    """
    torch.manual_seed(seed)
    at = torch.device(device)
    real, labels = load(data, "train")
    if unlabelled:
        real, labels = real[:UNLABELLED], torch.zeros(len(real[:UNLABELLED]), dtype=torch.long)
    real, labels = (real * 2 - 1).to(at), labels.to(at)
    groups = [(labels == c).nonzero().squeeze(1) for c in range(int(labels.max()) + 1)]
    by_class = torch.stack([g[: min(map(len, groups))] for g in groups])
    players = Players(0, "fashion-mnist-unlabelled", at) if unlabelled else Players(len(CLASS_NAMES), "fashion-mnist", at)
    if state.exists():
        players.resume(state)
        torch.manual_seed(seed + players.shown)
    began, first, step = time.monotonic(), players.shown, players.shown // batch
    totals = torch.zeros(4, device=at)
    while players.shown < images:
        players.set_rate(RATE * min(1.0, max(0.02, (images - players.shown) / (images / 3))))
        index = by_class[
            torch.randint(len(by_class), (batch // GROUP, 1), device=at),
            torch.randint(by_class.shape[1], (batch // GROUP, GROUP), device=at),
        ].flatten()
        x, y = real[index].contiguous(memory_format=torch.channels_last), labels[index]
        d_loss, realness = players.step_d(x, y, 0.0 if step % R1_EVERY else R1_EVERY * gamma / 2, class_weight)
        g_loss, g_class = players.step_g(batch, class_weight)
        players.shown, step = players.shown + batch, step + 1
        players.update_average(0.5 ** (batch / min(20_000.0, 0.05 * players.shown + 1)))
        totals += torch.stack([d_loss, g_loss, g_class, realness])
        if step % 250 == 0:
            speed = (players.shown - first) / (time.monotonic() - began)
            figures = " ".join(f"{v:.3f}" for v in (totals / 250).tolist())
            totals.zero_()
            print(f"{players.shown} images, {speed:.0f}/s: d g class real {figures}", flush=True)
        if step % 1000 == 0 or players.shown >= images:
            players.save(state, weights)


def finish(net: Generator) -> None:
    """Stores the mean w of every class, which truncation moves towards, in a generator."""
    generator = torch.Generator().manual_seed(0)
    mean = net.mapping.mean
    with torch.no_grad():
        for k in range(len(mean)):
            z = torch.randn(10_000, net.mapping.z_dim, generator=generator).to(mean.device)
            mean[k] = net.mapping(z, torch.full((10_000,), k, device=mean.device)).mean(0)
