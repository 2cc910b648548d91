r"""Jacobians J (p, d) of several attributes at many points at once, and their Grams J^T J.

    by_reverse    p vector-Jacobian products an image: for few features and many latent axes
    by_forward    d Jacobian-vector products an image
    one_sided     d + 1 evaluations an image, (f(z + h e) - f(z)) / h along every latent axis e
    two_sided     2d evaluations an image, (f(z + h e) - f(z - h e)) / 2h

Differences are the published way, and the only one for a black box. Except in reverse mode, one pass along an axis serves every
attribute. A Jacobian lives only until its Gram is made: for wide features, (n, p, d) would be far larger than the network.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from reds_core.directions.batched import gram
from reds_core.directions.evaluator import Evaluator, chunks, product
from reds_core.types import Features, Grams, Jacobians, Latents, Rows

Mode = Literal["differences", "reverse", "forward"]


class Derived(NamedTuple):
    """The features and Jacobians of every attribute at a few points; no features where differences are two-sided."""

    features: list[Features]
    jacobians: list[Jacobians]


# A way to take derivatives: yields them a few points at a time, in order.
Derive = Callable[[Evaluator, Latents, Rows], Iterator[Derived]]


def derive_by(mode: Mode, differences: Derive) -> Derive:
    """Returns the way to take derivatives in a mode; `differences` is the one for the mode of that name."""
    ways: dict[Mode, Derive] = {"reverse": by_reverse, "forward": by_forward, "differences": differences}
    return ways[mode]


def grams(evaluator: Evaluator, points: Latents, rows: Rows, derive: Derive) -> list[Grams]:
    """Returns every attribute's Gram at every point, not normalised, and not finite where a feature could not be measured.

    Args:
        evaluator: measures the attributes.
        points, rows: latents, and what the evaluator is given with each.
        derive: how derivatives are taken.
    """
    parts = ([gram(j) for j in jacobians] for _, jacobians in derive(evaluator, points, rows))
    return [torch.cat(part) for part in zip(*parts, strict=True)]


def features_jacobians_and_grams(
    evaluator: Evaluator, points: Latents, rows: Rows, derive: Derive, kept: int
) -> tuple[list[Features], list[Jacobians], list[Grams]]:
    """Returns the features and Jacobians of the first `kept` attributes, and the Grams of the others.

    Arguments as for `grams`; differences must be one-sided, since two-sided ones yield no features.
    """
    derived = derive(evaluator, points, rows)
    parts = [[*features[:kept], *jacobians[:kept], *(gram(j) for j in jacobians[kept:])] for features, jacobians in derived]
    found = [torch.cat(part) for part in zip(*parts, strict=True)]
    return found[:kept], found[kept : 2 * kept], found[2 * kept :]


def by_reverse(evaluator: Evaluator, points: Latents, rows: Rows) -> Iterator[Derived]:
    """Yields derivatives by vector-Jacobian products."""
    for z, r in chunks(points, rows, evaluator.batch):
        leaf, features = evaluator.with_gradients(z, r)
        evaluator.counter.add(forward=len(z), reverse=len(z) * sum(f.shape[1] for f in features))
        # One product per feature for the whole batch: images do not depend on each other, so a sum keeps them apart.
        jacobians = [torch.stack([product(column.sum(), leaf) for column in f.unbind(1)], 1) for f in features]
        yield Derived([f.detach() for f in features], jacobians)


def by_forward(evaluator: Evaluator, points: Latents, rows: Rows) -> Iterator[Derived]:
    """Yields derivatives by Jacobian-vector products."""
    d, batch = points.shape[1], evaluator.batch
    axes = torch.eye(d, dtype=points.dtype, device=points.device)
    for z, r in chunks(points, rows, batch // d):
        moved, tangents, owners = z.repeat_interleave(d, 0), axes.repeat(len(z), 1), r.repeat_interleave(d)
        values, slopes = [], []
        # A plain batch of repeated points, not vmap: it asks nothing of the network but a derivative.
        for a, t, o in zip(moved.split(batch), tangents.split(batch), owners.split(batch), strict=True):
            value, slope = torch.func.jvp(lambda x, o=o: tuple(evaluator.measure(x, o)), (a,), (t,))  # type: ignore[misc]
            values.append(value)
            slopes.append(slope)
        evaluator.counter.add(forward=len(z), forward_mode=len(moved))
        features = [torch.cat(part).detach()[::d] for part in zip(*values, strict=True)]
        yield Derived(features, [torch.cat(part).detach().unflatten(0, (len(z), d)).mT for part in zip(*slopes, strict=True)])


def one_sided(step: float) -> Derive:
    """Returns the way of one-sided differences over `step`, in latent units."""

    def derive(evaluator: Evaluator, points: Latents, rows: Rows) -> Iterator[Derived]:
        for z, r in chunks(points, rows, evaluator.batch // points.shape[1]):
            plus, base = _along_axes(evaluator, z, r, step), evaluator.evaluate(z, r)
            yield Derived(base, [((a - b[:, None]) / step).mT for a, b in zip(plus, base, strict=True)])

    return derive


def two_sided(step: float) -> Derive:
    """Returns the way of two-sided differences over `step`, in latent units."""

    def derive(evaluator: Evaluator, points: Latents, rows: Rows) -> Iterator[Derived]:
        for z, r in chunks(points, rows, evaluator.batch // points.shape[1]):
            plus, minus = _along_axes(evaluator, z, r, step), _along_axes(evaluator, z, r, -step)
            yield Derived([], [((a - b) / (2 * step)).mT for a, b in zip(plus, minus, strict=True)])

    return derive


def _along_axes(evaluator: Evaluator, points: Latents, rows: Rows, step: float) -> list[Float[Tensor, "n d _p"]]:
    """Returns the features of every attribute, moved by `step` along every latent axis."""
    n, d = points.shape
    axes = step * torch.eye(d, dtype=points.dtype, device=points.device)
    moved = (points[:, None] + axes).flatten(0, 1)
    return [f.unflatten(0, (n, d)) for f in evaluator.evaluate(moved, rows.repeat_interleave(d))]
