"""What a shard's seeds are held by: a residual in tangent coordinates and in units of the limits, and its Jacobian at the seeds.

A residual of length 1 is a drift at its limit. The features of a wide attribute, such as the pixels of a region, are compressed to
the k numbers that a move in the basis can change to first order; whether they are within their tolerance is measured on all of
them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from reds_core.directions.batched import gram
from reds_core.directions.choices import looked_at, unusable
from reds_core.directions.jacobian import derive_by, features_jacobians_and_grams, one_sided
from reds_core.jobs.job import Work
from reds_core.trajectories.tangent import Tangent
from reds_core.types import Features, Grams, Jacobians, Reason, Rows
from reds_core.variants.limits import Decided, Limit
from reds_core.variants.origins import Origins, held_measure

# Differences are taken over this share of a step: far above rounding and well within curvature; further where features round.
DIFFERENCE, ROUGH_DIFFERENCE = 0.02, 0.25

# Tangent coordinates, and for each point the seed that it belongs to, as a row of `Starts.rows` -> features.
MeasureAlong = Callable[[Float[Tensor, "n k"], Rows], list[Features]]


@dataclass(frozen=True)
class Starts:
    """The seeds of a shard that trajectories start from, and the coordinates in which they do."""

    work: Work
    origins: Origins
    rows: Rows  # of `origins`
    tangent: Tangent  # at each of them

    @property
    def difference(self) -> float:
        """The share of a step over which differences are taken."""
        return DIFFERENCE if self.work.job.derivatives.smooth else ROUGH_DIFFERENCE

    def along(self, held: Sequence[str], varied: Sequence[str]) -> MeasureAlong:
        """Returns what measures the named features in tangent coordinates, the held ones as their limits see them."""
        measure = held_measure(self.work, self.origins, held, varied)
        return lambda y, i: measure(self.tangent.latents(y, i), self.rows[i])


@dataclass(frozen=True)
class Restraints:
    """What n seeds are held by. Lists have an entry for each held attribute, levels first; `i` are rows of the seeds."""

    names: list[str]
    limits: list[Limit]
    sizes: list[int]  # rows of the residual
    levels: int  # rows that are of levels
    compress: list[Float[Tensor, "n _p _k"] | None]  # orthonormal columns
    start: Float64[Tensor, "n m"]  # the residual at the seeds
    jacobian: Float64[Tensor, "n m k"]  # of the residual, all attributes' rows one after another
    varied: list[Grams]  # of the varied attributes that `directions_by` looks at
    reasons: list[Reason]  # why a seed has no directions, or ""

    def residuals(self, measured: Sequence[Features], rows: Rows) -> list[Features]:
        """Returns the residual of each attribute at points that belong to these rows of the origins."""
        return [limit.residual(m, rows) for m, limit in zip(measured, self.limits, strict=True)]

    def compressed(self, residuals: Sequence[Features], i: Rows) -> list[Features]:
        """Returns what a move in the basis can change of each attribute."""
        return [r if basis is None else _compressed(r, basis, i) for r, basis in zip(residuals, self.compress, strict=True)]

    def worst(self, residuals: Sequence[Features]) -> Float[Tensor, " n"]:
        """Returns the largest drift of any attribute, in tolerances."""
        pairs = zip(self.limits, residuals, strict=True)
        return torch.stack([
            r[:, 0].clamp_min(0) if isinstance(limit, Decided) else torch.linalg.vector_norm(r, dim=1) for limit, r in pairs
        ]).amax(0)  # fmt: skip


def restraints_at(starts: Starts, varied: Sequence[str] | None = None) -> Restraints:
    """Measures what is held at the seeds, and how it and what varies react there; `varied` as `directions_by` asks if None."""
    job, tangent, rows = starts.work.job, starts.tangent, starts.rows
    held = [*job.spec.levels, *job.spec.decisions]
    varied = looked_at(job.spec)[1] if varied is None else varied
    k = tangent.basis.shape[2]
    measured, jacobians, grams = _derived(starts, held, varied)
    reasons = unusable([*(gram(j) for j in jacobians), *grams], held, varied)
    bad = torch.tensor([bool(r) for r in reasons], device=job.device)[:, None, None]
    limits = [starts.origins.limits[name] for name in held]
    # Unrounded, unlike the image as stored that a verdict compares with: trajectories start where r is 0. What belongs to the
    # user's own images stays as it is there.
    if starts.origins.photos is None:
        limits = [limit.started(rows, m) for m, limit in zip(measured, limits, strict=True)]
    compress: list[Jacobians | None] = []
    parts, start = [], []
    for m, jacobian, limit in zip(measured, jacobians, limits, strict=True):
        # A residual is its measurement times a number and plus another: the number is the difference of two residuals.
        slope = (limit.residual(torch.ones_like(m), rows) - limit.residual(torch.zeros_like(m), rows))[:, :1, None]
        j = torch.where(bad, 0.0, jacobian.double() * slope.double())
        r = torch.where(bad[:, :, 0], 0.0, limit.residual(m, rows).double())
        basis = None
        if j.shape[1] > k:
            q, j = torch.linalg.qr(j)
            basis = q.to(tangent.origin.dtype)
            r = (q.mT @ r[:, :, None]).squeeze(2)
        compress.append(basis)
        parts.append(j)
        start.append(r)
    eye = torch.eye(k, dtype=torch.float64, device=job.device)
    sizes = [j.shape[1] for j in parts]
    return Restraints(
        held, limits, sizes, sum(sizes[: len(job.spec.levels)]), compress, torch.cat(start, 1), torch.cat(parts, 1),
        [torch.where(bad, eye, a) for a in grams], reasons,
    )  # fmt: skip


def _derived(starts: Starts, held: Sequence[str], varied: Sequence[str]) -> tuple[list[Features], list[Jacobians], list[Grams]]:
    """Returns at the seeds what is measured of the held attributes, their Jacobians, and the Grams of the varied ones."""
    job, tangent = starts.work.job, starts.tangent
    n, _, k = tangent.basis.shape
    h = starts.difference * job.step / float(tangent.scale.square().mean().sqrt())
    measured: dict[str, Features] = {}
    jacobians: dict[str, Jacobians] = {}
    grams: dict[str, Grams] = {}
    for mode in dict.fromkeys(job.derivatives.modes.get(name, "differences") for name in (*held, *varied)):
        first, second = ([n for n in names if job.derivatives.modes.get(n, "differences") == mode] for names in (held, varied))
        evaluator = starts.work.evaluator(starts.along(first, second))
        points, rows = tangent.origin.new_zeros(n, k), torch.arange(n, device=job.device)
        found = features_jacobians_and_grams(evaluator, points, rows, derive_by(mode, one_sided(h)), kept=len(first))
        measured |= zip(first, found[0], strict=True)
        jacobians |= zip(first, found[1], strict=True)
        grams |= zip(second, found[2], strict=True)
    return [measured[name] for name in held], [jacobians[name] for name in held], [grams[name] for name in varied]


def _compressed(change: Float[Tensor, "n p"], basis: Float[Tensor, "s p k"], i: Rows) -> Float[Tensor, "n k"]:
    """Returns changes in the columns of their seeds' bases."""
    # Seed by seed: a product for each point would read the bases, which are large, once for each point.
    order = i.argsort(stable=True)
    counts = i.bincount(minlength=len(basis)).tolist()
    products = torch.cat([c @ of_seed for c, of_seed in zip(change[order].split(counts), basis, strict=True)])
    return products[order.argsort()]
