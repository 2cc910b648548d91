"""The ways to choose directions (`directions_by`) from the Grams of attributes at many points.

    reds, rayleigh   look at the Grams of what is held and of what varies
    maxc             at those of what varies
    minf             at those of what is held

The other ways look at none: `rand` draws directions for every seed, and those in `fitted` are the same for all.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch

from reds_core.directions import batched
from reds_core.spec.fields import Spec
from reds_core.types import Columns, Counts, Grams, Reason


class Choice(NamedTuple):
    """A way to choose directions: whose Grams it looks at, and what it makes of the held Grams, the varied ones and the betas."""

    held: bool
    varied: bool
    columns: Callable[[Spec, Sequence[Grams], Sequence[Grams], Sequence[float]], tuple[Columns, Counts]]


FROM_GRAMS = {
    "reds": Choice(True, True, lambda spec, held, varied, betas: batched.reds_batched(
        held, varied_gram(spec, varied), betas, spec.trajectory.beta_varied)),
    "rayleigh": Choice(True, True, lambda spec, held, varied, betas: batched.rayleigh_batched(
        held, varied_gram(spec, varied), spec.trajectory.tau)),
    "maxc": Choice(False, True, lambda spec, held, varied, betas: batched.maxc_batched(
        varied_gram(spec, varied), spec.trajectory.beta_varied)),
    "minf": Choice(True, False, lambda spec, held, varied, betas: batched.minf_batched(held, betas)),
}  # fmt: skip


def looked_at(spec: Spec) -> tuple[list[str], list[str]]:
    """Returns the held and the varied attributes whose Grams `directions_by` looks at."""
    choice = FROM_GRAMS.get(spec.trajectory.directions_by)
    return list(spec.held) if choice and choice.held else [], list(spec.varied) if choice and choice.varied else []


def columns_by(spec: Spec, held: Sequence[Grams], varied: Sequence[Grams], betas: Sequence[float]) -> tuple[Columns, Counts]:
    """Returns columns and how many of them are directions, by a `directions_by` in `FROM_GRAMS`, from the Grams it looks at."""
    return FROM_GRAMS[spec.trajectory.directions_by].columns(spec, held, varied, betas)


def varied_gram(spec: Spec, varied: Sequence[Grams]) -> Grams:
    """Returns the weighted sum of the varied attributes' normalised Grams."""
    weights = [goal.weight for goal in spec.varied.values()]
    return torch.stack([w * batched.normalised(a) for w, a in zip(weights, varied, strict=True)]).sum(0)


def unusable(found: Sequence[Grams], held: Sequence[str], varied: Sequence[str]) -> list[Reason]:
    """Returns for each point `not_finite`, the reason of an attribute that does not react there at all, or "".

    Args:
        found: the Grams of the held and then of the varied attributes.
        held, varied: the attributes' names.
    """
    still = [*(f"held:{name}" for name in held), *(f"varied:{name}" for name in varied)]
    finite = torch.stack([torch.isfinite(a).flatten(1).all(1) for a in found])
    moves = torch.stack([(a != 0).flatten(1).any(1) for a in found])
    reasons = []
    for f, m in zip(finite.T.tolist(), moves.T.tolist(), strict=True):
        first = next((reason for reason, moving in zip(still, m, strict=True) if not moving), "")
        reasons.append("not_finite" if not all(f) else first)
    return reasons
