"""Corrected trajectories: on level sets that are known in closed form, then their ends, then in a world of networks."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from reds_core import load_spec
from reds_core.jobs.prepare import prepare
from reds_core.trajectories.held import back, back_all
from reds_core.variants.run_seeds import run_seeds
from tests.support.problems import LevelSet, Product, Sphere, Torus
from tests.support.walker import Walker
from tests.support.worlds import TinyClassifier, torchscript, world

# (problem, directions that its level set touches at y = 0, how far the linearisation holds: s^2 / 2R is the tolerance)
PROBLEMS = [
    (Sphere(3), [[0, 1, 0], [0, 0, -1], [0, 1, 1]], math.sqrt(2 * 0.01)),
    (Sphere(40, radius=5.0), [np.eye(40)[7], np.eye(40)[1] - np.eye(40)[2]], math.sqrt(2 * 0.01 * 5)),
    (Torus(), [[0, 1, 0], [0, 0, 1], [0, 1, -1]], math.sqrt(2 * 0.01 * 0.5)),
    (Product(), [[0, 1, 0, 0, 0, 0], [0, 1, 0, 0, 0, 1]], math.sqrt(2 * 0.01)),
]


@pytest.mark.parametrize(("problem", "directions", "reach"), PROBLEMS, ids=["sphere", "large sphere", "torus", "product"])
@pytest.mark.parametrize("waypoints", [4, 10, 40])
def test_a_trajectory_stays_on_its_level_set_ten_times_beyond_its_linearisation(
    problem: LevelSet, directions: list[list[float]], reach: float, waypoints: int
) -> None:
    walker = Walker(problem)
    step = 10 * reach / waypoints
    trajectories = walker.walk(torch.tensor(np.array(directions)), step, waypoints)
    assert trajectories.ended == [""] * len(directions) and trajectories.reached == [waypoints] * len(directions)
    for t in range(len(directions)):
        assert float(walker.residual(trajectories.latents[t])[1].max()) <= 1
        # It gets ahead: waypoints are a step apart along the curve, so nearly that as the crow flies.
        path = torch.cat([torch.zeros(1, problem.k), trajectories.latents[t]]).diff(dim=0).norm(dim=1)
        assert float(path.max()) < 1.1 * step and float(path.min()) > 0.7 * step


def test_a_corrected_trajectory_on_a_sphere_is_its_great_circle() -> None:
    trajectories = Walker(Sphere(3, tolerance=1e-4)).walk(torch.tensor([[0.0, 1, 0]]), 0.1, 15)
    end = trajectories.latents[0, -1] + torch.tensor([1.0, 0, 0])
    assert abs(float(end[2])) < 1e-6
    assert abs(float(torch.atan2(end[1], end[0])) - 1.5) < 0.02


def test_an_easy_level_set_costs_about_an_evaluation_a_waypoint() -> None:
    walker = Walker(Sphere(3, radius=1e4))
    walker.walk(torch.tensor([[0.0, 1, 0]]), 0.1, 20)
    assert walker.points == 20


def test_a_wrong_jacobian_is_found_out_and_measured_anew() -> None:
    problem = Sphere(5)
    wrong = torch.tensor([[[30.0, 0, 80, 0, 0]]]).double()
    walker = Walker(problem)
    trajectories = walker.walk(torch.tensor([[0.0, 1, 0, 0, 0]]), 0.2, 5, jacobian=wrong)
    assert trajectories.reached == [5]
    assert float(walker.residual(trajectories.latents[0])[1].max()) <= 1


class Folded(LevelSet):
    """Four features whose Jacobian has changed altogether within a step."""

    def __init__(self) -> None:
        super().__init__(12, [0.02])
        draw = np.random.default_rng(3)
        self.inner, self.outer = draw.normal(size=(16, 12)), draw.normal(size=(4, 16)) / 4

    def features(self, y: np.ndarray) -> list[np.ndarray]:
        return [(np.sin(4 * y @ self.inner.T + 0.3) - np.sin(0.3)) @ self.outer.T]


def test_products_with_what_a_correction_left_lead_further_where_the_level_set_folds() -> None:
    reached = {}
    for derivatives in (False, True):
        walker = Walker(Folded(), derivatives=derivatives)
        start = walker.jacobian(torch.zeros(1, 12).double())[0]
        trajectories = walker.walk(torch.linalg.svd(start, full_matrices=True)[2][4:], 0.2, 6)
        assert (walker.products > 0) == derivatives
        for t, count in enumerate(trajectories.reached):
            assert not count or float(walker.residual(trajectories.latents[t, :count])[1].max()) <= 1
        reached[derivatives] = sum(trajectories.reached)
    assert reached[True] == 48 > reached[False]


def test_a_trajectory_turns_up_the_slope_of_what_varies() -> None:
    class Flat(LevelSet):
        def features(self, y: np.ndarray) -> list[np.ndarray]:
            return [y[:, :1]]

    walker = Walker(Flat(3, [0.1]))
    first = torch.tensor([[0.0, 1, 0.2]])
    straight = walker.walk(first, 0.1, 6).latents[0, -1]
    walker.varied = torch.diag(torch.tensor([100.0, 1, 50])).double()[None]
    turned = walker.walk(first, 0.1, 6).latents[0, -1]
    assert float(straight[2] / straight[1]) == pytest.approx(0.2)
    assert float(turned[2] / turned[1]) > 1 and abs(float(turned[0])) <= 0.1


def test_trajectories_do_not_depend_on_each_other() -> None:
    directions = torch.tensor([[0.0, 1, 0], [0, 0, 1], [0, 1, 1]])
    together = Walker(Torus()).walk(directions, 0.3, 6)
    for t in range(3):
        alone = Walker(Torus()).walk(directions[t : t + 1], 0.3, 6)
        torch.testing.assert_close(alone.latents[0], together.latents[t], rtol=0, atol=1e-9)


def test_a_trajectory_ends_where_it_is_no_longer_plausible_and_the_others_go_on() -> None:
    class Flat(LevelSet):
        def features(self, y: np.ndarray) -> list[np.ndarray]:
            return [y[:, :1]]

    trajectories = Walker(Flat(3, [0.1]), radius=0.35).walk(torch.tensor([[0.0, 1, 0], [0, 0, 0.1]]), 0.1, 3)
    assert trajectories.reached == [3, 3]
    trajectories = Walker(Flat(3, [0.1]), radius=0.25).walk(torch.tensor([[0.0, 1, 0]]), 0.1, 3)
    assert (trajectories.reached, trajectories.ended) == ([2], ["implausible"])


def test_a_trajectory_that_meets_the_border_of_what_is_plausible_goes_on_along_it() -> None:
    class Flat(LevelSet):
        def features(self, y: np.ndarray) -> list[np.ndarray]:
            return [y[:, :1] - 0.5 * y[:, 1:2]]

    walker = Walker(Flat(3, [0.01]), radius=0.5)
    walker.centre[2] = -0.3
    trajectories = walker.walk(torch.tensor([[0.5, 1, 0.4]]), 0.1, 8)
    lengths = (trajectories.latents[0] - walker.centre).norm(dim=1)
    assert trajectories.reached[0] == 8 and float(lengths.max()) <= 0.5 + 1e-6 and int((lengths > 0.499).sum()) >= 4
    assert float(walker.residual(trajectories.latents[0])[1].max()) <= 1
    gaps = trajectories.latents[0].diff(dim=0).norm(dim=1)
    assert float(gaps.min()) > 0.08 and float(gaps.max()) < 0.11


def test_a_tolerance_that_no_step_can_meet_ends_in_an_underflow() -> None:
    class Wall(LevelSet):
        """Steps up at once in every direction, with no slope that leads back."""

        def features(self, y: np.ndarray) -> list[np.ndarray]:
            return [(np.linalg.norm(y, axis=1, keepdims=True) > 1e-3).astype(float)]

    flat = torch.zeros(1, 1, 3).double()
    trajectories = Walker(Wall(3, [0.01])).walk(torch.tensor([[0.0, 1, 0]]), 0.1, 3, jacobian=flat)
    assert (trajectories.reached, trajectories.ended) == ([0], ["step_underflow"])


def test_a_feature_that_cannot_be_measured_ends_the_trajectory_with_its_reason() -> None:
    class Cliff(LevelSet):
        def features(self, y: np.ndarray) -> list[np.ndarray]:
            return [np.where(y[:, 1:2] > 0.15, np.nan, y[:, :1])]

    trajectories = Walker(Cliff(3, [0.1])).walk(torch.tensor([[0.0, 1, 0], [0, 0, 1]]), 0.1, 3)
    assert (trajectories.reached, trajectories.ended) == ([1, 3], ["not_finite", ""])


def test_a_direction_that_is_held_has_nowhere_to_go() -> None:
    class Bend(LevelSet):
        """The level set is a line that ends at a wall; beyond it, only moving on is held."""

        def features(self, y: np.ndarray) -> list[np.ndarray]:
            return [np.hstack([y[:, :1], 100 * np.maximum(y[:, 1:] - 0.15, 0)])]

    trajectories = Walker(Bend(2, [0.01])).walk(torch.tensor([[0.0, 1]]), 0.1, 4)
    assert trajectories.reached == [1] and trajectories.ended[0] in ("turned", "step_underflow")


@pytest.mark.parametrize(("m", "k"), [(3, 7), (7, 3)])
def test_a_correction_takes_away_what_it_can_reach(m: int, k: int) -> None:
    draw = torch.Generator().manual_seed(0)
    j = 1e4 * torch.randn(2, m, k, generator=draw).double()
    move = torch.randn(2, k, 1, generator=draw).double()
    torch.testing.assert_close(j @ back_all(j, j @ move), -(j @ move), rtol=1e-6, atol=1e-3)


def test_a_correction_does_not_go_far_for_little() -> None:
    j = torch.tensor([[[100.0, 0], [0, 1e-3]]]).double()
    move = back(j, torch.ones(1, 2).double())[0]
    torch.testing.assert_close(move, torch.tensor([-0.01, 0.0]).double(), rtol=1e-4, atol=0.02)


def entangled(folder: Path, **changes: object) -> Path:
    """A world whose class is decided by all of the image, so that nothing varies without it."""
    path = world(folder, **changes)
    torchscript(TinyClassifier(everywhere=True), folder / "c.pt")
    return path


def drifts_and_effects(path: Path, method: str, seeds: range) -> tuple[np.ndarray, np.ndarray]:
    spec = load_spec(path, [f"trajectory.method={method}"])
    candidates, _ = run_seeds(prepare(spec, "cpu"), seeds)
    measured = [c for c in candidates if c.role == "variant" and np.isfinite(c.drifts["class"])]
    return np.array([c.drifts["class"] for c in measured]), np.array([c.effects["look"] for c in measured])


def test_corrected_holds_better_than_local_at_no_less_effect(tmp_path: Path) -> None:
    trajectory = {"directions": 2, "waypoints": 3, "step": 0.3}
    path = entangled(tmp_path, held={"class": 0.02}, trajectory=trajectory, judge=None)
    ours, effect = drifts_and_effects(path, "corrected", range(6))
    theirs, their_effect = drifts_and_effects(path, "local", range(6))
    assert np.median(ours) < 0.1 * np.median(theirs)
    assert np.median(effect) > 0.8 * np.median(their_effect)
    assert ours.max() <= 0.02


@pytest.mark.parametrize("jacobian", ["reverse", "forward", "differences"])
def test_every_way_to_a_jacobian_holds(tmp_path: Path, jacobian: str) -> None:
    trajectory = {"directions": 2, "waypoints": 2, "step": 0.2, "jacobian": jacobian}
    path = entangled(tmp_path, held={"class": 0.03}, trajectory=trajectory, judge=None)
    drifts, _ = drifts_and_effects(path, "corrected", range(4))
    assert len(drifts) > 4 * 2 * 2 and drifts.max() <= 0.03


def test_a_black_box_is_held_by_differences(tmp_path: Path) -> None:
    attributes = {"columns": {"kind": "callable", "target": "tests.support.worlds:mean_by_numpy"}, "look": {"kind": "pixels"}}
    changes = {"attributes": attributes, "label": "none", "held": {"columns": 0.05}, "judge": None}
    path = world(tmp_path, **changes, trajectory={"directions": 2, "waypoints": 2, "step": 0.2})
    job = prepare(load_spec(path), "cpu", allow_code=True)
    assert not job.derivatives.smooth and set(job.derivatives.modes.values()) == {"differences"}
    candidates, _ = run_seeds(job, range(4))
    drifts = [c.drifts["columns"] for c in candidates if c.role == "variant"]
    assert np.nanmax(drifts) <= 0.05 and np.isfinite(drifts).mean() > 0.7


def test_holding_a_wide_region_does_not_undo_the_step(tmp_path: Path) -> None:
    """The left half's pixels are held and the right half's varied; in this world they have latents of their own."""
    attributes = {
        "left": {"kind": "pixels", "region": {"box": [0, 0, 1, 0.5]}},
        "right": {"kind": "pixels", "region": {"box": [0, 0.5, 1, 1]}},
    }
    changes = {"attributes": attributes, "label": "none", "held": {"left": 0.02}, "varied": {"right": 0.05}, "judge": None}
    effects = {}
    for method in ("corrected", "linear"):
        path = world(tmp_path / method, **changes, trajectory={"method": method, "directions": 2, "waypoints": 3, "step": 0.2})
        candidates, _ = run_seeds(prepare(load_spec(path), "cpu"), range(4))
        variants = [c for c in candidates if c.role == "variant"]
        effects[method] = np.median([c.effects["right"] for c in variants])
        if method == "corrected":
            assert np.nanmax([c.drifts["left"] for c in variants]) <= 0.02
    assert effects["corrected"] > 0.8 * effects["linear"]


def test_variants_do_not_depend_on_which_seeds_share_a_batch(tmp_path: Path) -> None:
    spec = load_spec(entangled(tmp_path, held={"class": 0.05}, trajectory={"directions": 2, "waypoints": 3, "step": 0.3}))
    together = {c.key: c for c in run_seeds(prepare(spec, "cpu", 64), [3, 4, 5])[0]}
    for seed in (3, 4, 5):
        for c in run_seeds(prepare(spec, "cpu", 5), [seed])[0]:
            other = together[c.key]
            assert c.reason == other.reason
            np.testing.assert_allclose(c.latent, other.latent, atol=1e-3)
            # A pixel at the edge between two of its 256 levels may fall to the other one.
            np.testing.assert_allclose(list(c.drifts.values()), list(other.drifts.values()), atol=5e-3)


def test_holding_everything_rejects_every_candidate_with_a_reason(tmp_path: Path) -> None:
    attributes = {"all": {"kind": "pixels"}, "look": {"kind": "pixels", "lowpass": 1}}
    changes = {"attributes": attributes, "label": "none", "held": {"all": 0.05}, "judge": None}
    trajectory = {"directions": 2, "waypoints": 2, "step": 0.2}
    path = world(tmp_path, **changes, varied={"look": 0.05}, trajectory=trajectory)
    candidates, _ = run_seeds(prepare(load_spec(path), "cpu"), range(3))
    variants = [c for c in candidates if c.role == "variant"]
    assert len(variants) == 3 * 2 * 2 * 2
    assert {c.reason for c in variants} == {"turned"}


@pytest.mark.parametrize("directions_by", ["rayleigh", "maxc", "minf", "rand"])
def test_every_choice_of_directions_is_held(tmp_path: Path, directions_by: str) -> None:
    trajectory = {"directions": 2, "waypoints": 2, "step": 0.2, "directions_by": directions_by}
    drifts, _ = drifts_and_effects(
        entangled(tmp_path, held={"class": 0.05}, trajectory=trajectory, judge=None), "corrected", range(4)
    )
    assert len(drifts) > 20 and drifts.max() <= 0.05
