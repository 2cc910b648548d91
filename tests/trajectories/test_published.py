"""Published trajectories: the published points to the last digit that float32 has, and how trajectories end."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from reds_core import load_spec
from reds_core.jobs.prepare import prepare
from reds_core.trajectories.published import linear, local
from reds_core.trajectories.trajectory import DirectionsAt
from reds_core.variants.run_seeds import run_seeds
from tests.support.problems import published_local
from tests.support.worlds import TinyClassifier, TinyGenerator, world


def test_linear_waypoints_are_multiples_of_the_step() -> None:
    trajectories = linear(torch.zeros(1, 3), torch.tensor([[0.0, 1, 0]]), 0.5, 3)
    torch.testing.assert_close(trajectories.latents[0, :, 1], torch.tensor([0.5, 1.0, 1.5]))
    assert trajectories.reached == [3]


def test_a_local_trajectory_follows_a_circle_that_its_directions_are_tangent_to() -> None:
    def tangent(points: Tensor, index: Tensor) -> DirectionsAt:
        t = torch.stack([-points[:, 1], points[:, 0]], 1) / points.norm(dim=1, keepdim=True)
        return DirectionsAt(t.double()[:, :, None], torch.ones(len(points), dtype=torch.long), [""] * len(points))

    trajectories = local(torch.tensor([[1.0, 0]]), torch.tensor([[0.0, 1]]), 0.01, 100, tangent)
    # The direction never turns back, steps keep their length, and the angle walked is the arc's.
    steps = trajectories.latents[0].diff(dim=0).norm(dim=1)
    torch.testing.assert_close(steps, torch.full_like(steps, 0.01), atol=1e-5, rtol=0)
    end = trajectories.latents[0, -1]
    assert abs(float(torch.atan2(end[1], end[0])) - 1.0) < 0.01
    assert float(end.norm()) < 1.01


def test_a_projection_with_nowhere_to_go_ends_the_trajectory_alone() -> None:
    def sideways(points: Tensor, index: Tensor) -> DirectionsAt:
        columns = torch.zeros(len(points), 2, 1, dtype=torch.float64)
        for row, t in enumerate(index.tolist()):
            columns[row, 1 if t == 0 else 0, 0] = 1
        return DirectionsAt(columns, torch.ones(len(points), dtype=torch.long), [""] * len(points))

    trajectories = local(torch.zeros(2, 2), torch.tensor([[1.0, 0], [1.0, 0]]), 0.1, 3, sideways)
    assert trajectories.reached == [1, 3] and trajectories.ended == ["turned", ""]
    torch.testing.assert_close(trajectories.latents[1, :, 0], torch.tensor([0.1, 0.2, 0.3]))


@pytest.mark.parametrize("batch", [1, 7, 64])
def test_local_reds_are_the_published_trajectories(tmp_path: Path, batch: int) -> None:
    changes = {"held": {"class": 50.0}, "varied": {"look": 1e-9}, "duplicates": 0, "judge": None}
    trajectory = {"method": "local", "directions": 2, "waypoints": 4, "step": 0.1, "jacobian": "differences"}
    spec = load_spec(world(tmp_path, **changes, trajectory=trajectory))
    job = prepare(spec, "cpu", batch)
    g, c = TinyGenerator().double(), TinyClassifier().double()

    def image(z: np.ndarray) -> Tensor:
        raw: Tensor = g(torch.from_numpy(z)[None])
        return (raw + 1).clamp(0, 2) / 2

    def scores(z: np.ndarray) -> np.ndarray:
        return np.asarray(c(image(z)).detach().numpy()[0])

    def pixels(z: np.ndarray) -> np.ndarray:
        return image(z).detach().numpy().ravel()

    candidates, _ = run_seeds(job, [5, 6])
    for seed in (5, 6):
        start = np.random.RandomState(seed).randn(6)
        for direction in range(2):
            for sign in (1, -1):
                ours = [c.latent for c in candidates if (c.seed, c.direction, c.sign) == (seed, direction, sign)]
                theirs = published_local([scores], [pixels], start, direction, sign, 0.1 * job.latent_spread, 4, (0.99, 0.999))
                np.testing.assert_allclose(np.stack(ours), theirs, atol=2e-4)
