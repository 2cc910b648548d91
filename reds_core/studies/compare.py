"""The methods side by side on the same seeds, at equal effect: what each one costs in drift, in flipped labels and in passes.

A method that hardly moves hardly drifts, so methods are compared where they have the same effect. A few pilot seeds choose each
method's step so that it gets as far as the first method; then the waypoints of all seeds, before any filter, are sorted into bins
of effect that all methods share.

Where a generator knows the true factors of its images (the rendered rooms), how far those moved is measured too: it is what a
person would call drift.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch

from reds_core.errors import UserError
from reds_core.jobs.job import Job
from reds_core.jobs.prepare import prepare
from reds_core.spec.fields import Spec
from reds_core.studies.estimates import Estimate, over_seeds
from reds_core.types import Candidate, Passes, Tell, untold
from reds_core.variants.run_seeds import run_seeds

# A method's name -> trajectory.method and trajectory.directions_by.
COMPARED = {
    "corrected": ("corrected", "reds"),
    "local": ("local", "reds"),
    "linear": ("linear", "reds"),
    "maxc": ("linear", "maxc"),
    "rand": ("linear", "rand"),
    "pca": ("linear", "pca"),
    "sefa": ("linear", "sefa"),
    "interfacegan": ("linear", "interfacegan"),
}
BINS = 5
LEAST = 10  # waypoints that a bin needs to be compared
PILOT_SEEDS = 4


@dataclass(frozen=True)
class Measured:
    """One method's waypoints, before any filter: every array is (n,), an entry for each waypoint reached."""

    name: str
    seed: np.ndarray
    waypoint: np.ndarray
    effect: np.ndarray  # in spreads, weighted over the varied attributes
    drift: dict[str, np.ndarray]  # in spreads, by held attribute
    flipped: np.ndarray  # 1 where the judge sees another label than the seed's, else 0; NaN without a judge
    implausible: np.ndarray  # 1 where the latent lies further out than sampled ones do, else 0
    possible: int  # the waypoints that there would be, had no trajectory ended early
    step: float  # in latent spreads
    passes: Passes
    seconds: float
    changed: dict[str, np.ndarray]  # by group of true factors, their RMS change in standard deviations; empty if unknown

    @property
    def passes_each(self) -> float:
        """The forward equivalents of a waypoint reached."""
        return self.passes.equivalents / max(1, len(self.seed))

    @property
    def seconds_each(self) -> float:
        """The time of a waypoint reached."""
        return self.seconds / max(1, len(self.seed))

    def growth(self, waypoints: int) -> list[float]:
        """Returns the median effect at each waypoint, NaN where none was reached: how effect grows with arc length."""
        medians = [self.effect[self.waypoint == w] for w in range(1, waypoints + 1)]
        return [float(np.median(values)) if len(values) else math.nan for values in medians]

    @property
    def reached(self) -> float:
        """The share of the possible waypoints that trajectories reached."""
        return len(self.seed) / self.possible


