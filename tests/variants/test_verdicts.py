"""Acceptance: each reason by a case made for it, in the order that they apply."""

from __future__ import annotations

import torch

from reds_core.spec.fields import Goal
from reds_core.variants.spreads import distances, median_distance
from reds_core.variants.verdicts import decide, verdicts

HELD, VARIED = {"id": 0.1, "place": 0.2}, {"hair": Goal(minimum=0.3)}
FAR = torch.full((9, 9), 5.0)


def one(drift: float, place: float, effect: float, agrees: bool = True) -> str:
    return verdicts({"id": [drift], "place": [place]}, {"hair": [effect]}, [agrees], FAR[:1, :1], HELD, VARIED, 0.02)[0]


def test_the_first_reason_that_applies_is_given() -> None:
    nan = float("nan")
    assert one(0.1, 0.2, 0.3) == ""
    assert one(0.101, 0.2, 0.3) == "held:id"
    assert one(0.0, 0.21, 0.0) == "held:place"
    assert one(0.0, 0.0, 0.29) == "varied:hair"
    assert one(0.0, 0.0, 0.5, agrees=False) == "judge"
    assert one(nan, 0.0, 0.5) == "not_finite" == one(0.0, 0.0, nan, agrees=False)


def test_a_duplicate_is_one_of_an_accepted_variant_only() -> None:
    apart = torch.tensor([[0.0, 0.01, 0.03], [0.01, 0.0, 0.01], [0.03, 0.01, 0.0]])
    fine = {"id": [0.0] * 3, "place": [0.0] * 3}
    assert verdicts(fine, {"hair": [0.5] * 3}, [True] * 3, apart, HELD, VARIED, 0.02) == ["", "duplicate", ""]
    assert verdicts(fine, {"hair": [0.1, 0.5, 0.5]}, [True] * 3, apart, HELD, VARIED, 0.02)[1:] == ["", "duplicate"]
    assert verdicts(fine, {"hair": [0.5] * 3}, [True] * 3, apart, HELD, VARIED, 0.0) == ["", "", ""]


def test_a_spread_is_the_median_over_all_pairs() -> None:
    x = torch.tensor([[0.0], [1.0], [3.0], [float("nan")]])
    assert median_distance(x) == 2.0  # of 1, 2 and 3
    assert median_distance(x[:1]) != median_distance(x[:1])


def test_distances_are_in_spreads() -> None:
    assert distances(torch.tensor([[3.0, 4.0], [0.0, 0.0]]), torch.zeros(1, 2), 2.0) == [2.5, 0.0]


def test_a_decision_that_is_not_finite_is_marked() -> None:
    d = decide(torch.tensor([[0.0, 2.0], [float("nan"), 1.0]]))
    assert d.labels[0] == 1 and 0.5 < d.confidences[0] < 1 and d.finite == [True, False]
