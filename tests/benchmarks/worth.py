"""What variants teach a classifier: `python -m tests.benchmarks.worth [OPTIONS] [SPEC] [KEY.PATH=VALUE ...]`.

A few real images of Fashion-MNIST in each class, a small network, real test images, and four arms:

    real       the few real images alone
    seeds      and the seeds' own images, as a run labels and judges them
    variants   and the seeds' accepted variants
    fresh      and as many fresh samples of the generator, labelled by the class asked for, one pass each, unfiltered

Each repeat draws its real images and initial weights anew, the same for all arms. Every arm takes the same number of optimiser
steps, with flips and small shifts; extra images are half of every batch. The differences, in points of accuracy, are paired over
repeats, each with its 95 % interval. It prints and asserts nothing. Code that specs name may run.

    python -m tests.benchmarks.worth --repeats 8 --variant "old: held.class=0.04 trajectory.step=0.12 varied.look=0.12" \\
        --variant "decision: held.class={decision: 0.9} trajectory.step=0.2"
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, UInt8
from scipy import stats
from torch import Tensor, nn

from reds_core.jobs.job import Job, rendered
from reds_core.jobs.prepare import prepare
from reds_core.jobs.seeds import conditions_of, latents_of
from reds_core.spec.load import load_spec
from reds_core.training.images import load
from reds_core.types import Candidate, Passes
from reds_core.variants.run_seeds import run_seeds

DATA = Path("/usr/share/datasets/fashion-mnist")
FRESH = 2**30  # the first seed of fresh samples: no spec here comes near it
SHIFT = 2  # pixels


@dataclass(frozen=True)
class Images:
    """Labelled images."""

    pixels: UInt8[Tensor, "n 1 32 32"]
    labels: Int[Tensor, " n"]

    def __len__(self) -> int:
        return len(self.labels)

    def __add__(self, other: Images) -> Images:
        return Images(torch.cat([self.pixels, other.pixels]), torch.cat([self.labels, other.labels]))

    def part(self, rows: Int[Tensor, " n"] | slice) -> Images:
        """Returns the images in `rows`."""
        return Images(self.pixels[rows], self.labels[rows])


@dataclass(frozen=True)
class Made:
    """What one setting gives.

    Args:
        seeds, variants, fresh: images. The fresh samples are as many as the other two together.
        effect: the median effect of accepted variants on the first varied attribute.
        keeps: the share of the waypoints reached at which the judge sees the seed's label, before any filter.
        equivalents: forward equivalents of all the work, over accepted variants.
    """

    seeds: Images
    variants: Images
    fresh: Images
    effect: float
    keeps: float
    equivalents: float


def main() -> None:
    """Makes what every setting gives, trains on it, and prints the table."""
    args = _arguments()
    made = {}
    for setting in args.variant or ["as given:"]:
        name, _, own = setting.partition(":")
        overrides = re.split(r"\s+(?=[\w.]+=)", own.strip()) if own.strip() else []  # values may hold spaces
        made[name] = make(args.spec, [f"seeds.count={args.seeds}", *args.overrides, *overrides])
        print(f"made {name}", flush=True)
    real, test = _real(args.data, "train"), _real(args.data, "t10k").part(slice(args.test))
    rows = _rows(made)
    accuracies: dict[str, list[float]] = {}
    known: dict[bytes, list[float]] = {}  # by the bytes of the extra images, which several arms may share
    for key, (extra, _) in rows.items():
        digest = b"" if extra is None else extra.pixels.numpy().tobytes()
        if digest not in known:
            known[digest] = [
                accuracy(trained(few(real, args.per_class, i), extra, args.steps, i), test) for i in range(args.repeats)
            ]
        accuracies[key] = known[digest]
        print(f"trained {key}: {np.mean(known[digest]):.2%}", flush=True)
    _print(made, rows, accuracies)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.worth", description="What variants teach a classifier.")
    parser.add_argument("spec", nargs="?", default="augment_specs/fashion_mnist.yaml")
    parser.add_argument("overrides", nargs="*", metavar="KEY.PATH=VALUE", default=[])
    parser.add_argument("--variant", action="append", default=[], help='a setting, "NAME: KEY.PATH=VALUE ..."; repeatable')
    parser.add_argument("--repeats", type=int, default=8)
    parser.add_argument("--per-class", type=int, default=20, help="real training images in each class")
    parser.add_argument("--steps", type=int, default=800)
    parser.add_argument("--seeds", type=int, default=160, help="seeds, unless a setting gives seeds.count")
    parser.add_argument("--test", type=int, default=4000, help="real test images")
    parser.add_argument("--data", type=Path, default=DATA, help="the folder of Fashion-MNIST's four files")
    args = parser.parse_intermixed_args()
    if "=" in args.spec:
        args.overrides, args.spec = [args.spec, *args.overrides], parser.get_default("spec")
    return args


def _real(data: Path, part: str) -> Images:
    images, labels = load(data, part)
    return Images((images * 255).round().byte(), labels)


def make(spec_path: str, overrides: Sequence[str]) -> Made:
    """Makes the seeds' images, their variants, and fresh samples of the same generator."""
    spec = load_spec(spec_path, overrides)
    job = prepare(spec, allow_code=True)
    candidates: list[Candidate] = []
    passes = Passes()
    last = spec.seeds.first + spec.seeds.number
    for at in range(spec.seeds.first, last, spec.shards.seeds):
        found = run_seeds(job, range(at, min(at + spec.shards.seeds, last)))
        candidates, passes = candidates + found[0], passes + found[1]
    seeds = [c for c in candidates if c.role == "seed" and c.accepted]
    variants = [c for c in candidates if c.role == "variant" and c.accepted]
    judged = [c.judge_agrees for c in candidates if c.role == "variant" and len(c.latent)]
    effects = [c.effects[next(iter(spec.varied))] for c in variants]
    return Made(
        images_of(seeds), images_of(variants), fresh(job, len(seeds) + len(variants)),
        float(np.median(effects or np.nan)), float(np.mean(judged or np.nan)), passes.equivalents / max(1, len(variants)),
    )  # fmt: skip


