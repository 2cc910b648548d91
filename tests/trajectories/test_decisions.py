"""Trajectories that hold a decision: an inequality, which lets them run free inside and leads them along its limit."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from reds_core.trajectories.trajectory import Trajectories
from tests.support.problems import Ball, Cap, HalfSpaces, LevelSet
from tests.support.walker import Walker

STEP = 0.1

with_and_without_products = pytest.mark.parametrize("derivatives", [True, False], ids=["products", "black box"])


def walked(problem: LevelSet, first: list[float], waypoints: int, derivatives: bool) -> Tensor:
    """Returns the waypoints of one trajectory, all of which it must have reached within the limits and a step apart."""
    walker = Walker(problem, derivatives=derivatives)
    trajectories = walker.walk(torch.tensor([first]), STEP, waypoints)
    assert (trajectories.reached, trajectories.ended) == ([waypoints], [""])
    y = trajectories.latents[0]
    assert float(walker.residual(y)[1].max()) <= 1
    gaps = torch.cat([torch.zeros(1, problem.k), y]).diff(dim=0).norm(dim=1)
    assert float(gaps.min()) > 0.6 * STEP and float(gaps.max()) < 1.2 * STEP
    return y


@with_and_without_products
def test_inside_its_limit_a_decision_asks_nothing(derivatives: bool) -> None:
    y = walked(HalfSpaces([[1, 0, 0]], [10]), [1, 1, 0], 6, derivatives)
    torch.testing.assert_close(y[-1], torch.tensor([1, 1, 0]) * 0.6 / 2**0.5, check_dtype=False)


@with_and_without_products
def test_at_a_half_space_a_trajectory_goes_on_along_it(derivatives: bool) -> None:
    y = walked(HalfSpaces([[1, 0, 0]], [0.3]), [1, 1, 0], 12, derivatives)
    assert float(y[:, 0].max()) <= 0.3 and float(y[-1, 1]) > 0.8 and abs(float(y[-1, 2])) < 0.01


@with_and_without_products
def test_inside_a_ball_a_trajectory_goes_along_its_surface(derivatives: bool) -> None:
    y = walked(Ball([0, 0.2, 0], 0.5), [1, 0.2, 0], 10, derivatives)
    out = (y - torch.tensor([0, 0.2, 0])).norm(dim=1)
    assert float(out.max()) <= 0.5 and float(out[5:].min()) > 0.35


@with_and_without_products
def test_around_a_ball_a_trajectory_slides_and_leaves_it_again(derivatives: bool) -> None:
    centre = torch.tensor([0.5, -0.1, 0])
    y = walked(Ball(centre.tolist(), 0.3, outside=True), [1, 0, 0], 16, derivatives)
    out = (y - centre).norm(dim=1)
    assert float(out.min()) >= 0.3 - 1e-9 and float(y[-1, 0]) > 0.5
    # At its end the limit asks nothing any more, and the way is straight again.
    ahead = y.diff(dim=0)
    assert float(out[-1]) > 0.4
    torch.testing.assert_close(ahead[-1], ahead[-2], rtol=0, atol=1e-6)


@with_and_without_products
def test_in_a_wedge_of_two_limits_a_trajectory_goes_on_along_its_edge(derivatives: bool) -> None:
    y = walked(HalfSpaces([[1, 0, 0], [0.8, 0.6, 0]], [0.3, 0.4]), [1, 1, 0.3], 12, derivatives)
    assert float(y[:, 0].max()) <= 0.3 and float((0.8 * y[:, 0] + 0.6 * y[:, 1]).max()) <= 0.4
    assert float(y[-1, 2]) > 0.5


@with_and_without_products
def test_a_level_and_a_decision_are_held_together(derivatives: bool) -> None:
    y = walked(Cap(), [0, 0.3, 1, 0], 14, derivatives)
    assert float(y[:, 2].max()) <= 0.4 and float(y[-1, 1].abs()) > 0.4


def test_a_limit_that_is_neared_head_on_is_not_crossed() -> None:
    walker = Walker(HalfSpaces([[1, 0, 0]], [0.25], room=0.02), derivatives=True)
    trajectories = walker.walk(torch.tensor([[1.0, 0, 0]]), STEP, 6)
    assert trajectories.reached[0] >= 2 and trajectories.ended[0] == "turned"
    assert float(trajectories.latents[0, :, 0].max()) <= 0.25


def test_one_that_starts_at_its_limit_stays_inside_both_ways() -> None:
    problem = HalfSpaces([[1, 0, 0]], [0.0])
    walker = Walker(problem, derivatives=True)
    found: Trajectories = walker.walk(torch.tensor([[0.5, 1, 0], [-0.5, -1, 0]]), STEP, 8)
    assert found.reached == [8, 8] and float(found.latents[:, :, 0].max()) <= 0
    assert float(found.latents[0, -1, 1]) > 0.6 and float(found.latents[1, -1, 1]) < -0.6


def test_many_limits_are_met_at_once() -> None:
    draw = np.random.default_rng(0)
    normals = draw.normal(size=(6, 8))
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    walker = Walker(HalfSpaces(normals.tolist(), [0.3] * 6), derivatives=True)
    found = walker.walk(torch.from_numpy(draw.normal(size=(5, 8))), STEP, 10)
    for t, count in enumerate(found.reached):
        assert count >= 4 and float(walker.residual(found.latents[t, :count])[1].max()) <= 1
