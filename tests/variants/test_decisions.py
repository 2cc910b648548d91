"""Held decisions in a world of networks: what is left behind the limit, whose class is held, what a sample says of it."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from reds_core import load_spec
from reds_core.jobs.job import Work
from reds_core.jobs.prepare import prepare
from reds_core.runs.samples import files_of
from reds_core.trajectories.corrected import ENOUGH, ENOUGH_BETWEEN
from reds_core.types import Candidate, PassCounter
from reds_core.variants.limits import BOUND_FROM_BELOW, FROM_BELOW, Decided, log_odds, probability
from reds_core.variants.origins import origins_of
from reds_core.variants.run_seeds import run_seeds
from tests.support.worlds import TinyClassifier, TinyConditional, torchscript, world

TRAJECTORY = {"directions": 2, "waypoints": 4, "step": 0.4}
SURE = 40.0  # scales the tiny classifier's scores, so that it decides at all


class SureClassifier(TinyClassifier):
    """Decides by all of the image, and firmly."""

    def __init__(self) -> None:
        super().__init__(everywhere=True)
        self.weight.data *= SURE / 8


def sure(folder: Path, **changes: Any) -> Path:
    """A world whose classifier is firm, and whose judge is the same network."""
    changes = {"held": {"class": {"decision": 0.9}}, "trajectory": TRAJECTORY, "duplicates": 0.0, **changes}
    path = world(folder, **changes)
    torchscript(SureClassifier(), folder / "c.pt")
    torchscript(SureClassifier(), folder / "j.pt")
    return path


def variants(path: Path, seeds: range = range(8), **options: Any) -> list[Candidate]:
    candidates, _ = run_seeds(prepare(load_spec(path), "cpu", **options), seeds)
    return [c for c in candidates if c.role == "variant"]


def test_the_label_stays_though_straight_lines_lose_it(tmp_path: Path) -> None:
    flipped = {}
    for method in ("corrected", "linear"):
        found = variants(sure(tmp_path / method, trajectory={**TRAJECTORY, "method": method}))
        measured = [c for c in found if math.isfinite(c.drifts["class"])]
        flipped[method] = np.mean([not c.judge_agrees for c in measured])
        if method == "corrected":
            assert len(measured) > 0.9 * len(found)
            within = [c.drifts["class"] <= c.tolerances["class"] for c in measured]
            assert np.mean(within) > 0.95
    assert flipped["corrected"] == 0 < flipped["linear"]


def test_a_decision_lets_more_vary_than_a_level(tmp_path: Path) -> None:
    effects = {}
    for name, limit in (("decision", {"decision": 0.6}), ("level", 0.02)):
        found = variants(sure(tmp_path / name, held={"class": limit}))
        effects[name] = np.nanmedian([c.effects["look"] for c in found])
    assert effects["decision"] > 1.1 * effects["level"]


def test_a_black_box_holds_its_decision(tmp_path: Path) -> None:
    path = sure(tmp_path, trajectory={**TRAJECTORY, "jacobian": "differences"})
    measured = [c for c in variants(path) if math.isfinite(c.drifts["class"])]
    assert len(measured) > 40 and all(c.judge_agrees for c in measured)


def test_a_level_and_a_decision_stand_side_by_side(tmp_path: Path) -> None:
    attributes = {
        "class": {"kind": "classifier", "model": {"kind": "torchscript", "path": "c.pt"}, "names": ["a", "b", "c"]},
        "left": {"kind": "pixels", "region": {"box": [0, 0, 1, 0.5]}},
        "look": {"kind": "pixels"},
    }
    path = sure(tmp_path, attributes=attributes, held={"class": {"decision": 0.9}, "left": 0.1})
    accepted = [c for c in variants(path) if c.accepted]
    assert len(accepted) > 20
    assert all(c.drifts["left"] <= 0.1 and c.drifts["class"] <= c.tolerances["class"] for c in accepted)


def test_the_drift_is_the_probability_lost_and_its_tolerance_what_the_seed_may_lose(tmp_path: Path) -> None:
    job = prepare(load_spec(sure(tmp_path)), "cpu")
    candidates, _ = run_seeds(job, range(4))
    for c in candidates:
        if c.role == "seed":
            p = float(torch.softmax(origin_scores(job, c.seed), 0).max())
            assert c.tolerances["class"] == pytest.approx(max(0.0, p - 0.9), abs=1e-6) and c.drifts["class"] == 0.0
        if c.accepted:
            record = json.loads(files_of(c, job, "d")["json"])["held"]["class"]
            assert record == {"drift": c.drifts["class"], "tolerance": c.tolerances["class"]}
            assert isinstance(record["drift"], float) and isinstance(record["tolerance"], float)
            assert record["drift"] <= record["tolerance"]
    assert job.spreads["class"] == 1.0 and job.units["class"] == "probability of the label"


def origin_scores(job: Any, seed: int) -> torch.Tensor:
    return origins_of(Work(job, PassCounter()), [seed]).features["class"][0]


def test_without_a_label_the_classifier_holds_its_own_decision(tmp_path: Path) -> None:
    job = prepare(load_spec(sure(tmp_path, label="none", judge=None)), "cpu")
    origins = origins_of(Work(job, PassCounter()), range(4))
    limit = origins.limits["class"]
    assert isinstance(limit, Decided) and limit.labels.tolist() == origins.features["class"].argmax(1).tolist()
    assert all(c.label == -1 for c in run_seeds(job, range(4))[0])


def test_the_condition_is_held_if_the_classifier_knows_it(tmp_path: Path) -> None:
    classes = {"kind": "torchscript", "path": "g.pt", "latent_dim": 6, "output_range": [-1, 1], "classes": ["a", "b", "c"]}
    for names, of_the_label in ((["a", "b", "c"], True), (["x", "y", "z"], False)):
        attributes = {
            "class": {"kind": "classifier", "model": {"kind": "torchscript", "path": "c.pt"}, "names": names},
            "look": {"kind": "pixels"},
        }
        folder = tmp_path / names[0]
        path = sure(folder, generator=classes, attributes=attributes, label="condition", judge=None)
        torchscript(TinyConditional(), folder / "g.pt")
        origins = origins_of(Work(prepare(load_spec(path), "cpu"), PassCounter()), range(6))
        limit = origins.limits["class"]
        assert isinstance(limit, Decided)
        own = origins.features["class"].argmax(1).tolist()
        assert limit.labels.tolist() == (origins.labels if of_the_label else own) and own != origins.labels


def test_a_seed_below_the_bound_is_its_own_limit_and_is_led_up() -> None:
    limit = Decided(torch.tensor([0, 0]), torch.tensor([0.5, 0.99]).double(), 0.9)
    assert limit.least.tolist() == [0.5, 0.9] and limit.tolerances == pytest.approx([0.0, 0.09])
    below, above = torch.tensor([0, 0, 0]), torch.tensor([1, 1, 1])
    # From its own log-odds of 0 up to those of the bound, which it must reach at a waypoint, and beyond.
    odds = torch.tensor([[0.0], [math.log(9)], [math.log(9) + 1]])
    led = limit.residual(odds, below)
    torch.testing.assert_close(led[:2], torch.tensor([[FROM_BELOW], [BOUND_FROM_BELOW]]))
    assert ENOUGH < FROM_BELOW < ENOUGH_BETWEEN and led[2] < BOUND_FROM_BELOW < ENOUGH
    # One with room to spare is at its limit at the bound, and well inside a unit of log-odds above.
    torch.testing.assert_close(limit.residual(odds, above)[1:], torch.tensor([[1.0], [0.0]]))
    assert limit.drifts(torch.tensor([[5.0, 0.0]]), 0) == [0.0]


def test_log_odds_are_exact_where_probabilities_saturate() -> None:
    scores = torch.tensor([[40.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    odds = log_odds(scores, torch.tensor([0, 2]))
    torch.testing.assert_close(odds, torch.tensor([40 - math.log(2), 1 - math.log(2)]))
    torch.testing.assert_close(probability(scores, torch.tensor([0, 2])), odds.double().sigmoid())
