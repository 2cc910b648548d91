"""Grams of the Jacobians of several attributes at many points at once, each attribute's A = J^T J, (n, d, d) in float64.

Three ways to a Jacobian J (p, d), by what a network allows and what costs least (`cheapest`):

    reverse      p vector-Jacobian products an image: few features, many latent axes
    forward      d Jacobian-vector products an image
    differences  d evaluations an image, (f(z + h e) - f(z)) / h, or two-sided (f(z + h e) - f(z - h e)) / 2h with 2d: as published,
                 and for a feature that is a black box

In the last two, one pass along an axis serves every attribute. A Jacobian lives only as long as it takes to make its Gram: for
wide features, (n, p, d) would be far larger than the network.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Literal

import torch
from torch import Tensor

from reds_core.directions.batched import gram
from reds_core.directions.precision import float32_as
from reds_core.types import Features, Grams, Latents, Passes

Mode = Literal["differences", "reverse", "forward"]

# Latents (n, d) and the trajectory that each belongs to (n,) -> the features of every attribute, [(n, p_i)].
Measure = Callable[[Latents, Tensor], list[Features]]

# The features (n, p_i) and Jacobians (n, p_i, d) of every attribute, a few points at a time; arguments as for `grams`. Two-sided
# differences need no features at the points, and give none.
Derivatives = Callable[[Measure, Latents, Tensor, float, bool, int, Passes], Iterator[tuple[list[Features], list[Tensor]]]]


def grams(
    measure: Measure, points: Latents, rows: Tensor, mode: Mode, step: float, two_sided: bool, batch: int, passes: Passes
) -> list[Grams]:
    """The Gram of every attribute at every point.

    Args:
        measure: latents and their rows -> features of every attribute.
        points: (n, d) latents; rows: (n,), handed to `measure` as they are.
        mode: how derivatives are taken; `step` and `two_sided` matter to differences only.
        batch: images per evaluation.
        passes: counts the work.

    Returns:
        [(n, d, d)] float64. Not normalised; not finite where a feature could not be measured.
    """
    chunks = _by_mode(mode)(measure, points, rows, step, two_sided, batch, passes)
    return [torch.cat(part) for part in zip(*([gram(j) for j in jacobians] for _, jacobians in chunks), strict=True)]


def features_jacobians_and_grams(
    measure: Measure, points: Latents, rows: Tensor, mode: Mode, step: float, kept: int, batch: int, passes: Passes
) -> tuple[list[Features], list[Tensor], list[Grams]]:
    """The features (n, p) and Jacobians (n, p, d) of the first `kept` attributes, and the Grams of the others.

    Arguments as for `grams`; one-sided.
    """
    chunks = _by_mode(mode)(measure, points, rows, step, False, batch, passes)
    parts = [[*features[:kept], *jacobians[:kept], *(gram(j) for j in jacobians[kept:])] for features, jacobians in chunks]
    found = [torch.cat(part) for part in zip(*parts, strict=True)]
    return found[:kept], found[kept : 2 * kept], found[2 * kept :]


def cheapest(sizes: Sequence[int], d: int, two_sided: bool, allowed: Sequence[Mode]) -> Mode:
    """The mode with the fewest forward equivalents for features of these sizes; derivatives win a tie."""
    cost: dict[Mode, int] = {"reverse": 2 * sum(sizes), "forward": 2 * d, "differences": d * (2 if two_sided else 1)}
    return min((m for m in cost if m in allowed), key=lambda m: cost[m])


def allowed_modes(measure: Measure, points: Latents, rows: Tensor, step: float) -> dict[Mode, str]:
    """Which modes a network allows: each with "" or, in words, why not.

    A mode is trusted when its derivative along one direction agrees with a difference along it: a feature that rounds, or
    leaves torch half-way, has derivatives that are wrong without any error.
    """
    found: dict[Mode, str] = {"differences": ""}
    along = torch.ones_like(points) / points.shape[1] ** 0.5
    h = step / 10
    with torch.no_grad():
        plus, minus = measure(points + h * along, rows), measure(points - h * along, rows)
    slopes = [(a - b) / (2 * h) for a, b in zip(plus, minus, strict=True)]

    def by_forward() -> list[Tensor]:
        return list(torch.func.jvp(lambda z: tuple(measure(z, rows)), (points,), (along,))[1])

    def by_reverse() -> list[Tensor]:
        # <slope, J u> by way of J^T slope: compared with |slope|^2.
        z = points.detach().requires_grad_()
        products = [
            torch.autograd.grad((f * s).sum(), z, retain_graph=True)[0] for f, s in zip(measure(z, rows), slopes, strict=True)
        ]
        return [(p * along).sum(1, keepdim=True) for p in products]

    for mode, derive in (("reverse", by_reverse), ("forward", by_forward)):
        expected = [s.square().sum(1, keepdim=True) for s in slopes] if mode == "reverse" else slopes
        try:
            derived = derive()  # type: ignore[operator]
        # Any exception of somebody else's network means "not this mode"; the reason is kept and shown when the mode is forced.
        except Exception as error:
            found[mode] = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"  # type: ignore[index]
            continue
        off = [float((a - b).norm() / (b.norm() + 1e-12)) for a, b in zip(derived, expected, strict=True)]
        worst = max(off)
        found[mode] = "" if worst < 0.25 else f"its derivatives are off by {worst:.0%} from differences"  # type: ignore[index]
    return found


def pullbacks(measure: Measure, points: Latents, rows: Tensor, count: int, batch: int, passes: Passes) -> Tensor:
    """J^T c for `count` random cotangents c of every attribute, all of J's rows if it has no more: (n, d, k).

    Their span is the range of J^T but for what moves an attribute least (randomised range finding: Halko, Martinsson, Tropp 2011).
    """
    found = []
    for z, r in _chunks(points, rows, batch):
        leaf = z.detach().requires_grad_()
        with torch.enable_grad():
            features = measure(leaf, r)
        products = []
        for f in features:
            p = f.shape[1]
            draw = torch.Generator().manual_seed(0)
            weights = torch.eye(p) if p <= count else torch.randn(count, p, generator=draw)
            products += [_product((f @ w.to(f)).sum(), leaf) for w in weights]
        passes.forward += len(z)
        passes.reverse += len(z) * len(products)
        found.append(torch.stack(products, 2))
    return torch.cat(found)


def pulled(measure: Measure, points: Latents, rows: Tensor, cotangents: Tensor, batch: int, passes: Passes) -> Tensor:
    """J^T c at points (n, d), for a cotangent (n, p) each of all features, one after another: (n, d)."""
    found = []
    for (z, r), c in zip(_chunks(points, rows, batch), cotangents.split(max(1, batch)), strict=True):
        leaf = z.detach().requires_grad_()
        with torch.enable_grad():
            features = torch.cat(measure(leaf, r), 1)
            found.append(_product((features * c.to(features)).sum(), leaf))
    passes.forward += len(points)
    passes.reverse += len(points)
    return torch.cat(found)


def _product(number: Tensor, leaf: Tensor) -> Tensor:
    """The gradient of a number, at what a direction needs of precision."""
    with float32_as("tf32"):
        gradient: Tensor = torch.autograd.grad(number, leaf, retain_graph=True)[0]
    return gradient


def _by_mode(mode: Mode) -> Derivatives:
    ways: dict[Mode, Derivatives] = {"reverse": _reverse, "forward": _forward, "differences": _differences}
    return ways[mode]


def _chunks(points: Latents, rows: Tensor, size: int) -> Iterator[tuple[Tensor, Tensor]]:
    yield from zip(points.split(max(1, size)), rows.split(max(1, size)), strict=True)


def evaluate(measure: Measure, points: Latents, rows: Tensor, batch: int, passes: Passes) -> list[Features]:
    """The features of many points, `batch` images at a time."""
    passes.forward += len(points)
    with torch.no_grad():
        parts = [measure(z, r) for z, r in _chunks(points, rows, batch)]
    return [torch.cat(part) for part in zip(*parts, strict=True)]


def _differences(
    measure: Measure, points: Latents, rows: Tensor, step: float, two_sided: bool, batch: int, passes: Passes
) -> Iterator[tuple[list[Features], list[Tensor]]]:
    d = points.shape[1]
    axes = step * torch.eye(d, dtype=points.dtype, device=points.device)
    for z, r in _chunks(points, rows, batch // d):

        def shifted(shift: Tensor, z: Tensor = z, r: Tensor = r) -> list[Tensor]:
            moved = (z[:, None] + shift).flatten(0, 1)
            return [f.unflatten(0, (len(z), d)) for f in evaluate(measure, moved, r.repeat_interleave(d), batch, passes)]

        plus = shifted(axes)
        if two_sided:
            yield [], [((a - b) / (2 * step)).mT for a, b in zip(plus, shifted(-axes), strict=True)]
        else:
            base = evaluate(measure, z, r, batch, passes)
            yield base, [((a - b[:, None]) / step).mT for a, b in zip(plus, base, strict=True)]


def _forward(
    measure: Measure, points: Latents, rows: Tensor, step: float, two_sided: bool, batch: int, passes: Passes
) -> Iterator[tuple[list[Features], list[Tensor]]]:
    d = points.shape[1]
    axes = torch.eye(d, dtype=points.dtype, device=points.device)
    for z, r in _chunks(points, rows, batch // d):
        moved, tangents, owners = z.repeat_interleave(d, 0), axes.repeat(len(z), 1), r.repeat_interleave(d)
        values, slopes = [], []
        # A plain batch of repeated points, not vmap: it asks nothing of the network but a derivative.
        for a, t, o in zip(moved.split(batch), tangents.split(batch), owners.split(batch), strict=True):
            value, slope = torch.func.jvp(lambda x, o=o: tuple(measure(x, o)), (a,), (t,))  # type: ignore[misc]
            values.append(value)
            slopes.append(slope)
        passes.forward_mode += len(moved)
        passes.forward += len(z)
        features = [torch.cat(part).detach()[::d] for part in zip(*values, strict=True)]
        yield features, [torch.cat(part).detach().unflatten(0, (len(z), d)).mT for part in zip(*slopes, strict=True)]


def _reverse(
    measure: Measure, points: Latents, rows: Tensor, step: float, two_sided: bool, batch: int, passes: Passes
) -> Iterator[tuple[list[Features], list[Tensor]]]:
    for z, r in _chunks(points, rows, batch):
        leaf = z.detach().requires_grad_()
        with torch.enable_grad():
            features = measure(leaf, r)
        passes.forward += len(z)
        passes.reverse += len(z) * sum(f.shape[1] for f in features)
        # One product a feature for the whole batch: images do not depend on each other, so a sum keeps them apart.
        jacobians = [torch.stack([_product(column.sum(), leaf) for column in f.unbind(1)], 1) for f in features]
        yield [f.detach() for f in features], jacobians