def images_of(candidates: Sequence[Candidate]) -> Images:
    """Returns the images of accepted candidates."""
    pixels = np.stack([c.pixels for c in candidates]) if candidates else np.zeros((0, 32, 32, 1), np.uint8)
    return Images(torch.from_numpy(pixels).permute(0, 3, 1, 2), torch.tensor([c.label for c in candidates], dtype=torch.long))


def fresh(job: Job, count: int) -> Images:
    """Returns samples of the generator, labelled by the class asked for."""
    seeds, networks = range(FRESH, FRESH + count), job.networks
    conditions = conditions_of(seeds, networks.classes, networks.device)
    latents = networks.generator.latents(latents_of(seeds, networks.generator, networks.device), conditions)
    images = rendered(networks, latents, conditions).images
    return Images((images * 255).round().byte().cpu(), conditions.cpu())


def few(real: Images, per_class: int, repeat: int) -> Images:
    """Returns a repeat's real images, `per_class` of each class."""
    order = torch.randperm(len(real), generator=torch.Generator().manual_seed(repeat))
    return real.part(torch.cat([order[real.labels[order] == c][:per_class] for c in real.labels.unique()]))


def network() -> nn.Module:
    """Returns a small network for 32x32 images of ten classes."""
    layers: list[nn.Module] = []
    for inputs, outputs in ((1, 16), (16, 32), (32, 64)):
        layers += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.MaxPool2d(2), nn.BatchNorm2d(outputs), nn.ReLU()]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(64 * 4 * 4, 10))


