"""What a variant costs, and where the time goes: `python -m tests.bench_augment [SPEC] [SEEDS]`. Prints; asserts nothing.

The share in networks is the wall time inside the generator, the features and the judge, over all of `run_seeds` and the writing of
the shard. Reverse passes run outside of these calls, so the share is only right for Jacobians by differences or forward mode.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from reds_core.prepare import prepare
from reds_core.shards import write_shard
from reds_core.spec import load_spec
from reds_core.variants import run_seeds


class Clock:
    """Wall seconds inside the calls that it wraps; a call within another counts once."""

    def __init__(self) -> None:
        self.seconds, self.depth = 0.0, 0

    def wrap(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*args: Any) -> Any:
            began = time.perf_counter()
            self.depth += 1
            try:
                return call(*args)
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
    spec = load_spec(sys.argv[1] if len(sys.argv) > 1 else "augment_specs/fashion_mnist.yaml")
    count = int(sys.argv[2]) if len(sys.argv) > 2 else 8
    began = time.perf_counter()
    job = prepare(spec)
    print(f"preparing: {time.perf_counter() - began:.1f} s, on {job.device}, batches of {job.batch}, Jacobians by {job.mode}")
    clock = Clock()
    job.generator.images = clock.wrap(job.generator.images)  # type: ignore[method-assign]
    features = {name: TimedFeature(f, clock) for name, f in job.features.items()}
    job = replace(job, features=features, judge=clock.wrap(job.judge) if job.judge else None)
    seeds = range(spec.seeds.first, spec.seeds.first + count)
    began = time.perf_counter()
    candidates, passes = run_seeds(job, seeds)
    with tempfile.TemporaryDirectory() as folder:
        manifest = write_shard(Path(folder), job, "0" * 16, 0, seeds, candidates, passes, 0.0)
    total = time.perf_counter() - began
    accepted = max(1, manifest["accepted"])
    print(
        f"{count} seeds: {manifest['accepted']} accepted of {sum(c.role == 'variant' for c in candidates)} candidates in {total:.1f} s"
    )
    print(f"an accepted variant: {total / accepted:.3f} s, {passes.equivalents / accepted:.0f} forward equivalents ({passes})")
    print(f"share of the wall time inside generator, features and judge: {clock.seconds / total:.0%}")


if __name__ == "__main__":
    main()
