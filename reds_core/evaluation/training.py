"""One training, and its test. All arms of a repeat begin with the same weights and take the same number of steps."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Int
from torch import Tensor, nn

from reds_core.evaluation.classic import Augment
from reds_core.evaluation.labelled import Labelled
from reds_core.evaluation.networks import Build

BATCH = 64
RATE, DECAY = 3e-3, 0.01
TESTED = 500  # images at a time


@dataclass(frozen=True)
class Trained:
    """A network after its training, and how long that took."""

    network: nn.Module
    seconds: float


def trained(build: Build, real: Labelled, extra: Labelled | None, augment: Augment | None, steps: int, seed: int) -> Trained:
    """Returns a network that was trained on real images and, half of every batch, extra ones.

    Args:
        build: makes it, by torch's global random numbers.
        real, extra: on the device that it is trained on.
        augment: what every image goes through; None: nothing.
        steps: of the optimiser.
        seed: decides initial weights, the order of real images, and augmentation.
    """
    device = real.pixels.device
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        network = build().to(device).train()
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # on a CPU twice as fast
        optimiser = torch.optim.AdamW(network.parameters(), weight_decay=DECAY)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, RATE, total_steps=steps)
        sources = [(real, BATCH)] if extra is None else [(real, BATCH // 2), (extra, BATCH // 2)]
        draws = [torch.Generator().manual_seed(1000 * seed + i) for i in range(len(sources))]
        began = time.monotonic()
        for _ in range(steps):
            rows = [torch.randint(len(s), (n,), generator=g).to(device) for (s, n), g in zip(sources, draws, strict=True)]
            x = torch.cat([s.pixels[r] for (s, _), r in zip(sources, rows, strict=True)]).float() / 255
            y = torch.cat([s.labels[r] for (s, _), r in zip(sources, rows, strict=True)])
            loss = F.cross_entropy(network(x if augment is None else augment(x)), y)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
    return Trained(network.eval(), time.monotonic() - began)


def predicted(network: Callable[[Tensor], Tensor], images: Labelled) -> Int[Tensor, " n"]:
    """Returns the class that a network gives each image, on the CPU."""
    with torch.no_grad():
        return torch.cat([network(x.float() / 255).argmax(1) for x in images.pixels.split(TESTED)]).cpu()


@dataclass(frozen=True)
class Scores:
    """How well a network did on test images, as shares."""

    accuracy: float
    macro_f1: float
    worst_group: float


def scores(found: Int[Tensor, " n"], test: Labelled, classes: int) -> Scores:
    """Returns the scores of predictions.

    The worst group is the lowest accuracy of a label's images, or of a label's images of one group if there are groups.
    """
    labels = test.labels.cpu()
    right = found == labels
    f1 = []
    for c in range(classes):
        hits = int((right & (labels == c)).sum())
        f1.append(2 * hits / max(1, int((found == c).sum()) + int((labels == c).sum())))
    keys = list(zip(labels.tolist(), test.groups, strict=True))
    of_group = {key: [bool(r) for r, k in zip(right, keys, strict=True) if k == key] for key in set(keys)}
    worst = min(sum(values) / len(values) for values in of_group.values())
    return Scores(float(right.float().mean()), sum(f1) / classes, worst)
