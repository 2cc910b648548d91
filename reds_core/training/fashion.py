"""Trains the networks that ship with the package, from Fashion-MNIST alone.

    apt-get install dataset-fashion-mnist                     # MIT licence; or --data DIR with its four .gz files
    python -m reds_core.training.fashion classifier
    python -m reds_core.training.fashion judge
    python -m reds_core.training.fashion gan --images 2000000     # continues from its checkpoint when started again
    python -m reds_core.training.fashion measure                  # the figures of the model cards

The generator: non-saturating logistic loss, a projection discriminator with minibatch deviation (Miyato and Koyama 2018;
Karras et al. 2018), R1 every 16 steps (Mescheder et al. 2018), and a class head on the discriminator that learns from real
images only, so that a sample is pulled to the class that it was asked for. Weights are an exponential average.
"""

from __future__ import annotations

import argparse
import gzip
import math
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reds_core.generators import BuiltinGenerator
from reds_core.generators.latent import draw
from reds_core.models import Builtin
from reds_core.models.config import Access
from reds_core.models.shipped.builtin import WEIGHTS, save_shipped
from reds_core.models.shipped.fashion import Classifier, Generator, Judge, ScaledLinear, _leaky

GROUP = 8  # images of one class that the discriminator sees side by side


def read_idx(path: Path) -> np.ndarray:
    """One gzipped IDX file of unsigned bytes -> an array of its shape."""
    raw = gzip.decompress(path.read_bytes())
    rank = raw[3]
    shape = np.frombuffer(raw, ">i4", rank, 4)
    return np.frombuffer(raw, np.uint8, offset=4 + 4 * rank).reshape(shape)


def load(data: Path, part: str) -> tuple[Tensor, Tensor]:
    """`train` or `t10k` -> (n, 1, 32, 32) images in [0, 1] and (n,) labels."""
    images = torch.from_numpy(read_idx(data / f"{part}-images-idx3-ubyte.gz").copy()).float() / 255
    labels = torch.from_numpy(read_idx(data / f"{part}-labels-idx1-ubyte.gz").copy()).long()
    return F.pad(images[:, None], (2, 2, 2, 2)), labels


def accuracy(net: nn.Module, images: Tensor, labels: Tensor) -> float:
    net.eval()
    with torch.no_grad():
        hits = sum(int((net(x).argmax(1) == y).sum()) for x, y in zip(images.split(500), labels.split(500), strict=True))
    return hits / len(labels)


