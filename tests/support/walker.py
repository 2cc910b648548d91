"""A problem with a known answer as corrected trajectories see it."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from reds_core.trajectories.corrected import corrected
from reds_core.trajectories.held import Asked, Held, Residuals
from reds_core.trajectories.trajectory import Trajectories
from tests.support.problems import LevelSet


class Walker:
    """A problem as `corrected` sees it, and what it was asked for."""

    def __init__(self, problem: LevelSet, radius: float = math.inf, derivatives: bool = False) -> None:
        self.problem, self.radius, self.derivatives = problem, radius, derivatives
        self.centre = torch.zeros(problem.k, dtype=torch.float64)
        self.varied: Tensor | None = None
        self.points = self.products = 0

    def residual(self, y: Tensor) -> tuple[Tensor, Tensor]:
        parts = [f / t for f, t in zip(self.problem.features(y.double().numpy()), self.problem.tolerances, strict=True)]
        levels = len(parts) - self.problem.decisions
        lengths = np.stack([np.linalg.norm(p, axis=1) if i < levels else p[:, 0].clip(0) for i, p in enumerate(parts)])
        return torch.from_numpy(np.concatenate(parts, 1)), torch.from_numpy(lengths.max(0))

    def jacobian(self, y: Tensor) -> Tensor:
        h = 1e-5
        columns = [
            (self.residual(y + h * e)[0] - self.residual(y - h * e)[0]) / (2 * h) for e in torch.eye(self.problem.k).double()
        ]
        return torch.stack(columns, 2)

    def walk(self, first: Tensor, step: float, waypoints: int, jacobian: Tensor | None = None) -> Trajectories:
        def residual(y: Tensor, index: Tensor, asked: Asked | None) -> Residuals:
            self.points += len(y)
            r, worst = self.residual(y)
            products = None if asked is None else pull(y, index, asked(r, slice(0, len(y)))[:, None])[:, 0]
            return Residuals(r, worst, torch.zeros(len(y), 1, dtype=torch.uint8), products)

        def inside(y: Tensor, index: Tensor) -> Tensor:
            out = y - self.centre
            share: Tensor = out.norm(dim=1, keepdim=True) / self.radius
            return self.centre + out / share.clamp_min(1)

        def outward(y: Tensor, index: Tensor) -> Tensor:
            out = y - self.centre
            length = out.norm(dim=1, keepdim=True)
            return torch.where(length > 0.999 * self.radius, out / length, 0.0)

        def pull(y: Tensor, index: Tensor, c: Tensor) -> Tensor:
            self.products += c.shape[0] * c.shape[1]
            return c @ self.jacobian(y)

        start = torch.zeros(len(first), self.problem.k, dtype=torch.float64)
        scale = torch.ones(self.problem.k, dtype=torch.float64)
        at_start = self.residual(start)[0]
        exact = range(at_start.shape[1]) if self.derivatives else ()
        pulled = pull if self.derivatives else None
        levels = at_start.shape[1] - self.problem.decisions
        held = Held(residual, levels, pulled, exact, inside, outward, self.varied, scale, 0.02)
        return corrected(first.double(), at_start, self.jacobian(start) if jacobian is None else jacobian, held, step, waypoints)
