"""`keep`: which of a seed's variants lie farthest apart, by another program and in whole jobs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from reds_core import augment, load_spec
from reds_core.jobs.prepare import prepare
from reds_core.spec.fields import Goal
from reds_core.types import Candidate
from reds_core.variants.run_seeds import run_seeds
from reds_core.variants.verdicts import Measured, farthest_apart, verdicts
from tests.support.worlds import world

HALVES = {
    "class": {"kind": "classifier", "model": {"kind": "torchscript", "path": "c.pt"}, "names": ["a", "b", "c"]},
    "left": {"kind": "pixels", "region": {"box": [0, 0, 1, 0.5]}},
    "right": {"kind": "pixels", "region": {"box": [0, 0.5, 1, 1]}},
}
KEPT = {
    "attributes": HALVES,
    "held": {"class": 5.0},
    "varied": {"left": 0.01, "right": 0.01},
    "trajectory": {"method": "linear", "directions_by": "rand", "directions": 2, "waypoints": 3, "step": 0.2},
    "judge": None,
}


def measured_at(places: dict[str, np.ndarray]) -> Measured:
    """Returns variants whose varied features lie at these places, (n, p) by attribute, from a seed at 0."""
    apart = np.stack([np.linalg.norm(x[:, None] - x, axis=2) for x in places.values()]).max(0)
    effects = {name: np.linalg.norm(x, axis=1).tolist() for name, x in places.items()}
    return Measured({}, effects, [True] * len(apart), torch.from_numpy(apart))


def by_definition(places: dict[str, np.ndarray], count: int) -> list[int]:
    """Returns farthest points by comparing every distance anew: the seed's own image is the first of them, and is not counted."""

    def between(i: int, j: int) -> float:
        """Returns the largest distance in any attribute; -1 is the seed."""
        return max(float(np.linalg.norm((x[i] if i >= 0 else 0) - (x[j] if j >= 0 else 0))) for x in places.values())

    chosen, n = [-1], len(next(iter(places.values())))
    while len(chosen) <= min(count, n - 1):
        distances = [-1.0 if i in chosen else min(between(i, j) for j in chosen) for i in range(n)]
        chosen.append(distances.index(max(distances)))
    return chosen[1:] if count < n else [*chosen[1:], *(i for i in range(n) if i not in chosen)]


@pytest.mark.parametrize("count", [1, 4, 19, 20, 50])
@pytest.mark.parametrize("attributes", [{"look": 3}, {"hair": 2, "hat": 5}])
def test_the_order_is_that_of_the_definition(attributes: dict[str, int], count: int) -> None:
    for seed in range(5):
        draw = np.random.RandomState(seed)
        places = {name: draw.randn(20, size) for name, size in attributes.items()}
        found = measured_at(places)
        assert farthest_apart(found, range(20), count) == by_definition(places, count)
        goals = {name: Goal(minimum=1e-9) for name in attributes}
        kept = [i for i, reason in enumerate(verdicts(found, {}, goals, 0.0, count)) if not reason]
        assert kept == sorted(by_definition(places, count))


def test_a_copy_is_chosen_last_and_of_equal_distances_the_earlier() -> None:
    # Corners of a square around the seed, after a copy of one: no corner is farther from another than from the seed.
    corners = np.array([[1.0, 1.0], [1.0, 1.0], [1.0, -1.0], [-1.0, -1.0], [-1.0, 1.0]])
    found = measured_at({"look": corners})
    assert farthest_apart(found, range(5), 5) == [0, 2, 3, 4, 1]
    assert farthest_apart(found, [4, 3, 2, 1], 2) == [1, 2]


def test_an_attribute_that_moves_more_decides() -> None:
    places = {"hair": np.array([[1.0], [1.1], [1.2]]), "hat": np.array([[0.0], [2.0], [0.0]])}
    assert farthest_apart(measured_at(places), range(3), 2) == [1, 2]


def variants(path: Path, seeds: range | list[int] = range(4), batch: int | None = None) -> list[Candidate]:
    candidates, _ = run_seeds(prepare(load_spec(path), "cpu", batch), seeds)
    return [c for c in candidates if c.role == "variant"]


def changed(tmp_path: Path, **changes: Any) -> Path:
    return world(tmp_path, **{**KEPT, **changes})


def test_a_job_keeps_as_many_of_every_seed_and_calls_the_others_duplicates(tmp_path: Path) -> None:
    free, kept = (variants(changed(tmp_path / str(n), keep=n)) for n in (None, 3))
    for seed in range(4):
        of_seed = {c.key: c for c in free if c.seed == seed and c.accepted}
        now = {c.key: c for c in kept if c.seed == seed}
        accepted = [c for c in now.values() if c.accepted]
        assert len(of_seed) > 3 == len(accepted) and of_seed.keys() >= {c.key for c in accepted}
        assert {now[key].reason for key in of_seed} == {"", "duplicate"}
        # The first of all points is the seed's own image, so that the variant farthest from it is among them.
        farthest = max(of_seed.values(), key=lambda c: max(c.effects.values()))
        assert now[farthest.key].accepted
    figures = [[(c.key, c.drifts, c.effects) for c in found] for found in (free, kept)]
    assert figures[0] == figures[1]


def test_what_is_kept_does_not_depend_on_what_it_was_computed_with(tmp_path: Path) -> None:
    path = changed(tmp_path, keep=2)
    together = {c.key: c.reason for c in variants(path)}
    assert {c.key: c.reason for c in variants(path, batch=5)} == together
    alone = {c.key: c.reason for seed in range(4) for c in variants(path, [seed], batch=1)}
    assert alone == together


def test_without_a_scheduler_as_many_are_kept(tmp_path: Path) -> None:
    found = list(augment(load_spec(changed(tmp_path, keep=1)), range(3), device="cpu"))
    for seed in range(3):
        assert [c.role for c in found if c.seed == seed and c.accepted] == ["seed", "variant"]


def test_fewer_accepted_than_to_be_kept_are_all_kept(tmp_path: Path) -> None:
    few = {"left": 0.5, "right": 0.01}
    free, kept = ([c.reason for c in variants(changed(tmp_path / str(n), varied=few, keep=n))] for n in (None, 12))
    assert free == kept and 0 < free.count("") < len(free)