@dataclass(frozen=True)
class Comparison:
    """What `compare` found."""

    spec: Spec
    seeds: int
    edges: np.ndarray  # of the bins, in effect
    methods: list[Measured]  # the first is what the others are compared with

    def rows(self) -> pd.DataFrame:
        """Returns a row for every method, held attribute and bin with any waypoints in it."""
        rows = []
        for m in self.methods:
            for name in self.spec.held:
                for low, high, inside in self._filled(m):
                    drift, flips = (over_seeds(m.seed[inside], v[inside]) for v in (m.drift[name], m.flipped))
                    rows.append({
                        "method": m.name, "attribute": name, "effect_from": low, "effect_to": high, "n": int(inside.sum()),
                        "drift": drift.value, "drift_low": drift.low, "drift_high": drift.high,
                        "flips": flips.value, "flips_low": flips.low, "flips_high": flips.high,
                        "passes": m.passes_each, "seconds": m.seconds_each,
                        "implausible": float(m.implausible[inside].mean()), "step": m.step, "reached": m.reached,
                    })  # fmt: skip
        return pd.DataFrame(rows)

    def true_rows(self) -> pd.DataFrame:
        """Returns a row for every method, group of true factors and bin with any waypoints in it; none if they are unknown."""
        rows = []
        for m in self.methods:
            for group, changed in m.changed.items():
                for low, high, inside in self._filled(m):
                    change = over_seeds(m.seed[inside], changed[inside])
                    rows.append({
                        "method": m.name, "group": group, "effect_from": low, "effect_to": high, "n": int(inside.sum()),
                        "change": change.value, "low": change.low, "high": change.high,
                    })  # fmt: skip
        return pd.DataFrame(rows)

    def _filled(self, m: Measured) -> Iterator[tuple[float, float, np.ndarray]]:
        """Yields the bins with any of a method's waypoints in them: from, to, and a mask of those waypoints."""
        for low, high in zip(self.edges[:-1], self.edges[1:], strict=True):
            inside = (m.effect >= low) & (m.effect < high)
            if inside.any():
                yield low, high, inside

    def shared(self, other: Measured) -> list[int]:
        """Returns the bins in which the first method and another one can be compared."""
        counts = [np.histogram(m.effect, self.edges)[0] for m in (self.methods[0], other)]
        return [int(b) for b in np.nonzero((counts[0] >= LEAST) & (counts[1] >= LEAST))[0]]

    def at_equal_effect(self, m: Measured, values: np.ndarray, bins: Sequence[int]) -> Estimate:
        """Returns a method's mean over some bins, each weighted by the number of the first method's waypoints in it."""
        weights = np.histogram(self.methods[0].effect, self.edges)[0][list(bins)].astype(float)
        which = np.digitize(m.effect, self.edges) - 1
        return over_seeds(m.seed, values, which, list(bins), weights)


def compare(
    spec: Spec,
    methods: Sequence[str],
    device: str = "auto",
    batch: int | None = None,
    allow_code: bool = False,
    say: Callable[[str], None] = lambda text: None,
    tell: Tell = untold,
) -> Comparison:
    """Runs every method on the spec's seeds, and measures all of their waypoints.

    `say` hears what came of each method, `tell` how far it is.

    Raises:
        UserError: a method is unknown, the spec has too few seeds, or the first method reached too few waypoints.
    """
    _check(spec, methods)
    seeds = range(spec.seeds.first, spec.seeds.first + spec.seeds.number)
    measured: list[Measured] = []
    aim = math.nan
    for name in dict.fromkeys(methods):
        tell(name, 0, len(seeds))
        job = prepare(_with_method(spec, name), device, batch, allow_code)
        if measured and math.isfinite(aim):
            pilot = last_effect(measure(name, job, seeds[:PILOT_SEEDS]))
            share = float(np.clip(aim / pilot, 0.1, 10.0)) if pilot > 0 else 1.0
            job = _with_step(job, share * spec.trajectory.step)
        found = measure(name, job, seeds, tell)
        say(f"{name}: {len(found.seed)} of {found.possible} waypoints, step {found.step:.3g}, {found.seconds:.0f} s")
        if not measured:
            if len(found.seed) < LEAST:
                raise UserError(
                    f"{name} reached {len(found.seed)} of {found.possible} waypoints, too few to compare with; "
                    "`reds check` says why"
                )
            aim = last_effect(measure(name, job, seeds[:PILOT_SEEDS]))
        measured.append(found)
    low, high = np.quantile(measured[0].effect, [0.02, 0.98])
    return Comparison(spec, len(seeds), np.linspace(low, high, BINS + 1), measured)


def _check(spec: Spec, methods: Sequence[str]) -> None:
    unknown = [m for m in methods if m not in COMPARED]
    if unknown or not methods:
        what = f"unknown method {', '.join(unknown)}" if unknown else "no method to compare"
        raise UserError(f"{what}; there are: {', '.join(COMPARED)}", parameter="methods")
    if not spec.walks:
        raise UserError(
            "trajectory.directions: 0 makes seeds alone, and methods differ in where they lead from a seed; compare them with at "
            "least 1 direction, and with what is held and varied"
        )
    if spec.seeds.number < 2:
        raise UserError(
            f"seeds.count: a comparison needs at least 2 seeds for its intervals, got {spec.seeds.number}; 20 or more are better"
        )