def augmented(x: Tensor, shift: int, erase: bool) -> Tensor:
    """Random mirroring and shifts (and one erased square), the same for a whole batch half."""
    flip = torch.rand(len(x)) < 0.5
    x = torch.where(flip[:, None, None, None], x.flip(3), x)
    dy, dx = (int(v) for v in torch.randint(-shift, shift + 1, (2,)))
    x = torch.roll(x, (dy, dx), (2, 3))
    if erase:
        top, left = (int(v) for v in torch.randint(0, 24, (2,)))
        x = x.clone()
        x[: len(x) // 2, :, top : top + 8, left : left + 8] = 0
    return x


def train_classifier(net: nn.Module, data: Path, name: str, epochs: int, seed: int, erase: bool) -> None:
    """Cross-entropy with label smoothing and one cosine cycle; writes weights/NAME.safetensors."""
    torch.manual_seed(seed)
    images, labels = load(data, "train")
    test = load(data, "t10k")
    for p in net.modules():
        if isinstance(p, nn.Conv2d | nn.Linear):
            p.reset_parameters()
    net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    steps = epochs * (len(images) // 128)
    optimiser = torch.optim.AdamW(net.parameters(), lr=2e-3, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 4e-3, total_steps=steps)
    for epoch in range(epochs):
        net.train()
        for index in torch.randperm(len(images))[: 128 * (len(images) // 128)].split(128):
            x = augmented(images[index], 2, erase).contiguous(memory_format=torch.channels_last)
            with torch.autocast("cpu", torch.bfloat16):
                scores = net(x)
            loss = F.cross_entropy(scores.float(), labels[index], label_smoothing=0.05)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
        print(f"{name} epoch {epoch + 1}/{epochs}: test accuracy {accuracy(net, *test):.4f}", flush=True)
    save_shipped(net, name)


class _Down(nn.Module):
    def __init__(self, fan_in: int, fan_out: int) -> None:
        super().__init__()
        self.first = _ScaledConv(fan_in, fan_in, 3)
        self.second = _ScaledConv(fan_in, fan_out, 3)
        self.skip = _ScaledConv(fan_in, fan_out, 1)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = F.avg_pool2d(_leaky(self.second(_leaky(self.first(x)))), 2) + self.skip(F.avg_pool2d(x, 2))
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
    """(n, 1, 32, 32) images in [-1, 1] and (n,) labels -> (n,) realness and (n, 10) class scores."""

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
        h: Tensor = self.down(_leaky(self.stem(x)))
        # Deviation among the images of one class that stand together in the batch: a generator that makes one coat shows here.
        # In float32: the small deviations of a collapse vanish in bfloat16.
        groups = h.float().unflatten(0, (-1, GROUP))
        deviation = (groups.var(1, unbiased=False) + 1e-6).sqrt().mean(1, keepdim=True).repeat_interleave(GROUP, 0)
        h = _leaky(self.last(torch.cat([h, deviation.to(h.dtype)], 1)))
        h = _leaky(self.hidden(h.flatten(1)))
        projected = (h * self.project[label]).sum(1, keepdim=True) / math.sqrt(128)
        return (self.real(h) + projected).squeeze(1), self.classes(h)


def train_gan(
    data: Path, weights: Path, state: Path, images: int, batch: int, seed: int, gamma: float, class_weight: float
) -> None:
    """Alternating steps until `images` real images were shown; the learning rate falls linearly over the last third."""
    torch.manual_seed(seed)
    real, labels = load(data, "train")
    real = real * 2 - 1
    by_class = torch.stack([(labels == c).nonzero().squeeze(1) for c in range(10)])
    g, d, average = Generator(), Discriminator(), Generator()
    for net in (g, d, average):
        net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    average.load_state_dict(g.state_dict())
    g_opt = torch.optim.Adam(g.parameters(), lr=2.5e-3, betas=(0.0, 0.99), eps=1e-8)
    d_opt = torch.optim.Adam(d.parameters(), lr=2.5e-3, betas=(0.0, 0.99), eps=1e-8)
    shown = 0
    if state.exists():
        old = torch.load(state, weights_only=True)
        for target, key in ((g, "g"), (d, "d"), (average, "average"), (g_opt, "g_opt"), (d_opt, "d_opt")):
            target.load_state_dict(old[key])  # type: ignore[attr-defined]
        shown = int(old["shown"])
        torch.manual_seed(seed + shown)
    began, first, step = time.monotonic(), shown, shown // batch
    totals = torch.zeros(4)
    while shown < images:
        rate = 2.5e-3 * min(1.0, max(0.02, (images - shown) / (images / 3)))
        for group in (*g_opt.param_groups, *d_opt.param_groups):
            group["lr"] = rate
        index = by_class[
            torch.randint(10, (batch // GROUP, 1)), torch.randint(by_class.shape[1], (batch // GROUP, GROUP))
        ].flatten()
        x, y = real[index].contiguous(memory_format=torch.channels_last), labels[index]

        z = torch.randn(batch, 64)
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            fake = g(z, y)
        with torch.autocast("cpu", torch.bfloat16):
            both, guess = d(torch.cat([x, fake.to(x.dtype)]), torch.cat([y, y]))
        both, guess = both.float(), guess.float()
        d_loss = F.softplus(-both[:batch]).mean() + F.softplus(both[batch:]).mean()
        d_loss = d_loss + class_weight * F.cross_entropy(guess[:batch], y)
        if step % 16 == 0:
            xr = x[: batch // 2].detach().requires_grad_()
            (gradient,) = torch.autograd.grad(d(xr, y[: batch // 2])[0].sum(), xr, create_graph=True)
            d_loss = d_loss + 16 * gamma / 2 * gradient.square().sum((1, 2, 3)).mean()
        d_opt.zero_grad(set_to_none=True)
        d_loss.backward()
        d_opt.step()

        y = torch.randint(10, (batch // GROUP,)).repeat_interleave(GROUP)
        with torch.autocast("cpu", torch.bfloat16):
            score, guess = d(g(torch.randn(batch, 64), y), y)
        g_loss = F.softplus(-score.float()).mean()
        g_class = F.cross_entropy(guess.float(), y)
        g_opt.zero_grad(set_to_none=True)
        (g_loss + class_weight * g_class).backward()
        g_opt.step()

        shown, step = shown + batch, step + 1
        decay = 0.5 ** (batch / min(20_000.0, 0.05 * shown + 1))
        with torch.no_grad():
            for p, q in zip(average.parameters(), g.parameters(), strict=True):
                p.lerp_(q, 1 - decay)
            totals += torch.stack([d_loss.detach(), g_loss.detach(), g_class.detach(), both[:batch].mean()])
        if step % 250 == 0:
            speed = (shown - first) / (time.monotonic() - began)
            figures = " ".join(f"{v:.3f}" for v in totals / 250)
            totals.zero_()
            print(f"{shown} images, {speed:.0f}/s: d g class real {figures}", flush=True)
        if step % 1000 == 0 or shown >= images:
            finish(average)
            save_shipped(average, "fashion-mnist", weights)
            part = state.with_suffix(".part")
            torch.save({"g": g.state_dict(), "d": d.state_dict(), "average": average.state_dict(), "shown": shown,
                        "g_opt": g_opt.state_dict(), "d_opt": d_opt.state_dict()}, part)  # fmt: skip
            part.replace(state)


def finish(net: Generator) -> None:
    """Stores the mean w of every class, the points that truncation moves towards."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for k in range(10):
            z = torch.randn(10_000, 64, generator=generator)
            net.mapping.mean[k] = net.mapping(z, torch.full((10_000,), k)).mean(0)


def measure(data: Path) -> None:
    """Prints the figures of the model cards: accuracies, and how good and how diverse the generator's samples are."""
    device = Access(torch.device("cpu"), allow_code=False)
    images, labels = load(data, "t10k")
    classifier = Builtin(kind="builtin", name="fashion-mnist-classifier").load(device)
    judge = Builtin(kind="builtin", name="fashion-mnist-judge").load(device)
    print(f"test accuracy: classifier {accuracy(classifier, images, labels):.4f}, judge {accuracy(judge, images, labels):.4f}")
    generator = BuiltinGenerator(kind="builtin", name="fashion-mnist").load(device)
    asked = torch.arange(len(images)) % 10
    with torch.no_grad():
        real = torch.cat([judge.embed(x) for x in images.split(500)])  # type: ignore[operator]
        for psi in (0.7, 1.0):
            truncated = generator.truncated(psi)
            latents = truncated.latents(draw(range(len(images)), generator.z_dim, "normal"), asked)
            made = torch.cat([truncated.images(w, y) for w, y in zip(latents.split(500), asked.split(500), strict=True)])
            seen = torch.cat([judge(x).argmax(1) for x in made.split(500)])
            fake = torch.cat([judge.embed(x) for x in made.split(500)])  # type: ignore[operator]
            density, coverage = density_and_coverage(real[:5000], fake[:5000])
            each = " ".join(f"{float((seen[asked == c] == c).float().mean()):.2f}" for c in range(10))
            print(
                f"psi {psi}: the judge agrees on {float((seen == asked).float().mean()):.4f} ({each}); "
                f"KID {kernel_distance(real, fake):.5f}, density {density:.3f}, coverage {coverage:.3f}"
            )
        halves = kernel_distance(real[::2], real[1::2])
        print(f"for comparison, two halves of the real test set: KID {halves:.5f}")


def kernel_distance(x: Tensor, y: Tensor) -> float:
    """Unbiased squared MMD with the cubic kernel of KID (Binkowski et al. 2018), of features (n, p) and (m, p)."""
    kxx, kyy, kxy = ((a.double() @ b.double().T / a.shape[1] + 1) ** 3 for a, b in ((x, x), (y, y), (x, y)))
    n, m = len(x), len(y)
    within = (kxx.sum() - kxx.trace()) / (n * (n - 1)) + (kyy.sum() - kyy.trace()) / (m * (m - 1))
    return float(within - 2 * kxy.mean())


def density_and_coverage(real: Tensor, fake: Tensor, k: int = 5) -> tuple[float, float]:
    """Naeem et al. 2020: how many real neighbourhoods a sample lies in (over k), and the share of them that hold a sample."""
    radius = torch.cdist(real, real).kthvalue(k + 1, dim=1).values
    inside = torch.cdist(real, fake) < radius[:, None]
    return float(inside.sum(0).float().mean() / k), float(inside.any(1).float().mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["classifier", "judge", "gan", "measure"])
    parser.add_argument("--data", type=Path, default=Path("data/fashion-mnist"), help="the folder of Fashion-MNIST's four files")
    parser.add_argument("--images", type=int, default=2_000_000)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--gamma", type=float, default=0.5, help="weight of R1")
    parser.add_argument("--class-weight", type=float, default=0.0)
    parser.add_argument("--weights", type=Path, default=WEIGHTS, help="folder that the generator is written to")
    parser.add_argument("--state", type=Path, default=Path("outputs/fashion-mnist-training.pt"))
    args = parser.parse_args()
    args.state.parent.mkdir(parents=True, exist_ok=True)
    if args.what == "classifier":
        train_classifier(Classifier(), args.data, "fashion-mnist-classifier", args.epochs, 1, False)
    elif args.what == "judge":
        train_classifier(Judge(), args.data, "fashion-mnist-judge", args.epochs, 2, True)
    elif args.what == "measure":
        measure(args.data)
    else:
        train_gan(args.data, args.weights, args.state, args.images, args.batch, 0, args.gamma, args.class_weight)


if __name__ == "__main__":
    main()
