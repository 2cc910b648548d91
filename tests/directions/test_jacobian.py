"""Jacobians: the three modes agree with each other and with closed forms, and work is counted."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from reds_core.directions.evaluator import Evaluator, Measure
from reds_core.directions.jacobian import Derive, Mode, by_forward, by_reverse, derive_by, grams, one_sided, two_sided
from reds_core.directions.modes import allowed_modes, cheapest
from reds_core.directions.precision import float32_as
from reds_core.types import PassCounter, Passes
from tests.support.problems import published_differences

D = 5
WEIGHTS = torch.randn(7, D, generator=torch.Generator().manual_seed(0))


def measure(points: Tensor, rows: Tensor) -> list[Tensor]:
    """A linear attribute and a curved one, scaled by the row that a point belongs to."""
    scale = (rows + 1.0)[:, None]
    return [points @ WEIGHTS.T * scale, torch.sin(points[:, :2]) * scale]


def exact(z: Tensor, row: int) -> list[Tensor]:
    curved = torch.zeros(2, D)
    curved[0, 0], curved[1, 1] = torch.cos(z[0]), torch.cos(z[1])
    return [(row + 1) * WEIGHTS, (row + 1) * curved]


def evaluator(measured: Measure = measure, batch: int = 100) -> Evaluator:
    return Evaluator(measured, batch, PassCounter())


@pytest.mark.parametrize("mode", ["reverse", "forward", "differences"])
@pytest.mark.parametrize("batch", [1, 3, 100])
def test_every_mode_gives_the_exact_gram_at_any_batch_size(mode: Mode, batch: int) -> None:
    z, rows = torch.randn(4, D, generator=torch.Generator().manual_seed(1)), torch.tensor([0, 1, 0, 2])
    found = grams(evaluator(batch=batch), z, rows, derive_by(mode, two_sided(1e-2)))
    for i in range(4):
        for a, j in zip(found, exact(z[i], int(rows[i])), strict=True):
            torch.testing.assert_close(a[i], j.double().T @ j.double(), atol=2e-3, rtol=2e-3)


@pytest.mark.parametrize("both", [True, False])
def test_differences_are_the_published_ones(both: bool) -> None:
    z = torch.tensor([[0.3, -0.2, 0.5, 1.0, 0.1]])
    (_, a) = grams(evaluator(), z, torch.zeros(1, dtype=torch.long), (two_sided if both else one_sided)(0.4))
    j = published_differences(lambda x: np.sin(x[:2]), z[0].double().numpy(), 0.4, both)
    torch.testing.assert_close(a[0], torch.from_numpy(j.T @ j), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("derive", "expected"),
    [
        (by_reverse, Passes(forward=3, reverse=3 * 9)),
        (by_forward, Passes(forward=3, forward_mode=3 * D)),
        (two_sided(0.1), Passes(forward=3 * 2 * D)),
        (one_sided(0.1), Passes(forward=3 * (D + 1))),
    ],
)
def test_passes_are_counted_per_image(derive: Derive, expected: Passes) -> None:
    counted = evaluator(batch=2)
    grams(counted, torch.randn(3, D), torch.zeros(3, dtype=torch.long), derive)
    assert counted.counter.total == expected


def test_passes_add_up() -> None:
    counter = PassCounter()
    counter.add(forward=2, reverse=3)
    before = counter.total
    counter.add(forward=1, forward_mode=4)
    assert counter.total == Passes(3, 4, 3) == before + Passes(1, 4, 0) and before == Passes(2, 0, 3)
    assert counter.total.equivalents == 3 + 2 * 4 + 2 * 3


def test_the_cheapest_mode_is_chosen() -> None:
    every: list[Mode] = ["reverse", "forward", "differences"]
    assert cheapest([10], 512, every, two_sided=False) == "reverse"
    assert cheapest([1024, 10], 128, every, two_sided=False) == "differences"
    assert cheapest([1024], 128, every, two_sided=True) == "forward"
    assert cheapest([10], 512, ["differences"], two_sided=False) == "differences"


def test_a_feature_without_derivatives_is_left_to_differences() -> None:
    def black_box(points: Tensor, rows: Tensor) -> list[Tensor]:
        return [torch.from_numpy(points.numpy() ** 2)]

    def rounded(points: Tensor, rows: Tensor) -> list[Tensor]:
        return [(points * 1000).round() / 1000]

    z, rows = torch.randn(2, D), torch.zeros(2, dtype=torch.long)
    for feature, why in ((black_box, "Error"), (rounded, "off by")):
        found = allowed_modes(feature, z, rows, 0.1)
        assert found["differences"] == "" and why in found["reverse"] and found["forward"]
    assert set(allowed_modes(measure, z, rows, 0.1).values()) == {""}


def test_a_feature_that_cannot_be_measured_makes_its_gram_not_finite() -> None:
    def sometimes(points: Tensor, rows: Tensor) -> list[Tensor]:
        return [torch.where(points > 0.5, torch.nan, points)]

    z = torch.tensor([[0.45, 0, 0, 0, 0], [0.0, 0, 0, 0, 0]])
    (a,) = grams(evaluator(sometimes, 10), z, torch.zeros(2, dtype=torch.long), one_sided(0.1))
    assert not torch.isfinite(a[0]).all() and torch.isfinite(a[1]).all()


def test_only_products_run_in_reduced_precision() -> None:
    conv, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    seen: dict[str, set[tuple[bool, bool]]] = {"forward": set(), "backward": set()}

    def note(when: str) -> None:
        seen[when].add((conv.allow_tf32, matmul.allow_tf32))

    def watched(points: Tensor, rows: Tensor) -> list[Tensor]:
        note("forward")
        features = points.square()
        if features.requires_grad:
            features.register_hook(lambda gradient: note("backward"))
        return [features]

    before = conv.allow_tf32, matmul.allow_tf32
    points, rows = torch.randn(2, 3), torch.arange(2)
    watching = evaluator(watched, 4)
    with float32_as("ieee"):
        grams(watching, points, rows, by_reverse)
        watching.pulled(points, rows, torch.ones(2, 1, 3))
        watching.evaluate(points, rows)
    assert seen == {"forward": {(False, False)}, "backward": {(True, True)}}
    assert (conv.allow_tf32, matmul.allow_tf32) == before
