r"""Rayleigh EigenDirections and their ablations, from Grams, for many points at once.

Balakrishnan, Gadde, Martinez, Perona, "Rayleigh EigenDirections (REDs)", ECCV 2022 (arXiv 2201.10423), section 3.

    Gram            A_i = J_i^T J_i / ||J_i^T J_i||_F            attributes in different units compare
    rank            r(beta) = min(d, #{k : cumsum(E^2 / sum E^2)_k <= beta} + 1),  E the eigenvalues of A_i, descending
    held space      Q = orth[top r_i eigenvectors of every held A_i]
    null space      N = complement of span(Q)
    directions      V = N U,  U the top r(beta_v) eigenvectors of N^T A_v N,  A_v the sum of the varied Grams

V are the closed-form maximisers of the Rayleigh quotient x^T A_v x / x^T x over all x that leave the held attributes alone
to first order. The soft form `rayleigh` has no hard null space: A_v x = lambda (A_h + tau tr(A_h) I) x.

Everything is symmetric, in float64: a Gram squares the condition number of a Jacobian. The points of a batch have null spaces of
different sizes, so each gets d columns, best first, and a count of how many of them are its directions.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Float64, Int
from torch import Tensor

from reds_core.types import Columns, Counts, Grams

# Two held attributes share a direction when they differ there by no more than the rounding of float32 Jacobians.
SAME_DIRECTION = 1e-6
LEAST_TAU = 1e-12  # below it, rounding leaves a singular Gram singular


def gram(jacobian: Float[Tensor, "*n p d"]) -> Float64[Tensor, "*n d d"]:
    """Returns J^T J of Jacobians, in float64, not normalised."""
    # In blocks of rows: in float64 at once, the Jacobian of a whole image's pixels would take twice its memory.
    blocks = (rows.double() for rows in jacobian.split(65_536, -2))
    return sum((rows.mT @ rows for rows in blocks), jacobian.new_zeros((), dtype=torch.float64))


def normalised(grams: Grams) -> Grams:
    """Returns Grams divided by their Frobenius norms, so that attributes in different units compare. A zero Gram stays zero."""
    norm = torch.linalg.matrix_norm(grams)[:, None, None]
    return grams / torch.where(norm > 0, norm, 1.0)


def reds_batched(held: Sequence[Grams], varied: Grams, beta_held: Sequence[float], beta_varied: float) -> tuple[Columns, Counts]:
    """Returns for n points the columns of `reds`, best first, and how many of them are directions: 0 where nothing is left."""
    null, inside = _null_basis(held, beta_held)
    # Inside the null space, N^T A_v N; the coordinates outside it get a negative eigenvalue, so that they sort last.
    values, vectors = _eigh(null.mT @ normalised(varied) @ null - torch.diag_embed((~inside).double()))
    size = inside.sum(1)
    values = torch.where(torch.arange(values.shape[1], device=values.device) < size[:, None], values, 0.0)
    return null @ vectors, torch.minimum(_rank(values, beta_varied), size)


def minf_batched(held: Sequence[Grams], beta_held: Sequence[float]) -> tuple[Columns, Counts]:
    """Returns for n points the columns of `minf`, least held movement first, and how many of them are directions."""
    null, inside = _null_basis(held, beta_held)
    moved = sum((normalised(a) for a in held), torch.zeros_like(null))
    # Descending order of the negated movement; outside the null space, far below any of it.
    _, vectors = _eigh(-(null.mT @ moved @ null) - torch.diag_embed((~inside).double()) * (2.0 + len(held)))
    return null @ vectors, inside.sum(1)


def maxc_batched(varied: Grams, beta_varied: float) -> tuple[Columns, Counts]:
    """Returns for n points the columns of `maxc`, best first, and how many of them are directions."""
    values, vectors = _eigh(normalised(varied))
    return vectors, _rank(values, beta_varied)


def rayleigh_batched(held: Sequence[Grams], varied: Grams, tau: float | Float64[Tensor, " n"]) -> tuple[Columns, Counts]:
    """Returns for n points, with one `tau` or one for each, the columns of `rayleigh`, best first; all d of them are directions."""
    total = sum((normalised(a) for a in held), torch.zeros_like(varied))
    d = total.shape[1]
    trace = total.diagonal(dim1=1, dim2=2).sum(1)
    ridge = torch.as_tensor(tau, dtype=total.dtype).clamp_min(LEAST_TAU).to(total.device) * torch.where(trace > 0, trace, 1.0)
    factor = torch.linalg.cholesky(total + ridge[:, None, None] * torch.eye(d, dtype=total.dtype, device=total.device))
    # With A_h + ridge = L L^T, the generalised problem is the symmetric one of L^-1 A_v L^-T, and x = L^-T y.
    left = torch.linalg.solve_triangular(factor, normalised(varied), upper=False)
    _, vectors = _eigh(torch.linalg.solve_triangular(factor, left.mT, upper=False))
    vectors = torch.linalg.solve_triangular(factor.mT, vectors, upper=True)
    q, r = torch.linalg.qr(vectors)
    signs = r.diagonal(dim1=1, dim2=2).sign()
    return q * torch.where(signs == 0, 1.0, signs)[:, None, :], torch.full((len(q),), d, device=q.device)


def oriented(columns: Float64[Tensor, "*n d m"]) -> Float64[Tensor, "*n d m"]:
    """Returns columns with the component of largest magnitude made positive: an eigenvector has no sign of its own."""
    return columns * signs_of(columns)


def signs_of(columns: Float64[Tensor, "*n d m"]) -> Float64[Tensor, "*n 1 m"]:
    """Returns the sign of each column's component of largest magnitude."""
    signs = columns.gather(-2, columns.abs().argmax(-2, keepdim=True)).sign()
    return torch.where(signs == 0, 1.0, signs)


def _null_basis(held: Sequence[Grams], betas: Sequence[float]) -> tuple[Grams, Bool[Tensor, "n d"]]:
    """Returns orthonormal columns, and which of them span the null space; the others are zero."""
    spans = []
    for a, beta in zip(held, betas, strict=True):
        values, vectors = _eigh(normalised(a))
        top = torch.arange(values.shape[1], device=a.device) < _rank(values, beta)[:, None]
        spans.append((vectors, top))
    if len(spans) == 1:
        vectors, top = spans[0]
        inside = ~top
    else:
        widest = [int(top.sum(1).max()) for _, top in spans]
        stack = torch.cat([(v * t[:, None, :])[:, :, :k] for (v, t), k in zip(spans, widest, strict=True)], 2)
        vectors, singular, _ = torch.linalg.svd(stack, full_matrices=True)
        inside = torch.ones(vectors.shape[::2], dtype=torch.bool, device=stack.device)
        inside[:, : singular.shape[1]] = singular <= SAME_DIRECTION
    return vectors * inside[:, None, :], inside


def _eigh(a: Grams) -> tuple[Float64[Tensor, "n d"], Grams]:
    """Returns eigenvalues in descending order, and eigenvectors as columns."""
    values, vectors = torch.linalg.eigh((a + a.mT) / 2)
    return values.flip(-1), vectors.flip(-1)


def _rank(values: Float64[Tensor, "n d"], beta: float) -> Int[Tensor, " n"]:
    """Returns how many of the descending eigenvalues it takes to explain more than `beta` of their squares."""
    squares = values.square()
    total = squares.sum(1, keepdim=True)
    share = squares / torch.where(total > 0, total, 1.0)
    return ((share.cumsum(1) <= beta).sum(1) + 1).clamp(max=values.shape[1])
