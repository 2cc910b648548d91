"""Other settings of a spec: which are tried, and which one is recommended."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from reds_core import load_spec
from reds_core.jobs.prepare import prepare
from reds_core.studies.settings import Setting, other_settings, recommended, setting_of
from reds_core.variants.run_seeds import run_seeds
from tests.support.worlds import world

TRAJECTORY = {"directions": 2, "waypoints": 3, "step": 0.1}


def tried(path: Path, *overrides: str) -> list[Setting]:
    job = prepare(load_spec(path, overrides), "cpu")
    as_it_is = setting_of(job, *run_seeds(job, range(4)))
    return [as_it_is, *other_settings(job, range(4), as_it_is)]


def test_a_spec_that_reaches_its_waypoints_is_tried_with_more(tmp_path: Path) -> None:
    found = tried(world(tmp_path, trajectory=TRAJECTORY))
    assert [s.changes for s in found] == [
        (), ("trajectory.step=0.2",), ("trajectory.step=0.2", "held.class=0.4"), ("trajectory.waypoints=6",),
    ]  # fmt: skip
    assert all(0 <= s.accepted <= s.reached <= 1 and s.equivalents > 0 for s in found)
    assert found[1].effects["look"] > found[0].effects["look"]


def test_a_decision_is_tried_with_a_lower_bound(tmp_path: Path) -> None:
    assert tried(world(tmp_path, held={"class": {"decision": 0.9}}, trajectory=TRAJECTORY))[2].changes == (
        "trajectory.step=0.2", "held.class.decision=0.8",
    )  # fmt: skip


def test_a_spec_that_hardly_reaches_its_waypoints_is_tried_with_shorter_steps(tmp_path: Path) -> None:
    attributes = {"all": {"kind": "pixels"}, "look": {"kind": "pixels", "lowpass": 1}}
    path = world(tmp_path, attributes=attributes, label="none", held={"all": 0.05}, judge=None, trajectory=TRAJECTORY)
    found = tried(path)
    assert [s.changes for s in found[1:]] == [
        ("trajectory.step=0.05",), ("held.all=0.1",), ("trajectory.step=0.05", "held.all=0.1"),
    ]  # fmt: skip
    assert found[0].reached == 0 and found[0].equivalents == math.inf and math.isnan(found[0].effects["look"])
    assert math.isnan(found[0].agreed)


def test_what_is_tried_is_what_the_changes_say(tmp_path: Path) -> None:
    path = world(tmp_path, trajectory=TRAJECTORY)
    for setting in tried(path)[1:]:
        again = tried(path, *setting.changes)[0]
        assert again.effects["look"] == pytest.approx(setting.effects["look"], abs=1e-4)


def setting(effect: float, equivalents: float, accepted: float = 1.0, agreed: float = 1.0) -> Setting:
    return Setting((), 1.0, accepted, {"look": effect}, agreed, float(equivalents))


def test_the_largest_effect_that_is_worth_its_cost_is_recommended() -> None:
    small, large, costly = setting(0.2, 10), setting(0.4, 18), setting(0.6, 30)
    assert recommended([small, large, costly]) is large
    assert recommended([small, setting(0.5, 11, accepted=0.3), setting(0.5, 11, agreed=0.9)]) is small
    assert recommended([setting(0.2, 10, agreed=math.nan)]) is not None
    assert recommended([setting(math.nan, math.inf, accepted=0.0)]) is None
