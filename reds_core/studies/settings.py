"""Other settings of a spec, tried on the same few seeds: which step, tolerances and number of waypoints reach what, at what cost.

A spec whose waypoints are reached is tried with longer steps, wider limits and more waypoints; one whose are not with shorter steps
and wider limits. What is held, what varies and the networks stay as they are, so that nothing is measured anew.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from reds_core.jobs.job import Job
from reds_core.spec.fields import Decision, Spec
from reds_core.types import Candidate, Passes, Tell, untold
from reds_core.variants.run_seeds import run_seeds

HARDLY_REACHED = 0.8  # of the waypoints: below it, shorter steps are tried instead of longer ones
LEAST_BOUND, MOST_WAYPOINTS, MOST_TOLERANCE = 0.5, 100, 1.0
GOOD_SHARE = 0.5  # of the candidates that a setting must accept to be recommended
GOOD_LABELS = 0.98  # of the measured candidates that must keep their label
GOOD_COST = 2.0  # times the lowest equivalents per accepted variant


@dataclass(frozen=True)
class Setting:
    """What came of a setting.

    `changes` are those of the spec, as "key.path=value", none for the spec as it is. Shares are of all candidates, effects the
    medians over accepted variants, in spreads; `agreed` is the share of measured candidates that keep their label as the judge
    sees it, NaN without one; `equivalents` are forward passes per accepted variant, infinite if there is none.
    """

    changes: tuple[str, ...]
    reached: float
    accepted: float
    effects: dict[str, float]
    agreed: float
    equivalents: float


def setting_of(job: Job, candidates: Sequence[Candidate], passes: Passes, changes: tuple[str, ...] = ()) -> Setting:
    """Returns what came of a job's candidates. A seed that the judge contradicts says nothing about what was reached."""
    variants = [c for c in candidates if c.role == job.spec.candidate_role]
    started = [c for c in variants if c.reason != "seed_label"]
    reached = [c for c in started if len(c.latent)]
    accepted = [c for c in variants if c.accepted]
    return Setting(
        changes=changes,
        reached=len(reached) / max(1, len(started)),
        accepted=len(accepted) / max(1, len(variants)),
        effects={n: float(np.median([c.effects[n] for c in accepted])) if accepted else math.nan for n in job.spec.varied},
        agreed=float(np.mean([c.judge_agrees for c in reached])) if reached and job.networks.judge else math.nan,
        equivalents=passes.equivalents / len(accepted) if accepted else math.inf,
    )


def other_settings(job: Job, seeds: Sequence[int], as_it_is: Setting, tell: Tell = untold) -> Iterator[Setting]:
    """Yields what other settings reach on a few seeds, by what the spec as it is reached on them. `tell` hears of each."""
    others = list(_others(job.spec, shorter=as_it_is.reached < HARDLY_REACHED))
    for done, (changes, spec) in enumerate(others):
        tell("other settings", done, len(others))
        other = job.with_spec(spec)
        yield setting_of(other, *run_seeds(other, seeds), changes)


def recommended(found: Sequence[Setting]) -> Setting | None:
    """Returns the setting of the largest effect among those that accept enough, keep labels and cost at most twice the least."""
    fine = [s for s in found if s.accepted >= GOOD_SHARE and not s.agreed < GOOD_LABELS]
    good = [s for s in fine if s.equivalents <= GOOD_COST * min(s.equivalents for s in fine)]
    return max(good, key=lambda s: sum(s.effects.values())) if good else None


def _others(spec: Spec, *, shorter: bool) -> Iterator[tuple[tuple[str, ...], Spec]]:
    """Yields other settings of a spec: their changes, and the spec with them."""
    walked = spec.trajectory
    step = _rounded(walked.step * (0.5 if shorter else 2))
    stepped = walked.model_copy(update={"step": step})
    limits = {name: _wider(limit) for name, limit in spec.held.items()}
    wider = tuple(_limit_change(name, limit) for name, limit in limits.items())
    yield (f"trajectory.step={step:g}",), spec.model_copy(update={"trajectory": stepped})
    if shorter:
        yield wider, spec.model_copy(update={"held": limits})
    yield (f"trajectory.step={step:g}", *wider), spec.model_copy(update={"trajectory": stepped, "held": limits})
    waypoints = min(MOST_WAYPOINTS, 2 * walked.waypoints)
    if not shorter and waypoints > walked.waypoints:
        longer = walked.model_copy(update={"waypoints": waypoints})
        yield (f"trajectory.waypoints={waypoints}",), spec.model_copy(update={"trajectory": longer})


def _wider(limit: float | Decision) -> float | Decision:
    """Returns a limit that allows about twice as much."""
    if isinstance(limit, Decision):
        return Decision(decision=_rounded(max(min(LEAST_BOUND, limit.decision), 1 - 2 * (1 - limit.decision))))
    return _rounded(max(limit, min(MOST_TOLERANCE, 2 * limit)))


def _limit_change(name: str, limit: float | Decision) -> str:
    return f"held.{name}.decision={limit.decision:g}" if isinstance(limit, Decision) else f"held.{name}={limit:g}"


def _rounded(value: float) -> float:
    """Returns a number with two digits, as a person would write it."""
    return float(f"{value:.2g}")
