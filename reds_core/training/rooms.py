"""Trains and measures `rooms-segmenter`, which segments rendered rooms, from the renderer alone: its masks are the truth.

python -m reds_core.training.rooms            # some minutes on two cores
python -m reds_core.training.rooms measure    # the figures of its model card
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from reds_core.generators.latent import MEAN_SEEDS, draw
from reds_core.models import Builtin
from reds_core.models.config import Access
from reds_core.models.shipped.builtin import WEIGHTS, save_shipped
from reds_core.models.shipped.rooms import DIM, SEGMENTS, Rooms
from reds_core.models.shipped.segmenter import Segmenter
from reds_core.types import Images

FRESH_SEEDS = range(MEAN_SEEDS.stop, MEAN_SEEDS.stop + 1024)  # used by no run and for no spread or mean


def seen(images: Images) -> Images:
    """Returns images as a camera might take them: darker or lighter, tinted and noisy, so that the network is robust."""
    n = len(images)
    tint = 1 + 0.08 * torch.randn(n, 3, 1, 1)
    return (images * tint + 0.04 * torch.randn(n, 1, 1, 1) + 0.03 * torch.rand(n, 1, 1, 1) * torch.randn_like(images)).clamp(0, 1)


def train(weights: Path, steps: int, batch: int, seed: int) -> None:
    """Minimises the cross-entropy with the renderer's soft masks over one cosine cycle, and writes the weights into a folder."""
    torch.manual_seed(seed)
    rooms, net = Rooms(), Segmenter()
    net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimiser = torch.optim.AdamW(net.parameters(), lr=3e-3, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 6e-3, total_steps=steps)
    began, total = time.monotonic(), 0.0
    for step in range(1, steps + 1):
        with torch.no_grad():
            # From near the mean room, where truncation leads, to beyond what is sampled.
            z = torch.randn(batch, DIM) * (0.2 + torch.rand(batch, 1))
            images, masks = seen(rooms(z)).contiguous(memory_format=torch.channels_last), rooms.masks(z)
        loss = F.cross_entropy(net(images), masks)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        total += float(loss.detach())
        if step % 100 == 0:
            print(f"step {step}/{steps}, {time.monotonic() - began:.0f} s: cross-entropy {total / 100:.4f}", flush=True)
            total = 0.0
    save_shipped(net, "rooms-segmenter", weights)


def overlap(scores: Float[Tensor, "n k h w"], masks: Float[Tensor, "n k h w"]) -> Float[Tensor, " k"]:
    """Returns each segment's intersection over union with the true masks, by the pixels decided for it, over all images."""
    found, true = (F.one_hot(x.argmax(1), x.shape[1]).bool() for x in (scores, masks))
    return (found & true).sum((0, 1, 2)) / (found | true).sum((0, 1, 2))


def measure() -> None:
    """Prints the overlap on fresh seeds, and the mean error of the soft masks."""
    rooms, net = Rooms(), Builtin(kind="builtin", name="rooms-segmenter").load(Access(torch.device("cpu"), allow_code=False))
    with torch.no_grad():
        for psi in (0.5, 0.7, 1.0, 1.3):
            z = psi * draw(FRESH_SEEDS, DIM, "normal")
            masks = torch.cat([rooms.masks(x) for x in z.split(128)])
            scores = torch.cat([net(rooms(x)) for x in z.split(128)])
            found = overlap(scores, masks)
            each = ", ".join(f"{name} {float(v):.3f}" for name, v in zip(SEGMENTS, found, strict=True))
            error = float((scores.softmax(1) - masks).abs().mean())
            print(f"psi {psi}: mean IoU {float(found.mean()):.3f} ({each}); mean error of a share {error:.4f}")


def main() -> None:
    """Runs what the command line names."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="?", choices=["train", "measure"], default="train")
    parser.add_argument("--steps", type=int, default=1200)
    parser.add_argument("--batch", type=int, default=32)
    args = parser.parse_args()
    if args.what == "train":
        train(WEIGHTS, args.steps, args.batch, 0)
    measure()


if __name__ == "__main__":
    main()
