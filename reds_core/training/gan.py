"""Trains the Fashion-MNIST generator.

Non-saturating logistic loss, a projection discriminator with minibatch deviation (Miyato and Koyama 2018; Karras et al. 2018), R1
every 16 steps (Mescheder et al. 2018), and a class head on the discriminator that learns from real images only, so that a sample is
pulled towards the class that it was made for. The weights written are an exponential average.
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
from reds_core.models.shipped.fashion import Generator, ScaledLinear
from reds_core.training.images import load

GROUP = 8  # images of one class that the discriminator sees side by side
RATE = 2.5e-3  # Adam's learning rate, until it falls
R1_EVERY = 16  # steps


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
    """Maps (n, 1, 32, 32) images in [-1, 1] and (n,) labels to (n,) realness and (n, 10) class scores."""

    def __init__(self, channels: tuple[int, ...] = (32, 64, 128, 128)) -> None:
        super().__init__()
        self.stem = _ScaledConv(1, channels[0], 1)
        self.down = nn.Sequential(*(_Down(a, b) for a, b in pairwise(channels)))
        self.last = _ScaledConv(channels[-1] + 1, channels[-1], 3)
        self.hidden = ScaledLinear(channels[-1] * 16, 128)
        self.real = ScaledLinear(128, 1)
        self.project = nn.Parameter(torch.randn(10, 128))
        self.classes = ScaledLinear(128, 10)

    def forward(self, x: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
        h: Tensor = self.down(leaky(self.stem(x)))
        # The deviation among images of one class side by side in the batch, which tells a generator that makes only one coat. In
        # float32: the small deviations of a collapse vanish in bfloat16.
        groups = h.float().unflatten(0, (-1, GROUP))
        deviation = (groups.var(1, unbiased=False) + 1e-6).sqrt().mean(1, keepdim=True).repeat_interleave(GROUP, 0)
        h = leaky(self.last(torch.cat([h, deviation.to(h.dtype)], 1)))
        h = leaky(self.hidden(h.flatten(1)))
        projected = (h * self.project[label]).sum(1, keepdim=True) / math.sqrt(128)
        return (self.real(h) + projected).squeeze(1), self.classes(h)


class Players:
    """The generator, its average and the discriminator, with their optimisers, and how many real images were shown."""

    def __init__(self) -> None:
        self.g, self.d, self.average = Generator(), Discriminator(), Generator()
        for net in (self.g, self.d, self.average):
            net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
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
        old = torch.load(path, weights_only=True)
        for name, part in self.parts().items():
            part.load_state_dict(old[name])
        self.shown = int(old["shown"])

    def save(self, path: Path, weights: Path) -> None:
        """Writes the averaged generator's weights, and the state to continue from."""
        finish(self.average)
        save_shipped(self.average, "fashion-mnist", weights)
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
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            fake = self.g(torch.randn(batch, 64), y)
        with torch.autocast("cpu", torch.bfloat16):
            both, guess = self.d(torch.cat([x, fake.to(x.dtype)]), torch.cat([y, y]))
        both, guess = both.float(), guess.float()
        loss = F.softplus(-both[:batch]).mean() + F.softplus(both[batch:]).mean()
        loss = loss + class_weight * F.cross_entropy(guess[:batch], y)
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
        y = torch.randint(10, (batch // GROUP,)).repeat_interleave(GROUP)
        with torch.autocast("cpu", torch.bfloat16):
            score, guess = self.d(self.g(torch.randn(batch, 64), y), y)
        loss, of_class = F.softplus(-score.float()).mean(), F.cross_entropy(guess.float(), y)
        self.g_opt.zero_grad(set_to_none=True)
        (loss + class_weight * of_class).backward()
        self.g_opt.step()
        return [loss.detach(), of_class.detach()]

    def update_average(self, decay: float) -> None:
        """Moves the average towards the generator."""
        with torch.no_grad():
            for p, q in zip(self.average.parameters(), self.g.parameters(), strict=True):
                p.lerp_(q, 1 - decay)


def train_gan(
    data: Path, weights: Path, state: Path, images: int, batch: int, seed: int, gamma: float, class_weight: float
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
    """
    torch.manual_seed(seed)
    real, labels = load(data, "train")
    real = real * 2 - 1
    by_class = torch.stack([(labels == c).nonzero().squeeze(1) for c in range(10)])
    players = Players()
    if state.exists():
        players.resume(state)
        torch.manual_seed(seed + players.shown)
    began, first, step = time.monotonic(), players.shown, players.shown // batch
    totals = torch.zeros(4)
    while players.shown < images:
        players.set_rate(RATE * min(1.0, max(0.02, (images - players.shown) / (images / 3))))
        index = by_class[
            torch.randint(10, (batch // GROUP, 1)), torch.randint(by_class.shape[1], (batch // GROUP, GROUP))
        ].flatten()
        x, y = real[index].contiguous(memory_format=torch.channels_last), labels[index]
        d_loss, realness = players.step_d(x, y, 0.0 if step % R1_EVERY else R1_EVERY * gamma / 2, class_weight)
        g_loss, g_class = players.step_g(batch, class_weight)
        players.shown, step = players.shown + batch, step + 1
        players.update_average(0.5 ** (batch / min(20_000.0, 0.05 * players.shown + 1)))
        totals += torch.stack([d_loss, g_loss, g_class, realness])
        if step % 250 == 0:
            speed = (players.shown - first) / (time.monotonic() - began)
            figures = " ".join(f"{v:.3f}" for v in totals / 250)
            totals.zero_()
            print(f"{players.shown} images, {speed:.0f}/s: d g class real {figures}", flush=True)
        if step % 1000 == 0 or players.shown >= images:
            players.save(state, weights)


def finish(net: Generator) -> None:
    """Stores the mean w of every class, which truncation moves towards, in a generator."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for k in range(10):
            z = torch.randn(10_000, 64, generator=generator)
            net.mapping.mean[k] = net.mapping(z, torch.full((10_000,), k)).mean(0)
