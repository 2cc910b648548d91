"""The methods side by side on the same seeds, at equal effect: what each one costs in drift, in flipped labels and in passes.

A method that hardly moves hardly drifts, so methods are compared where they have the same effect. Each one's step is first chosen by
a few pilot seeds so that its last waypoint has the effect of the first method's; then all waypoints, before any filter, are sorted into
bins of effect that all methods share. Intervals are 95 % bootstrap intervals over seeds: variants of one seed are no independent
samples.

Where a generator knows the true factors of its images (the rendered rooms), their change is measured beside the drift of features: it
is what a person would call drift.
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
from reds_core.spec.fields import Spec
from reds_core.types import Candidate, Passes
from reds_core.variants.job import Job
from reds_core.variants.prepare import prepare
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
LEAST = 10  # variants that a bin needs to be compared
RESAMPLES = 1000
PILOT_SEEDS = 4

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Measured:
    """One method's waypoints, before any filter: arrays with an entry for each."""

    name: str
    seed: np.ndarray
    effect: np.ndarray
    drift: dict[str, np.ndarray]
    flipped: np.ndarray  # NaN without a judge
    implausible: np.ndarray
    asked: int  # waypoints that there would have been, had none ended early
    step: float
    passes: Passes
    seconds: float
    changed: dict[
        str, np.ndarray
    ]  # the RMS change of each group of true factors, in their deviations; empty where they are not known

    @property
    def each(self) -> int:
        return max(1, len(self.seed))


@dataclass(frozen=True)
class Estimate:
    """A mean with its 95 % interval; NaN where nothing was measured."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return "-" if math.isnan(self.value) else f"{self.value:.3f} ({self.low:.3f} to {self.high:.3f})"


@dataclass(frozen=True)
class Comparison:
    """What `compare` found. `edges` are the bins' limits in effect; the first method is what the others are compared with."""

    spec: Spec
    seeds: int
    edges: np.ndarray
    methods: list[Measured]

    def rows(self) -> pd.DataFrame:
        """A row for every method, held attribute and bin that holds anything."""
        rows = []
        for m in self.methods:
            for name in self.spec.held:
                for low, high, inside in self._filled(m):
                    drift, flips = (over_seeds(m.seed[inside], v[inside]) for v in (m.drift[name], m.flipped))
                    rows.append({
                        "method": m.name, "attribute": name, "effect_from": low, "effect_to": high, "n": int(inside.sum()),
                        "drift": drift.value, "drift_low": drift.low, "drift_high": drift.high,
                        "flips": flips.value, "flips_low": flips.low, "flips_high": flips.high,
                        "passes": m.passes.equivalents / m.each, "seconds": m.seconds / m.each,
                        "implausible": float(m.implausible[inside].mean()), "step": m.step, "reached": len(m.seed) / m.asked,
                    })  # fmt: skip
        return pd.DataFrame(rows)

    def true_rows(self) -> pd.DataFrame:
        """A row for every method, group of true factors and bin that holds anything; none where no true factors are known."""
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
        """The bins that hold any of a method's waypoints: from, to, and which."""
        for low, high in zip(self.edges[:-1], self.edges[1:], strict=True):
            inside = (m.effect >= low) & (m.effect < high)
            if inside.any():
                yield low, high, inside

    def shared(self, other: Measured) -> list[int]:
        """The bins in which the first method and another can be compared."""
        counts = [np.histogram(m.effect, self.edges)[0] for m in (self.methods[0], other)]
        return [int(b) for b in np.nonzero((counts[0] >= LEAST) & (counts[1] >= LEAST))[0]]

    def at_equal_effect(self, m: Measured, values: np.ndarray, bins: Sequence[int]) -> Estimate:
        """A method's mean over some bins, each of which counts as much as the first method has variants in it."""
        weights = np.histogram(self.methods[0].effect, self.edges)[0][list(bins)].astype(float)
        which = np.digitize(m.effect, self.edges) - 1
        return over_seeds(m.seed, values, which, list(bins), weights)


def compare(
    spec: Spec,
    methods: Sequence[str],
    device: str = "auto",
    batch: int | None = None,
    allow_code: bool = False,
    tell: Tell = lambda text: None,
) -> Comparison:
    """Runs every method on the spec's seeds and measures all of their waypoints.

    Raises:
        UserError: a method is not known, the spec has too few seeds, or the first method reached no waypoint at all.
    """
    unknown = [m for m in methods if m not in COMPARED]
    if unknown or not methods:
        raise UserError(f"there is no method {', '.join(unknown) or 'method given'}; there are: {', '.join(COMPARED)}")
    if spec.seeds.count < 2:
        raise UserError("seeds.count: a comparison needs at least 2 seeds, for its intervals; 20 or more are better")
    seeds = range(spec.seeds.first, spec.seeds.first + spec.seeds.count)
    measured: list[Measured] = []
    aim = math.nan
    for name in dict.fromkeys(methods):
        job = prepare(_with_method(spec, name, spec.trajectory.step), device, batch, allow_code)
        if measured and math.isfinite(aim):
            pilot = last_effect(measure(name, job, seeds[:PILOT_SEEDS]))
            share = float(np.clip(aim / pilot, 0.1, 10.0)) if pilot > 0 else 1.0
            job = _with_step(job, share * spec.trajectory.step)
        found = measure(name, job, seeds)
        tell(f"{name}: {len(found.seed)} of {found.asked} waypoints, step {found.step:.3g}, {found.seconds:.0f} s")
        if not measured:
            if len(found.seed) < LEAST:
                raise UserError(
                    f"{name} reached {len(found.seed)} of {found.asked} waypoints, too few to compare with; `reds check` says why"
                )
            aim = last_effect(measure(name, job, seeds[:PILOT_SEEDS]))
        measured.append(found)
    low, high = np.quantile(measured[0].effect, [0.02, 0.98])
    return Comparison(spec, len(seeds), np.linspace(low, high, BINS + 1), measured)


