"""What is measured once, on reference images."""

from __future__ import annotations

import torch

from reds_core.jobs.reference import median_distance


def test_a_spread_is_the_median_over_all_pairs() -> None:
    x = torch.tensor([[0.0], [1.0], [3.0], [float("nan")]])
    assert median_distance(x) == 2.0  # of 1, 2 and 3
    assert median_distance(x[:1]) != median_distance(x[:1])
