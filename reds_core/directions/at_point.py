"""Directions at one point, from plain lists of Jacobians: the public functions. `reds_core.directions.batched` has the mathematics.

    reds         what changes the varied attributes most and leaves every held one still
    null_space   all that leaves every held attribute still
    minf         the same, as an ablation: the least held movement first
    maxc         an ablation: what changes the varied attributes most, holding nothing
    rayleigh     the soft form: much varied change for little held change

Columns are orthonormal, best first, in float64. Their signs are arbitrary: an eigenvector has none of its own.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from reds_core.directions.batched import gram, maxc_batched, minf_batched, normalised, rayleigh_batched, reds_batched
from reds_core.errors import NoDirectionsError
from reds_core.types import Columns, Counts, Directions, Grams

Jacobian = Float[Tensor, "_p _d"]  # one d for all: if not, a ValueError says so


def reds(
    held: Sequence[Jacobian], varied: Sequence[Jacobian], beta_held: float | Sequence[float], beta_varied: float
) -> Directions:
    """Returns the directions that change the varied attributes most, among those that leave every held one still.

    Args:
        held, varied: Jacobians (p_i, d) at one point; at least one of each.
        beta_held: the share of a held Gram's squared eigenvalues that is held, in (0, 1]; one number, or one per held attribute.
        beta_varied: the share of the varied Gram's squared eigenvalues that the directions explain.

    Raises:
        NoDirectionsError: the held spaces together fill the latent space.
        ValueError: a Jacobian is zero, not finite, or of another size.
    """
    columns, count = reds_batched(_grams(held, "held"), _total(varied), _betas(beta_held, len(held)), beta_varied)
    return _one(columns, count, len(held), beta_held)


def null_space(held: Sequence[Jacobian], beta_held: float | Sequence[float]) -> Directions:
    """Returns a basis of the complement of the held space. Arguments and errors as for `reds`."""
    return minf(held, beta_held)


def minf(held: Sequence[Jacobian], beta_held: float | Sequence[float]) -> Directions:
    """Returns a basis of the null space alone, least held movement first. Arguments and errors as for `reds`."""
    columns, count = minf_batched(_grams(held, "held"), _betas(beta_held, len(held)))
    return _one(columns, count, len(held), beta_held)


def maxc(varied: Sequence[Jacobian], beta_varied: float) -> Directions:
    """Returns the directions of largest varied change, holding nothing. Arguments and errors as for `reds`."""
    columns, count = maxc_batched(_total(varied), beta_varied)
    return columns[0, :, : int(count)]


def rayleigh(held: Sequence[Jacobian], varied: Sequence[Jacobian], tau: float) -> Directions:
    """Returns the generalised eigenvectors of varied over held change, made orthonormal in order: all d of them.

    `tau` > 0 is the ridge, as a fraction of the held Grams' trace: small values hold harder. Errors as for `reds`.
    """
    columns, _ = rayleigh_batched(_grams(held, "held"), _total(varied), tau)
    return columns[0]


def _grams(jacobians: Sequence[Jacobian], role: str) -> list[Grams]:
    """Returns the Gram of every Jacobian, (1, d, d)."""
    if not jacobians:
        raise ValueError(f"no {role} Jacobian was given; at least one is needed")
    for j in jacobians:
        if j.ndim != 2 or j.shape[1] != jacobians[0].shape[1]:
            raise ValueError(f"{role} Jacobians must be (p, d) with one d, got {[tuple(x.shape) for x in jacobians]}")
        if not bool(torch.isfinite(j).all()):
            raise ValueError(f"a {role} Jacobian is not finite; the feature could not be measured there")
        if not bool(j.any()):
            raise ValueError(f"a {role} Jacobian is zero: the feature does not react to the latent there")
    return [gram(j)[None] for j in jacobians]


def _total(varied: Sequence[Jacobian]) -> Grams:
    """Returns the sum of the normalised varied Grams, (1, d, d)."""
    return torch.stack([normalised(a) for a in _grams(varied, "varied")]).sum(0)


def _betas(beta: float | Sequence[float], count: int) -> list[float]:
    """Returns a beta for each held attribute."""
    betas = [float(beta)] * count if isinstance(beta, int | float) else [float(b) for b in beta]
    if len(betas) != count:
        raise ValueError(f"{len(betas)} betas were given for {count} held attributes; pass one, or one for each")
    return betas


def _one(columns: Columns, count: Counts, held: int, beta: float | Sequence[float]) -> Directions:
    """Returns the directions of the one point in a batch. Raises NoDirectionsError if there are none."""
    if not int(count):
        raise NoDirectionsError(
            f"{held} held attribute(s) fill all {columns.shape[1]} latent directions at beta {beta}; "
            "lower beta or hold fewer attributes"
        )
    return columns[0, :, : int(count)]