def measure(name: str, job: Job, seeds: Sequence[int], tell: Tell = untold) -> Measured:
    """Runs a job on seeds, a shard's worth at a time, and returns the figures of every waypoint that it reached."""
    spec, passes = job.spec, Passes()
    kept: list[Candidate] = []
    starts: dict[int, np.ndarray] = {}
    possible = 0
    began = time.monotonic()
    for at in range(0, len(seeds), spec.shards.seeds):
        candidates, cost = run_seeds(job, seeds[at : at + spec.shards.seeds])
        passes += cost
        tell(name, min(at + spec.shards.seeds, len(seeds)), len(seeds))
        variants = [c for c in candidates if c.role == "variant" and c.reason != "seed_label"]
        possible += len(variants)
        starts |= {c.seed: c.latent for c in candidates if c.role == "seed"}
        kept += [c for c in variants if all(math.isfinite(v) for v in (*c.drifts.values(), *c.effects.values()))]
    seconds = time.monotonic() - began
    weights = np.array([goal.weight for goal in spec.varied.values()])
    effects = np.array([list(c.effects.values()) for c in kept]).reshape(len(kept), len(weights))
    flipped = np.array([not c.judge_agrees if job.networks.judge else math.nan for c in kept], dtype=float)
    return Measured(
        name, np.array([c.seed for c in kept], dtype=np.int64), np.array([c.waypoint for c in kept], dtype=np.int64),
        effects @ weights / weights.sum(),
        {n: np.array([c.drifts[n] for c in kept]) for n in spec.held}, flipped, _implausible(job, kept), max(1, possible),
        spec.trajectory.step, passes, seconds, _changed(job, kept, starts),
    )  # fmt: skip


def last_effect(m: Measured) -> float:
    """Returns how far a method gets: the upper quartile of its effects, NaN if it reached no waypoint."""
    return float(np.quantile(m.effect, 0.75)) if len(m.effect) else math.nan


def _implausible(job: Job, kept: Sequence[Candidate]) -> np.ndarray:
    """Returns 1.0 where a latent lies further out, in the components that sampled latents have, than 99.9 % of those; else 0.0."""
    if not kept:
        return np.zeros(0)
    latents = torch.from_numpy(np.stack([c.latent for c in kept])).to(job.device)
    conditions = torch.tensor([c.condition for c in kept], device=job.device)
    return (~job.networks.cloud.plausible(latents, conditions, job.tangent)).double().cpu().numpy()


def _changed(job: Job, kept: Sequence[Candidate], starts: Mapping[int, np.ndarray]) -> dict[str, np.ndarray]:
    """Returns how far the true factors moved from the seed's, (n,) by group: the RMS change, in their own standard deviations."""
    if job.networks.generator.truth is None or not kept:
        return {}
    here, start = (torch.from_numpy(np.stack(x)).to(job.device) for x in ([c.latent for c in kept], [starts[c.seed] for c in kept]))
    conditions = torch.tensor([c.condition for c in kept], device=job.device)
    with torch.no_grad():
        now, before = job.networks.generator.truth(here, conditions), job.networks.generator.truth(start, conditions)
    return {group: (now[group] - before[group]).square().mean(1).sqrt().double().cpu().numpy() for group in now}


def _with_method(spec: Spec, name: str) -> Spec:
    method, by = COMPARED[name]
    changed = spec.trajectory.model_copy(update={"method": method, "directions_by": by})
    return spec.model_copy(update={"trajectory": changed})


def _with_step(job: Job, step: float) -> Job:
    changed = job.spec.trajectory.model_copy(update={"step": step})
    return job.with_spec(job.spec.model_copy(update={"trajectory": changed}))
