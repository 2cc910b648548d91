"""Attributes measured at many points, in batches, with every pass counted; and products with their Jacobians, J^T c.

A product is the gradient of c^T f: it costs one reverse pass, where the whole of J costs one for each of its rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from reds_core.directions.precision import float32_as
from reds_core.types import Features, Latents, PassCounter, Rows

# Latents (n, d) and the seed or trajectory that each belongs to (n,) -> the features of every attribute, [(n, p_i)].
Measure = Callable[[Latents, Rows], list[Features]]


@dataclass(frozen=True)
class Evaluator:
    """Measures points, `batch` images at a time, and counts the passes."""

    measure: Measure
    batch: int
    counter: PassCounter

    def evaluate(self, points: Latents, rows: Rows) -> list[Shaped[Tensor, "n ..."]]:
        """Returns what `measure` does, without derivatives: features, and whatever else it returns beside them, such as images."""
        self.counter.add(forward=len(points))
        with torch.no_grad():
            parts = [self.measure(z, r) for z, r in chunks(points, rows, self.batch)]
        return [torch.cat(part) for part in zip(*parts, strict=True)]

    def evaluate_and_pull(
        self, points: Latents, rows: Rows, cotangents: Callable[[Float[Tensor, "m p"], slice], Float[Tensor, "m p"]]
    ) -> list[Shaped[Tensor, "n ..."]]:
        """Returns what `evaluate` does, and after it c J of the first feature, for one cotangent c at every point.

        One forward pass serves both. `cotangents` is given the first feature of some of the points, and which they are.
        """
        found, at = [], 0
        for z, r in chunks(points, rows, self.batch):
            leaf, (first, *others) = self.with_gradients(z, r)
            c = cotangents(first.detach(), slice(at, at + len(z)))
            found.append([first.detach(), *(o.detach() for o in others), product((first * c.to(first)).sum(), leaf)])
            at += len(z)
        self.counter.add(forward=len(points), reverse=len(points))
        return [torch.cat(part) for part in zip(*found, strict=True)]

    def pulled(self, points: Latents, rows: Rows, cotangents: Float[Tensor, "n q p"]) -> Float[Tensor, "n q d"]:
        """Returns c J of the first feature for q cotangents c at every point."""
        found = []
        for (z, r), c in zip(chunks(points, rows, self.batch), cotangents.split(max(1, self.batch)), strict=True):
            leaf, features = self.with_gradients(z, r)
            found.append(torch.stack([product((features[0] * each.to(features[0])).sum(), leaf) for each in c.unbind(1)], 1))
        self.counter.add(forward=len(points), reverse=cotangents.shape[0] * cotangents.shape[1])
        return torch.cat(found)

    def pullbacks(self, points: Latents, rows: Rows, count: int) -> Float[Tensor, "n d m"]:
        """Returns J^T c for `count` random cotangents c of every attribute, or for all of its rows if it has no more.

        Their span is the range of J^T but for what moves an attribute least (randomised range finding: Halko, Martinsson and Tropp,
        SIAM Review 2011).
        """
        found = []
        for z, r in chunks(points, rows, self.batch):
            leaf, features = self.with_gradients(z, r)
            products = []
            for f in features:
                p = f.shape[1]
                draw = torch.Generator().manual_seed(0)
                weights = torch.eye(p) if p <= count else torch.randn(count, p, generator=draw)
                products += [product((f @ w.to(f)).sum(), leaf) for w in weights]
            self.counter.add(forward=len(z), reverse=len(z) * len(products))
            found.append(torch.stack(products, 2))
        return torch.cat(found)

    def with_gradients(self, points: Latents, rows: Rows) -> tuple[Latents, list[Shaped[Tensor, "n ..."]]]:
        """Returns the points as a leaf of the graph, and their features, which lead back to it. The caller counts the pass."""
        leaf = points.detach().requires_grad_()
        with torch.enable_grad():
            return leaf, self.measure(leaf, rows)


def product(number: Float[Tensor, ""], leaf: Latents) -> Latents:
    """Returns the gradient of a number, as precisely as a direction needs it."""
    with float32_as("tf32"):
        gradient: Tensor = torch.autograd.grad(number, leaf, retain_graph=True)[0]
    return gradient


def chunks(points: Latents, rows: Rows, size: int) -> Iterator[tuple[Latents, Rows]]:
    """Yields points with their rows, `size` at a time; one at a time if that is 0."""
    yield from zip(points.split(max(1, size)), rows.split(max(1, size)), strict=True)
