"""What a spec would do, from a few of its seeds and without writing anything: spreads, drifts, acceptance, cost.

Seeds are alike in what they cost and yield, so what n of them took is scaled by `seeds.count` / n.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from reds_core.jobs.images import file_of
from reds_core.jobs.job import Job
from reds_core.studies.settings import Setting, setting_of
from reds_core.types import Candidate
from reds_core.variants.run_seeds import run_seeds

QUANTILES = (0.25, 0.5, 0.75, 0.9)
RECORD = 1100  # bytes of a sample's .json and .cls, about


@dataclass(frozen=True)
class AttributeCheck:
    """An attribute's spread in its own units, and what the variants that were tried did to it, in spreads.

    `quantiles` are those at QUANTILES. A share q of the candidates would meet a tolerance that is the q-quantile of their drifts;
    1 - q would meet a minimum that is the q-quantile of their effects.
    """

    name: str
    role: str  # "held" or "varied"
    limit: str  # the tolerance or the minimum, in words
    spread: float
    unit: str
    quantiles: tuple[float, ...]
    passed: float  # the share of measured candidates within the limit


@dataclass(frozen=True)
class Forecast:
    """What a few seeds gave, and what the whole run would cost and give by them."""

    attributes: list[AttributeCheck]
    tried: int  # candidates; of a run of seeds alone, seeds
    tried_seeds: int
    short_seeds: int  # those with fewer directions than the spec asks for
    accepted: int
    rejected: Counter[str]
    by_waypoint: list[tuple[int, float]]  # waypoint, accepted share
    as_it_is: Setting
    # From here on, the whole run.
    seeds: int
    samples: int
    equivalents: int
    seconds: float
    bytes: int


def forecast(job: Job, seeds: Sequence[int], usable: float | None = None) -> Forecast:
    """Runs `seeds` end to end, in memory, and returns what the whole spec would cost and give.

    `usable` is the share of own images that can be used, where more of them were reconstructed than those few.
    """
    began = time.monotonic()
    candidates, passes = run_seeds(job, seeds)
    seconds = time.monotonic() - began
    spec = job.spec
    variants = [c for c in candidates if c.role == spec.candidate_role]
    accepted = [c for c in candidates if c.accepted]
    scale = spec.seeds.number / len(seeds)
    used = sum(c.role == "seed" for c in accepted)
    yielding = scale if usable is None or not used else usable * spec.seeds.number / used
    possible = spec.most_variants
    waypoints = range(1, spec.trajectory.waypoints + 1) if spec.walks else range(0)
    # A sample has four members; a tar gives each a header of 512 bytes and pads it to a multiple of as many, by 256 on average.
    shards = spec.shards
    files = [file_of(c, shards.image, shards.quality) for c in accepted]
    size = sum(len(f) + c.latent.nbytes + 4 * (512 + 256) + RECORD for c, f in zip(accepted, files, strict=True))
    return Forecast(
        attributes=_attributes(job, variants),
        tried=len(variants),
        tried_seeds=len(seeds),
        short_seeds=sum(_is_short([c for c in variants if c.seed == s], possible) for s in seeds) if spec.walks else 0,
        accepted=sum(c.accepted for c in variants),
        rejected=Counter(c.reason for c in variants if c.reason),
        as_it_is=setting_of(job, candidates, passes),
        by_waypoint=[(w, _share([c for c in variants if c.waypoint == w])) for w in waypoints],
        seeds=spec.seeds.number,
        samples=round(len(accepted) * yielding),
        equivalents=round(passes.equivalents * scale),
        seconds=seconds * scale,
        bytes=round(size * yielding),
    )


def _is_short(variants: list[Candidate], possible: int) -> bool:
    """Returns whether a seed had fewer directions than the spec asks for; if it had none, all of its candidates are `turned`."""
    return len(variants) < possible or all(c.reason == "turned" and not len(c.latent) for c in variants)


def _share(candidates: list[Candidate]) -> float:
    return sum(c.accepted for c in candidates) / len(candidates) if candidates else 0.0


def _attributes(job: Job, variants: list[Candidate]) -> list[AttributeCheck]:
    rows = [("held", n, [(c.drifts[n], c.drifts[n] <= c.tolerances[n]) for c in variants]) for n in job.spec.held]
    rows += [("varied", n, [(c.effects[n], c.effects[n] >= g.minimum) for c in variants]) for n, g in job.spec.varied.items()]
    checks = []
    for role, name, values in rows:
        known = np.array([v for v, _ in values if math.isfinite(v)])
        quantiles = tuple(float(q) for q in np.quantile(known, QUANTILES)) if len(known) else (math.nan,) * len(QUANTILES)
        passed = float(np.mean([within for v, within in values if math.isfinite(v)])) if len(known) else 0.0
        limit = job.spec.limit_of(name)
        checks.append(AttributeCheck(name, role, limit, job.spreads[name], job.units[name], quantiles, passed))
    return checks