def trained(real: Images, extra: Images | None, steps: int, repeat: int, batch: int = 64) -> nn.Module:
    """Returns a repeat's network, trained on real images and extra ones, half of every batch each.

    Which real ones a batch holds, flipped and shifted how, is the same whatever the extra ones are.
    """
    torch.manual_seed(repeat)
    net = network().train()
    net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimiser = torch.optim.AdamW(net.parameters(), weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 3e-3, total_steps=steps)
    sources = [(real, batch)] if extra is None else [(real, batch // 2), (extra, batch // 2)]
    draws = [torch.Generator().manual_seed(1000 * repeat + i) for i in range(len(sources))]
    for _ in range(steps):
        parts = [_drawn(images, count, generator) for (images, count), generator in zip(sources, draws, strict=True)]
        loss = F.cross_entropy(net(torch.cat([x for x, _ in parts])), torch.cat([y for _, y in parts]))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    return net.eval()


def _drawn(images: Images, count: int, generator: torch.Generator) -> tuple[Float[Tensor, "n 1 32 32"], Int[Tensor, " n"]]:
    """Returns some of the images at random, half of them mirrored, all of them shifted alike, and their labels."""
    chosen = images.part(torch.randint(len(images), (count,), generator=generator))
    x = chosen.pixels.float() / 255
    mirrored = torch.rand(count, generator=generator) < 0.5
    x = torch.where(mirrored[:, None, None, None], x.flip(3), x)
    down, right = torch.randint(-SHIFT, SHIFT + 1, (2,), generator=generator).tolist()
    return x.roll((down, right), (2, 3)), chosen.labels


def accuracy(net: nn.Module, test: Images) -> float:
    """Returns the share of test images that a network classifies rightly."""
    with torch.no_grad():
        found = torch.cat([net(x.float() / 255).argmax(1) for x in test.pixels.split(500)])
    return float((found == test.labels).float().mean())


def _rows(made: dict[str, Made]) -> dict[str, tuple[Images | None, str]]:
    """Returns each arm's extra images, and the arm that it is compared with."""
    rows: dict[str, tuple[Images | None, str]] = {"real": (None, f"seeds, {next(iter(made))}")}
    for name, m in made.items():
        own = f"seeds, {name}"
        rows[own] = (m.seeds, f"seeds, {next(iter(made))}")
        rows[f"variants, {name}"] = (m.seeds + m.variants, own)
        rows[f"fresh, {name}"] = (m.fresh, own)
    return rows


def _print(made: dict[str, Made], rows: dict[str, tuple[Images | None, str]], accuracies: dict[str, list[float]]) -> None:
    wide = max(map(len, rows)) + 2
    print(f"\n{'':{wide}}{'extra':>6}{'accuracy':>10}{'to seeds':>10}{'95 %':>18}{'effect':>8}{'keeps':>8}{'equiv./acc.':>13}")
    for key, (extra, beside) in rows.items():
        differences = 100 * (np.array(accuracies[key]) - np.array(accuracies[beside]))
        print(f"{key:{wide}}{0 if extra is None else len(extra):6}{np.mean(accuracies[key]):10.2%}", end="")
        print(f"{differences.mean():+10.2f}{_interval(differences):>18}" if differences.any() else f"{'-':>10}{'-':>18}", end="")
        kind, _, name = key.partition(", ")
        print(f"{made[name].effect:8.2f}{made[name].keeps:8.2%}{made[name].equivalents:13.1f}" if kind == "variants" else "")
    print("\nto seeds: a seeds' arm is compared with the first one, the arms of a setting with their own seeds' arm")


def _interval(differences: np.ndarray) -> str:
    """Returns the 95 % interval of a mean, by Student's t."""
    if len(differences) < 2:
        return "-"
    low, high = stats.t.interval(0.95, len(differences) - 1, differences.mean(), stats.sem(differences))
    return f"{low:+.2f} to {high:+.2f}"


if __name__ == "__main__":
    main()
