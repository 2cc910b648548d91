"""Trains the embedding of Fashion-MNIST that never saw a label, and measures what it knows.

Contrastive learning (SimCLR: Chen et al., ICML 2020): two random views of an image shall be nearer to each other, through a small
network that is thrown away, than to the views of the other images in a batch.
"""

from __future__ import annotations

import math
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from reds_core.models.shipped.builtin import save_shipped
from reds_core.models.shipped.fashion import Embedding
from reds_core.training.gan import UNLABELLED
from reds_core.training.images import load

TEMPERATURE = 0.2
RATE = 2e-3
LEAST_SCALE, MOST_SCALE = 0.65, 1.05  # of the part of an image that a view shows
MOST_TURN = 0.25  # radians


def view(x: Float[Tensor, "n 1 h w"]) -> Float[Tensor, "n 1 h w"]:
    """Returns a random view of each image: a turned, mirrored part of it, its contrast changed and, half of them, a hole in it."""
    n, device = len(x), x.device
    scale = torch.empty(n, device=device).uniform_(LEAST_SCALE, MOST_SCALE)
    turn = torch.empty(n, device=device).uniform_(-MOST_TURN, MOST_TURN)
    mirror = torch.randint(0, 2, (n,), device=device) * 2 - 1
    shift = torch.empty(2, n, device=device).uniform_(-1, 1) * (1 - scale).abs()
    cos, sin = scale * turn.cos(), scale * turn.sin()
    rows = torch.stack([torch.stack([cos * mirror, -sin, shift[0]], 1), torch.stack([sin * mirror, cos, shift[1]], 1)], 1)
    x = F.grid_sample(x, F.affine_grid(rows, list(x.shape), align_corners=False), align_corners=False)
    x = x.clamp(1e-4, 1) ** torch.empty(n, 1, 1, 1, device=device).uniform_(math.log(0.6), math.log(1.6)).exp()
    x = x * torch.empty(n, 1, 1, 1, device=device).uniform_(0.6, 1)
    at = torch.randint(4, 28, (2, n, 1), device=device)
    along = torch.arange(x.shape[2], device=device)
    hole = ((along - at[0]).abs() < 5)[:, :, None] & ((along - at[1]).abs() < 5)[:, None, :]
    hole &= (torch.rand(n, device=device) < 0.5)[:, None, None]
    return x.masked_fill(hole[:, None], 0)


def contrast(a: Float[Tensor, "n p"], b: Float[Tensor, "n p"]) -> Float[Tensor, ""]:
    """Returns how badly each view finds its pair among all others: the loss of SimCLR."""
    both = F.normalize(torch.cat([a, b]))
    likeness = (both @ both.T / TEMPERATURE).fill_diagonal_(-math.inf)
    n = len(a)
    return F.cross_entropy(likeness, torch.cat([torch.arange(n, 2 * n), torch.arange(n)]).to(a.device))


def train_embedding(data: Path, weights: Path, epochs: int, batch: int, device: str, seed: int = 3) -> None:
    """Trains on the first 50,000 images, without their labels, and writes `weights`/fashion-mnist-embedding.safetensors."""
    torch.manual_seed(seed)
    images = load(data, "train")[0][:UNLABELLED].to(device)
    batch = min(batch, len(images))
    net = Embedding().to(device)
    projector = nn.Sequential(nn.BatchNorm1d(64), nn.SiLU(), nn.Linear(64, 128), nn.SiLU(), nn.Linear(128, 64)).to(device)
    parameters = [*net.parameters(), *projector.parameters()]
    steps = epochs * (len(images) // batch)
    optimiser = torch.optim.AdamW(parameters, lr=RATE, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, RATE, total_steps=steps, pct_start=0.1)
    began = time.monotonic()
    for epoch in range(epochs):
        total = torch.zeros((), device=device)
        for index in torch.randperm(len(images), device=device)[: batch * (len(images) // batch)].split(batch):
            x = images[index]
            first, second = projector(net(torch.cat([view(x), view(x)]))).chunk(2)
            loss = contrast(first, second)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            schedule.step()
            total += loss.detach()
        if (epoch + 1) % max(1, epochs // 20) == 0:
            mean = float(total) / (len(images) // batch)
            print(f"epoch {epoch + 1}/{epochs}, {time.monotonic() - began:.0f} s: loss {mean:.3f}", flush=True)
    save_shipped(net, "fashion-mnist-embedding", weights, torch.float16)
