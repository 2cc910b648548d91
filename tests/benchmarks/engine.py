"""What the engine costs, in one run on one machine: `python -m tests.benchmarks.engine [SPEC] [SEEDS] [KEY.PATH=VALUE ...]`.

    raw          the generator alone, at the batch size of the run and at those around it, in float32 as runs use it; and in TF32,
                 which GPUs offer and runs use for products alone
    published    the article's algorithm as published: one trajectory at a time, a difference along every latent axis, features
                 carried to NumPy, general eigenproblems
    local        the same directions, batched over seeds, directions and signs on the device
    corrected    the default method, with the spec's own tolerances

It prints and asserts nothing. An equivalent is a forward pass; a product of either mode counts as two. "of raw" is the time of an
equivalent, all work of a shard included, over the time that the generator alone takes for an image at its best batch size.
For a GPU, in one command: `python -m tests.benchmarks.engine tests/benchmarks/style_based.yaml`, a generator of 256x256, W = 512,
with random weights: some 50,000 passes, two minutes at 500 images a second. Code that specs name may run.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any
from unittest.mock import patch

import numpy as np
import scipy.linalg
import torch

from reds_core.directions.precision import float32_as
from reds_core.jobs.job import Job
from reds_core.jobs.prepare import prepare
from reds_core.jobs.seeds import conditions_of, latents_of
from reds_core.runs.shards import ComputedShard, write_shard
from reds_core.spec.fields import Spec
from reds_core.spec.load import load_spec
from reds_core.storage.places import folder_at
from reds_core.types import Passes
from reds_core.variants.run_seeds import run_seeds

PUBLISHED_BATCH = 32
LOCAL_SHARE = 8  # local trajectories of one seed in eight: a waypoint costs them a pass for each latent axis


class Clock:
    """Measures the wall seconds inside the calls that it wraps; a call within another counts once."""

    def __init__(self) -> None:
        self.seconds, self.depth = 0.0, 0

    def wrap(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*args: Any, **options: Any) -> Any:
            began = time.perf_counter()
            self.depth += 1
            try:
                return call(*args, **options)
            finally:
                self.depth -= 1
                if not self.depth:
                    if torch.cuda.is_available():
                        torch.cuda.synchronize()
                    self.seconds += time.perf_counter() - began

        return timed


class TimedFeature:
    """A feature whose calls are timed."""

    def __init__(self, feature: Any, clock: Clock) -> None:
        self.names, self.unit, self.bind = feature.names, feature.unit, feature.bind
        self.call = clock.wrap(feature)

    def __call__(self, images: Any, bound: Any) -> Any:
        return self.call(images, bound)


def main() -> None:
    path = sys.argv[1] if len(sys.argv) > 1 else "augment_specs/fashion_mnist.yaml"
    count = int(sys.argv[2]) if len(sys.argv) > 2 else 16
    spec = load_spec(path, sys.argv[3:])
    began = time.perf_counter()
    job = prepare(spec, allow_code=True)
    print(f"preparing: {time.perf_counter() - began:.1f} s, Jacobians by {job.derivatives.in_words}")
    seeds = range(spec.seeds.first, spec.seeds.first + count)
    with float32_as("tf32"):
        fast = _raw(job)
    with float32_as("ieee"):
        raw = _raw(job)
    print(f"raw generator, at its best: {1 / raw:.0f} images/s; in TF32 {1 / fast:.0f}")
    print(f"{spec.name} on {job.device}, {torch.get_num_threads()} threads, {count} seeds, batches of {job.batch}\n")
    print(
        f"{'':11}{'variants':>9}{'accepted':>9}{'seconds':>9}{'s/variant':>11}{'equiv./var.':>13}{'equiv./acc.':>13}{'of raw':>8}"
        f"{'in nets':>9}"
    )
    base = _row("published", *_published(job, seeds[:1]), raw)
    for method, share in (("local", LOCAL_SHARE), ("corrected", 1)):
        changed = spec.trajectory.model_copy(update={"method": method})
        some = seeds[: max(1, count // share)]
        rate = _row(method, *_ours(spec.model_copy(update={"trajectory": changed}), some), raw)
        print(f"{'':11}{rate / base:.0f} times the published variants per second")


def _raw(job: Job) -> float:
    """Returns the seconds that the generator alone takes for an image, at the best of a few batch sizes."""
    best = float("inf")
    for batch in (job.batch // 4, job.batch // 2, job.batch, 2 * job.batch):
        seeds = range(max(1, batch))
        conditions = conditions_of(seeds, job.networks.classes, job.device)
        with torch.no_grad():
            latents = job.networks.generator.latents(latents_of(seeds, job.networks.generator, job.device), conditions)
            for _ in range(2):
                job.networks.generator.images(latents, conditions)
            _wait()
            began, rounds = time.perf_counter(), max(2, 512 // max(1, batch))
            for _ in range(rounds):
                job.networks.generator.images(latents, conditions)
            _wait()
        best = min(best, (time.perf_counter() - began) / rounds / len(seeds))
    return best


def _published(job: Job, seeds: range) -> tuple[int, int, float, int, float]:
    """Runs the article's algorithm along the first direction of each seed, both ways.

    Returns:
        Variants, how many are accepted (unknown: 0), seconds, equivalents, the share of time in networks (unknown: NaN).
    """
    spec, trajectory, step = job.spec, job.spec.trajectory, job.step
    began, passes, made = time.perf_counter(), 0, 0
    conditions = conditions_of(seeds, job.networks.classes, job.device)
    start = job.networks.generator.latents(latents_of(seeds, job.networks.generator, job.device), conditions)

    def features(points: np.ndarray, condition: torch.Tensor) -> list[np.ndarray]:
        parts: list[list[np.ndarray]] = []
        for at in range(0, len(points), PUBLISHED_BATCH):
            z = torch.from_numpy(points[at : at + PUBLISHED_BATCH]).to(job.device)
            with torch.no_grad():
                images = job.networks.generator.images(z, condition.expand(len(z)))
                found = [job.networks.features[n](images, None).cpu().numpy() for n in (*spec.held, *spec.varied)]
            parts.append(found)
        return [np.concatenate(p) for p in zip(*parts, strict=True)]

    def span(z: np.ndarray, condition: torch.Tensor, two_sided: bool) -> tuple[np.ndarray, int]:
        axes = step * np.eye(len(z), dtype=np.float32)
        plus = features(z + axes, condition)
        if two_sided:
            jacobians = [(a - b) / (2 * step) for a, b in zip(plus, features(z - axes, condition), strict=True)]
        else:
            jacobians = [(a - b) / step for a, b in zip(plus, features(z[None], condition), strict=True)]
        grams = [(j @ j.T) / np.linalg.norm(j @ j.T) for j in jacobians]
        held = [_top(a, spec.beta(n)) for a, n in zip(grams, spec.held, strict=False)]
        null = scipy.linalg.null_space(np.hstack(held).T)
        total = sum(grams[len(spec.held) :])
        return null @ _top(null.T @ total @ null, trajectory.beta_varied), (2 if two_sided else 1) * len(z)

    for z0, condition in zip(start.cpu().numpy(), conditions, strict=True):
        first, cost = span(z0, condition, True)
        passes += cost
        for sign in (1, -1):
            z, v = z0, sign * first[:, 0]
            for j in range(trajectory.waypoints):
                if j:
                    columns, cost = span(z, condition, False)
                    passes += cost + 1
                    v = columns @ (columns.T @ v)
                    v = v / np.linalg.norm(v)
                z = (z + step * v).astype(np.float32)
                features(z[None], condition)
                passes += 1
                made += 1
    return made, 0, time.perf_counter() - began, passes, float("nan")


def _top(a: np.ndarray, beta: float) -> np.ndarray:
    """Returns the leading eigenvectors by explained variance, from the general solver that the published code uses."""
    values, vectors = (x.real for x in scipy.linalg.eig(a))
    order = np.argsort(values)[::-1]
    share = np.cumsum(values[order] ** 2) / np.sum(values**2)
    return np.asarray(vectors[:, order[: int((share <= beta).sum()) + 1]])


def _ours(spec: Spec, seeds: range) -> tuple[int, int, float, int, float]:
    """Makes whole shards and writes them to disk. Returns the same figures as `_published`."""
    job = prepare(spec, allow_code=True)
    clock = Clock()
    job.networks.generator.images = clock.wrap(job.networks.generator.images)  # type: ignore[method-assign]
    features: dict[str, Any] = {name: TimedFeature(f, clock) for name, f in job.networks.features.items()}
    judge = job.networks.judge and clock.wrap(job.networks.judge)
    job = replace(job, networks=replace(job.networks, features=features, judge=judge))
    began, total = time.perf_counter(), Passes()
    made = accepted = 0
    product = patch.object(torch.autograd, "grad", clock.wrap(torch.autograd.grad))
    with tempfile.TemporaryDirectory() as folder, product:
        for index, at in enumerate(range(0, len(seeds), spec.shards.seeds)):
            part = seeds[at : at + spec.shards.seeds]
            candidates, passes = run_seeds(job, part)
            manifest = write_shard(folder_at(folder), "0" * 16, ComputedShard(job, index, part, candidates, passes, 0.0))
            made += sum(bool(len(c.latent)) and c.role == "variant" for c in candidates)
            accepted += manifest.accepted
            total += passes
    _wait()
    seconds = time.perf_counter() - began
    return made, accepted, seconds, total.equivalents, clock.seconds / seconds


def _row(name: str, made: int, accepted: int, seconds: float, equivalents: int, share: float, raw: float) -> float:
    each = f"{equivalents / accepted:.1f}" if accepted else "-"
    inside = f"{share:.0%}" if share == share else "-"
    print(
        f"{name:11}{made:9}{accepted or '-':>9}{seconds:9.1f}{seconds / made:11.4f}{equivalents / made:13.1f}{each:>13}"
        f"{seconds / equivalents / raw:8.2f}{inside:>9}",
        flush=True,
    )
    return made / seconds


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


if __name__ == "__main__":
    main()
