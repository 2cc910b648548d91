"""Trajectories on ordinary networks, all ReLU and max pooling: `python -m tests.benchmarks.rough FOLDER [SEEDS] [KEY=VALUE ...]`.

Prints; asserts nothing. The shipped classifier is smooth; what users hold is not. Two residual networks are trained on
Fashion-MNIST (Debian's dataset-fashion-mnist) and saved in FOLDER as TorchScript, unless they lie there already: about five minutes
on one core. The first is held on the shipped generator, at psi 1; the second judges. To measure other networks, give a spec of
them, in which a classifier named `class` is held: `python -m tests.benchmarks.rough SPEC.yaml [SEEDS] [KEY=VALUE ...]`.

    asked       waypoints of the seeds whose label the judge confirms
    reached     of those asked for
    accepted    of those asked for; nearly anything counts as varied, so that only drift and the judge reject
    each, acc.  forward equivalents per waypoint reached, and per accepted variant, all work included
    effect      median over the waypoints reached, and over the last one of each trajectory, in spreads
    drift       median over the waypoints reached: in spreads, or, of a decision, the probability lost
    net         the distance of the last waypoints from their seeds, as a share of their arc length: 1 is straight
    flips       waypoints reached whose label the judge contradicts, before any filter
    ended       why the others were rejected
"""

from __future__ import annotations

import math
import sys
import time
import warnings
from collections import Counter
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
import yaml
from torch import Tensor, nn

from reds_core.jobs.job import Job
from reds_core.jobs.prepare import prepare
from reds_core.spec.load import load_spec
from reds_core.training.images import load
from reds_core.variants.run_seeds import run_seeds

DATA = Path("/usr/share/datasets/fashion-mnist")
LIMITS = ("0.03", "0.06", "0.12", "{decision: 0.8}")
EPOCHS, BATCH = 2, 128


class Block(nn.Module):
    """Two convolutions beside a shortcut."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(before, after, 3, padding=1), nn.Conv2d(after, after, 3, padding=1)
        self.norms = nn.ModuleList([nn.BatchNorm2d(after), nn.BatchNorm2d(after)])
        self.shortcut = nn.Conv2d(before, after, 1)

    def forward(self, x: Tensor) -> Tensor:
        inner = F.relu(self.norms[0](self.first(x)))
        return F.relu(self.shortcut(x) + self.norms[1](self.second(inner)))


class ResNet(nn.Module):
    """(n, 1, 32, 32) in [0, 1] -> ten class scores, with a max pooling after every block."""

    def __init__(self, widths: tuple[int, ...]) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*(Block(a, b) for a, b in zip((1, *widths), widths, strict=False)))
        self.scores = nn.Linear(widths[-1], 10)

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = F.max_pool2d(block(x), 2)
        scores: Tensor = self.scores(x.mean((2, 3)))
        return scores


def train(widths: tuple[int, ...], seed: int, path: Path) -> None:
    """Minimises the cross-entropy over one cycle of the learning rate, and saves the network as TorchScript."""
    torch.manual_seed(seed)
    (images, labels), (tests, answers) = load(DATA, "train"), load(DATA, "t10k")
    net = ResNet(widths)
    steps = EPOCHS * len(images) // BATCH
    optimizer = torch.optim.AdamW(net.parameters(), weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=steps)
    order = torch.cat([torch.randperm(len(images)) for _ in range(EPOCHS)])
    for rows in order.split(BATCH)[:steps]:
        with torch.autocast("cpu", torch.bfloat16):
            scores = net(images[rows])
        loss = F.cross_entropy(scores.float(), labels[rows])
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
    net.eval()
    with torch.no_grad():
        hits = torch.cat([net(x).argmax(1) for x in tests.split(500)]) == answers
    print(f"{path.name}: {float(hits.float().mean()):.1%} of the test set")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.jit is deprecated
        torch.jit.save(torch.jit.script(net), str(path))


def spec_of(folder: Path) -> Path:
    """Trains what is missing, and returns the path of a spec, written beside the networks, that holds one of them."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, widths, seed in (("held", (24, 48, 96), 1), ("judge", (20, 40, 80, 120), 2)):
        if not (folder / f"{name}.pt").exists():
            train(widths, seed, folder / f"{name}.pt")
    spec = {
        "name": "rough",
        "generator": {"kind": "builtin", "name": "fashion-mnist"},
        "seeds": {"count": 1000},
        "attributes": {
            "class": {"kind": "classifier", "model": {"kind": "torchscript", "path": str(folder.absolute() / "held.pt")}},
            "look": {"kind": "pixels"},
        },
        "label": "condition", "held": {"class": 0.06}, "varied": {"look": 0.01}, "duplicates": 0,
        "trajectory": {"directions": 4, "waypoints": 4, "step": 0.15},
        "judge": {"model": {"kind": "torchscript", "path": str(folder.absolute() / "judge.pt")}},
    }  # fmt: skip
    path = folder / "rough.yaml"
    path.write_text(yaml.safe_dump(spec), encoding="utf-8")
    return path


def row(job: Job, seeds: range) -> str:
    """Runs seeds, and returns their figures as a row of the table."""
    began = time.perf_counter()
    candidates, passes = run_seeds(job, seeds)
    seconds = time.perf_counter() - began
    starts = {c.seed: c.latent for c in candidates if c.role == "seed"}
    asked = [c for c in candidates if c.role == "variant" and c.reason != "seed_label"]
    reached = [c for c in asked if all(math.isfinite(v) for v in (*c.drifts.values(), *c.effects.values()))]
    last = [c for c in reached if c.waypoint == job.spec.trajectory.waypoints]
    accepted = sum(c.accepted for c in asked)
    effect, final = (
        float(np.median([next(iter(c.effects.values())) for c in some])) if some else math.nan for some in (reached, last)
    )
    drift = float(np.median([c.drifts["class"] for c in reached])) if reached else math.nan
    net = [float(np.linalg.norm(c.latent - starts[c.seed])) / (job.step * c.waypoint) for c in last]
    straight = float(np.median(net)) if net else math.nan
    flips = float(np.mean([not c.judge_agrees for c in reached])) if reached else math.nan
    ended = Counter(c.reason.split(":")[0] for c in asked if c.reason)
    return (
        f"{len(asked):7}{len(reached) / max(1, len(asked)):9.1%}{accepted / max(1, len(asked)):10.1%}"
        f"{passes.equivalents / max(1, len(reached)):7.1f}{passes.equivalents / max(1, accepted):7.1f}{effect:8.2f}{final:7.2f}"
        f"{drift:8.3f}{straight:6.2f}{flips:8.2%}{seconds:6.0f} s  {', '.join(f'{reason} {n}' for reason, n in ended.items())}"
    )


def main() -> None:
    where = Path(sys.argv[1])
    count = int(sys.argv[2]) if len(sys.argv) > 2 else 6
    path = where if where.suffix == ".yaml" else spec_of(where)
    print(f"{'class held':18}  asked  reached  accepted   each   acc.  effect   last   drift   net   flips    time  ended")
    for limit in LIMITS:
        job = prepare(load_spec(path, [*sys.argv[3:], f"held.class={limit}"]), allow_code=True)
        print(f"{limit:18}{row(job, range(count))}", flush=True)


if __name__ == "__main__":
    main()