def measure(name: str, job: Job, seeds: Sequence[int]) -> Measured:
    """Runs a job on seeds, a shard's worth at a time, and keeps the figures of every waypoint that it reached."""
    spec, passes = job.spec, Passes()
    kept: list[Candidate] = []
    starts: dict[int, np.ndarray] = {}
    asked = 0
    began = time.monotonic()
    for at in range(0, len(seeds), spec.shards.seeds):
        candidates, cost = run_seeds(job, seeds[at : at + spec.shards.seeds])
        passes = Passes(*(a + b for a, b in zip(passes.as_dict().values(), cost.as_dict().values(), strict=True)))
        variants = [c for c in candidates if c.role == "variant" and c.reason != "seed_label"]
        asked += len(variants)
        starts |= {c.seed: c.latent for c in candidates if c.role == "seed"}
        kept += [c for c in variants if all(math.isfinite(v) for v in (*c.drifts.values(), *c.effects.values()))]
    seconds = time.monotonic() - began
    weights = np.array([goal.weight for goal in spec.varied.values()])
    effects = np.array([list(c.effects.values()) for c in kept]).reshape(len(kept), len(weights))
    flipped = np.array([not c.judge_agrees if job.judge else math.nan for c in kept], dtype=float)
    return Measured(
        name, np.array([c.seed for c in kept], dtype=np.int64), effects @ weights / weights.sum(),
        {n: np.array([c.drifts[n] for c in kept]) for n in spec.held}, flipped, _implausible(job, kept), max(1, asked),
        spec.trajectory.step, passes, seconds, _changed(job, kept, starts),
    )  # fmt: skip


def over_seeds(
    seed: np.ndarray,
    values: np.ndarray,
    which: np.ndarray | None = None,
    bins: Sequence[int] = (0,),
    weights: Sequence[float] | np.ndarray = (1.0,),
) -> Estimate:
    """The weighted mean over bins of values, with a bootstrap interval over seeds.

    Args:
        seed, values: (n,), the seed that each value belongs to.
        which: (n,), the bin of each; all in bin 0 if None.
        bins, weights: the bins that count, and for how much. A resample that leaves a bin empty goes without it.
    """
    which = np.zeros(len(seed), dtype=np.int64) if which is None else which
    known = np.isfinite(values) & np.isin(which, bins)
    if not known.any():
        return Estimate(math.nan, math.nan, math.nan)
    names, rows = np.unique(seed[known], return_inverse=True)
    sums, counts = (np.zeros((len(names), len(bins))) for _ in range(2))
    columns = np.searchsorted(bins, which[known])
    np.add.at(sums, (rows, columns), values[known])
    np.add.at(counts, (rows, columns), 1)

    def mean(times: np.ndarray) -> np.ndarray:  # (r, seeds): how often each seed is drawn
        total, n = times @ sums, times @ counts
        share = np.where(n > 0, np.asarray(weights, dtype=float), 0.0)
        found: np.ndarray = (share * total / np.maximum(n, 1)).sum(1) / np.maximum(share.sum(1), 1e-300)
        return found

    drawn = np.random.default_rng(0).multinomial(len(names), np.full(len(names), 1 / len(names)), RESAMPLES)
    low, high = np.quantile(mean(drawn), [0.025, 0.975])
    return Estimate(float(mean(np.ones((1, len(names))))[0]), float(low), float(high))


def last_effect(m: Measured) -> float:
    """How far a method gets: the upper quartile of its effects. NaN if it reached nothing."""
    return float(np.quantile(m.effect, 0.75)) if len(m.effect) else math.nan


def _implausible(job: Job, kept: Sequence[Candidate]) -> np.ndarray:
    """Which latents lie further out, in the components that sampled latents have, than 99.9 % of those."""
    if not kept:
        return np.zeros(0)
    latents = torch.from_numpy(np.stack([c.latent for c in kept])).to(job.device)
    conditions = torch.tensor([c.condition for c in kept], device=job.device)
    return (~job.cloud.plausible(latents, conditions, job.tangent)).double().cpu().numpy()


def _changed(job: Job, kept: Sequence[Candidate], starts: Mapping[int, np.ndarray]) -> dict[str, np.ndarray]:
    """How far the true factors have moved from the seed's, (n,) by group: the root of the mean square, in their own deviations."""
    if job.generator.truth is None or not kept:
        return {}
    here, start = (torch.from_numpy(np.stack(x)).to(job.device) for x in ([c.latent for c in kept], [starts[c.seed] for c in kept]))
    conditions = torch.tensor([c.condition for c in kept], device=job.device)
    with torch.no_grad():
        now, before = job.generator.truth(here, conditions), job.generator.truth(start, conditions)
    return {group: (now[group] - before[group]).square().mean(1).sqrt().double().cpu().numpy() for group in now}


def _with_method(spec: Spec, name: str, step: float) -> Spec:
    method, by = COMPARED[name]
    changed = spec.trajectory.model_copy(update={"method": method, "directions_by": by, "step": step})
    return spec.model_copy(update={"trajectory": changed})


def _with_step(job: Job, step: float) -> Job:
    changed = job.spec.trajectory.model_copy(update={"step": step})
    return Job(**{**vars(job), "spec": job.spec.model_copy(update={"trajectory": changed})})
