"""Seeds alone: labelled and judged like any other, at one pass an image, a batch at a time."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from reds_core.errors import UserError
from reds_core.jobs.prepare import prepare
from reds_core.spec.load import load_spec
from reds_core.studies.compare import compare
from reds_core.studies.forecast import forecast
from reds_core.types import Passes
from reds_core.variants.run_seeds import run_seeds
from tests.support.worlds import TinyClassifier, torchscript, world
from tests.variants.test_own_images import COUNT, made, of, own_world, photographs

ALONE = {"directions": 0}


def other_judge(folder: Path) -> dict[str, object]:
    """A judge that contradicts some seeds."""
    folder.mkdir(exist_ok=True)
    return {"model": {"kind": "torchscript", "path": str(torchscript(TinyClassifier(seed=9), folder / "other.pt"))}}


def test_a_seed_is_what_it_is_in_a_run_that_walks_and_costs_one_pass(tmp_path: Path) -> None:
    judge = other_judge(tmp_path)
    alone, passes = made(world(tmp_path / "alone", trajectory=ALONE, judge=judge))
    seeds = of(made(world(tmp_path / "walks", judge=judge))[0], "seed")
    assert passes == Passes(forward=6) and [c.key for c in alone] == [c.key for c in seeds]
    for one, other in zip(alone, seeds, strict=True):
        assert (one.reason, one.label, one.judge_label) == (other.reason, other.label, other.judge_label)
        assert (one.pixels == other.pixels).all() and (one.latent == other.latent).all()
        assert one.drifts == one.effects == one.tolerances == {}
    assert {c.reason for c in alone} == {"", "seed_label"}


def test_nothing_is_measured_that_is_not_needed(tmp_path: Path) -> None:
    job = prepare(load_spec(world(tmp_path, trajectory=ALONE)), "cpu")
    assert job.spreads == {} and job.tangent is None and job.passes_once == Passes(forward=8)


@pytest.mark.parametrize("images", [1, 4])
def test_however_many_seeds_a_shard_holds_they_are_rendered_and_judged_a_batch_at_a_time(tmp_path: Path, images: int) -> None:
    job = prepare(load_spec(world(tmp_path, trajectory=ALONE)), "cpu", batch=images)
    networks, seen = job.networks, []
    judge = networks.judge
    assert judge is not None

    def watched(x: torch.Tensor) -> torch.Tensor:
        seen.append(len(x))
        return judge(x)

    candidates, _ = run_seeds(replace(job, networks=replace(networks, judge=watched)), range(10))
    assert max(seen) == images and sum(seen) == len(candidates) == 10


def test_a_forecast_counts_seeds(tmp_path: Path) -> None:
    job = prepare(load_spec(world(tmp_path, trajectory=ALONE, seeds={"count": 100})), "cpu")
    found = forecast(job, range(4))
    assert (found.tried, found.tried_seeds, found.short_seeds, found.equivalents) == (4, 4, 0, 100)
    assert found.attributes == [] and found.by_waypoint == []


@pytest.mark.parametrize("held", [{"class": 0.2}, None])
def test_own_images_give_themselves_and_their_reconstructions(tmp_path: Path, held: object) -> None:
    photographs(tmp_path / "data")
    candidates, _ = made(own_world(tmp_path, trajectory=ALONE, held=held, duplicates=None))
    seeds = of(candidates, "seed")
    assert len(of(candidates, "source")) == len(seeds) == COUNT and len(candidates) == 2 * COUNT
    for c in seeds:
        assert c.accepted == (c.fit <= 0.3 and all(v <= 0.2 for v in c.drifts.values()))
    assert sum(c.accepted for c in seeds) >= COUNT - 1 and all(len(c.drifts) == (held is not None) for c in seeds)


def test_methods_cannot_be_compared_where_there_are_no_trajectories(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="0 makes seeds alone, and methods differ in where they lead"):
        compare(load_spec(world(tmp_path, trajectory=ALONE)), ["corrected"], "cpu")
