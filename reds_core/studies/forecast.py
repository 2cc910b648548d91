"""What a spec would do, found out on a few of its seeds without writing anything: spreads, drifts, acceptance, cost."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from reds_core.runs.plan import plan
from reds_core.types import Candidate
from reds_core.variants.images import file_of
from reds_core.variants.job import Job
from reds_core.variants.run_seeds import run_seeds

QUANTILES = (0.25, 0.5, 0.75, 0.9)


@dataclass(frozen=True)
class AttributeCheck:
    """An attribute's spread in its own units, and what the tried variants did to it, in spreads.

    `quantiles` belong to QUANTILES: of drifts, tolerances that this share of candidates would meet; of effects, minima that the
    others would.
    """

    name: str
    role: str
    limit: float
    spread: float
    unit: str
    quantiles: tuple[float, ...]
    passed: float


@dataclass(frozen=True)
class Forecast:
    """What a whole run would cost and give, by the seeds that were tried."""

    attributes: list[AttributeCheck]
    tried: int
    tried_seeds: int
    short_seeds: int  # that had fewer directions than the spec asks for
    accepted: int
    rejected: Counter[str]
    by_waypoint: list[tuple[int, float]]  # waypoint, accepted share
    shards: int
    seeds: int
    samples: int
    equivalents: int
    seconds: float
    bytes: int

    @property
    def share(self) -> float:
        return self.accepted / self.tried if self.tried else 0.0


def forecast(job: Job, seeds: Sequence[int]) -> Forecast:
    """Runs `seeds` end to end, in memory, and scales what they cost to the whole spec."""
    began = time.monotonic()
    candidates, passes = run_seeds(job, seeds)
    seconds = time.monotonic() - began
    variants = [c for c in candidates if c.role == "variant"]
    accepted = [c for c in candidates if c.accepted]
    scale = job.spec.seeds.count / len(seeds)
    asked = 2 * job.spec.trajectory.directions * job.spec.trajectory.waypoints
    waypoints = range(1, job.spec.trajectory.waypoints + 1)
    # A tar rounds every member up to 512 bytes and gives it a header of as much: four members a sample.
    shards = job.spec.shards
    files = [file_of(c, shards.image, shards.quality) for c in accepted]
    size = sum(len(f) + c.latent.nbytes + 4 * 512 + 4 * 256 + 1100 for c, f in zip(accepted, files, strict=True))
    return Forecast(
        attributes=_attributes(job, variants),
        tried=len(variants),
        tried_seeds=len(seeds),
        short_seeds=sum(_is_short([c for c in variants if c.seed == s], asked) for s in seeds),
        accepted=sum(c.accepted for c in variants),
        rejected=Counter(c.reason for c in variants if c.reason),
        by_waypoint=[(w, _share([c for c in variants if c.waypoint == w])) for w in waypoints],
        shards=len(plan(job.spec)),
        seeds=job.spec.seeds.count,
        samples=round(len(accepted) * scale),
        equivalents=round(passes.equivalents * scale),
        seconds=seconds * scale,
        bytes=round(size * scale),
    )


def _is_short(variants: list[Candidate], asked: int) -> bool:
    """Whether what is held left a seed fewer directions than were asked for, or none: then all of its candidates say so."""
    return len(variants) < asked or all(c.reason == "turned" and not len(c.latent) for c in variants)


def _share(candidates: list[Candidate]) -> float:
    return sum(c.accepted for c in candidates) / len(candidates) if candidates else 0.0


def _attributes(job: Job, variants: list[Candidate]) -> list[AttributeCheck]:
    rows = [("held", n, t, [c.drifts[n] for c in variants]) for n, t in job.spec.held.items()]
    rows += [("varied", n, g.minimum, [c.effects[n] for c in variants]) for n, g in job.spec.varied.items()]
    checks = []
    for role, name, limit, values in rows:
        known = np.array([v for v in values if math.isfinite(v)])
        quantiles = tuple(float(q) for q in np.quantile(known, QUANTILES)) if len(known) else (math.nan,) * len(QUANTILES)
        within = known <= limit if role == "held" else known >= limit
        passed = float(within.mean()) if len(known) else 0.0
        checks.append(AttributeCheck(name, role, limit, job.spreads[name], job.units[name], quantiles, passed))
    return checks
