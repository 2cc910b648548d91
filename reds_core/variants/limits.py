"""What a held attribute may lose: a level within a tolerance, or a decision above a probability, for all seeds of a shard.

    level      features f, (n, p); drift |f - f_seed| / spread; residual (f - f_seed) / (tolerance x spread)
    decision   the log-odds log p / (1 - p) of the seed's label, (n, 1), which are as steep where p itself is flat
               drift max(0, p_seed - p); residual 1 - (log-odds - those of the bound) / room: 1 at the bound, 0 well inside

The bound of a decision is the least probability of the spec, and the room what the seed has above it, within reason. A seed below
the bound may lose nothing. Its trajectories are led up to the bound, since variants of a doubtful image are doubtful.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from reds_core.jobs.job import Job
from reds_core.types import Features, Labels, Rows
from reds_core.variants.verdicts import distances

LEAST_ROOM, MOST_ROOM = 0.5, 1.0  # log-odds; what rounding an image to bytes costs must fit in a fifth of it
FROM_BELOW, BOUND_FROM_BELOW = 2.4, 0.7  # residuals within what a trajectory may stray to between waypoints, and at one
SUREST = 1e-6  # of a probability: beyond that, float32 log-odds are only rounding


@runtime_checkable
class Limit(Protocol):
    """What one held attribute may lose."""

    @property
    def tolerances(self) -> Sequence[float]:
        """The largest drift of every seed."""

    def measured(self, features: Features, i: Rows) -> Features:
        """Returns what is held of features that belong to the seeds `i`: all of them, or one number."""

    def residual(self, measured: Features, i: Rows) -> Features:
        """Returns what `measured` has lost, in tolerances."""

    def drifts(self, features: Features, s: int) -> list[float]:
        """Returns the drifts of features of one seed's variants."""

    def started(self, i: Rows, measured: Features) -> Limit:
        """Returns the limit for trajectories that start where this was measured at the seeds `i`, unlike the images as stored."""


@dataclass(frozen=True)
class Level:
    """Features that stay where the seed's are."""

    start: Features  # of the seeds
    spread: float
    tolerance: float

    @property
    def tolerances(self) -> Sequence[float]:
        return [float(self.tolerance)] * len(self.start)

    def measured(self, features: Features, i: Rows) -> Features:
        return features

    def residual(self, measured: Features, i: Rows) -> Features:
        return (measured - self.start[i]) / (self.tolerance * self.spread)

    def drifts(self, features: Features, s: int) -> list[float]:
        return distances(features, self.start[s], self.spread)

    def started(self, i: Rows, measured: Features) -> Level:
        return replace(self, start=self.start.index_copy(0, i, measured.to(self.start.dtype)))


@dataclass(frozen=True)
class Decided:
    """A label whose probability stays above a limit."""

    labels: Labels  # of the seeds
    start: Float[Tensor, " n"]  # its probability at the seeds
    bound: float  # the least probability of the spec

    @property
    def least(self) -> Float[Tensor, " n"]:
        """The limit of each seed."""
        return self.start.clamp_max(self.bound)

    @property
    def tolerances(self) -> Sequence[float]:
        return [float(v) for v in (self.start - self.least).tolist()]

    def measured(self, features: Features, i: Rows) -> Features:
        return log_odds(features, self.labels[i])[:, None]

    def residual(self, measured: Features, i: Rows) -> Features:
        start, bound = (_odds(p[i], measured) for p in (self.start, torch.full_like(self.start, self.bound)))
        room = (start - bound).clamp(LEAST_ROOM, MOST_ROOM)
        inside = 1 - (measured - bound) / room
        # From FROM_BELOW at such a seed down to BOUND_FROM_BELOW at the bound: a waypoint must have come up to it.
        climb = ((bound - start) / (FROM_BELOW - BOUND_FROM_BELOW)).clamp_min(LEAST_ROOM)
        return torch.where(start < bound, BOUND_FROM_BELOW - (measured - bound) / climb, inside)

    def drifts(self, features: Features, s: int) -> list[float]:
        p = probability(features, self.labels[s].expand(len(features)))
        return [float(v) for v in (self.start[s] - p).clamp_min(0).tolist()]

    def started(self, i: Rows, measured: Features) -> Decided:
        return self


def limits_of(job: Job, features: Mapping[str, Features], labels: Labels | None) -> dict[str, Limit]:
    """Returns the limits of seeds with these features, by held attribute.

    Args:
        job: the spec, and the spreads.
        features: of the seeds' own images, as stored.
        labels: the seeds' labels, None if there are none: a classifier that does not know them holds its own decision.
    """
    spec = job.spec
    found: dict[str, Limit] = {name: Level(features[name], job.spreads[name], tolerance) for name, tolerance in spec.levels.items()}
    for name, bound in spec.decisions.items():
        scores = features[name].double()
        held = labels if labels is not None and job.networks.knows_labels(name, scores.shape[1]) else scores.argmax(1)
        start = probability(scores, held)
        found[name] = Decided(held, start, bound)
    return {name: found[name] for name in spec.held}


def _odds(p: Float[Tensor, " n"], like: Features) -> Float[Tensor, "n 1"]:
    """Returns the log-odds of probabilities, in the precision of measured ones."""
    return torch.logit(p, SUREST).to(like.dtype)[:, None]


def log_odds(scores: Features, labels: Labels) -> Float[Tensor, " n"]:
    """Returns log p / (1 - p) of each image's label, from class scores."""
    own = scores.gather(1, labels[:, None])
    mine = torch.zeros_like(scores, dtype=torch.bool).scatter(1, labels[:, None], value=True)
    return own.squeeze(1) - scores.masked_fill(mine, -torch.inf).logsumexp(1)


def probability(scores: Features, labels: Labels) -> Float[Tensor, " n"]:
    """Returns the probability of each image's label, from class scores."""
    return scores.double().softmax(1).gather(1, labels[:, None]).squeeze(1)
