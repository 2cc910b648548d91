"""Directions: exact answers, then the published algorithm, then what has no answer."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from reds_core import directions
from reds_core.directions.batched import gram, normalised, oriented, reds_batched
from reds_core.errors import NoDirectionsError
from tests.support.problems import published_null_space, published_reds, subspace_angle


def jacobians(seed: int, sizes: list[int], d: int = 12, decay: float = 0.7) -> list[torch.Tensor]:
    """Random Jacobians with a decaying spectrum, as a network's are."""
    draw = np.random.RandomState(seed)
    scale = decay ** np.arange(d)
    return [torch.from_numpy(draw.randn(p, d) * scale[draw.permutation(d)]).float() for p in sizes]


def test_the_best_direction_is_the_varied_axis_that_nothing_holds() -> None:
    held, varied = torch.eye(4)[:2], torch.diag(torch.tensor([9.0, 5.0, 1.0, 2.0]))
    found = oriented(directions.reds([held], [varied], 0.999999, 0.999999))
    assert found.shape == (4, 2)
    torch.testing.assert_close(found, torch.eye(4, dtype=torch.float64)[:, [3, 2]], atol=1e-12, rtol=0)


@pytest.mark.parametrize("sizes", [[3], [2, 4], [1, 2, 3]])
@pytest.mark.parametrize("beta", [0.9, 0.99, 0.9999])
def test_reds_span_what_the_published_algorithm_spans(sizes: list[int], beta: float) -> None:
    for seed in range(5):
        held, varied = jacobians(seed, sizes), jacobians(seed + 100, [30, 6])
        ours = directions.reds(held, varied, beta, 0.999)
        theirs = published_reds([j.numpy() for j in held], [j.numpy() for j in varied], beta, 0.999)
        assert ours.shape == theirs.shape
        assert subspace_angle(ours.numpy(), theirs) < 1e-6
        # Each direction by itself, not the span alone: up to its sign.
        assert np.abs(np.abs((ours.numpy() * theirs).sum(0)) - 1).max() < 1e-9


def test_the_null_space_is_the_published_one() -> None:
    held = jacobians(3, [2, 3])
    ours, theirs = directions.null_space(held, 0.99), published_null_space([j.numpy() for j in held], 0.99)
    assert ours.shape == theirs.shape and subspace_angle(ours.numpy(), theirs) < 1e-6


def test_two_attributes_that_hold_the_same_directions_take_no_more_room_than_one() -> None:
    (j,) = jacobians(0, [3])
    one, two = directions.null_space([j], 0.9999), directions.null_space([j, 7 * j], 0.9999)
    assert one.shape == two.shape and subspace_angle(one.numpy(), two.numpy()) < 1e-6


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_units_of_an_attribute_do_not_matter(scale: float) -> None:
    held, varied = jacobians(1, [3, 2]), jacobians(2, [9, 5])
    plain = directions.reds(held, varied, 0.99, 0.999)
    scaled = directions.reds([scale * held[0], held[1]], [varied[0], scale * varied[1]], 0.99, 0.999)
    assert plain.shape == scaled.shape and subspace_angle(plain.numpy(), scaled.numpy()) < 1e-5


@pytest.mark.parametrize("name", ["reds", "minf", "maxc", "rayleigh", "null_space"])
def test_columns_are_orthonormal(name: str) -> None:
    held, varied = jacobians(4, [3, 2]), jacobians(5, [20])
    calls = {
        "reds": lambda: directions.reds(held, varied, [0.99, 0.999], 0.999),
        "minf": lambda: directions.minf(held, 0.99),
        "maxc": lambda: directions.maxc(varied, 0.999),
        "rayleigh": lambda: directions.rayleigh(held, varied, 1e-3),
        "null_space": lambda: directions.null_space(held, 0.99),
    }
    v = calls[name]()
    torch.testing.assert_close(v.T @ v, torch.eye(v.shape[1], dtype=torch.float64), atol=1e-10, rtol=0)


def test_minf_moves_what_is_held_least_first() -> None:
    held = [torch.diag(torch.tensor([5.0, 0.3, 0.1, 0.2]))]
    v = oriented(directions.minf(held, 0.9))
    torch.testing.assert_close(v, torch.eye(4, dtype=torch.float64)[:, [2, 3, 1]], atol=1e-10, rtol=0)


def test_rayleigh_maximises_the_quotient() -> None:
    held, varied = jacobians(6, [4]), jacobians(7, [15])
    a_h, a_v = (normalised(gram(j)[None])[0] for j in (held[0], varied[0]))
    ridged = a_h + 1e-3 * a_h.trace() * torch.eye(12, dtype=torch.float64)

    def quotient(x: torch.Tensor) -> float:
        return float((x @ a_v @ x) / (x @ ridged @ x))

    best = quotient(directions.rayleigh(held, varied, 1e-3)[:, 0])
    draw = torch.Generator().manual_seed(0)
    assert all(quotient(torch.randn(12, generator=draw, dtype=torch.float64)) < best for _ in range(1000))


def test_a_batch_gives_each_point_what_it_would_get_alone() -> None:
    held = [[jacobians(s, [2, 3 + s % 3])[i] for s in range(6)] for i in (0, 1)]
    varied = [jacobians(s + 50, [20])[0] for s in range(6)]
    grams = [torch.stack([gram(j) for j in js]) for js in held]
    columns, count = reds_batched(grams, torch.stack([gram(j) for j in varied]), [0.99, 0.99], 0.999)
    for s in range(6):
        alone = directions.reds([held[0][s], held[1][s]], [varied[s]], 0.99, 0.999)
        assert alone.shape[1] == int(count[s])
        torch.testing.assert_close(oriented(columns[s, :, : alone.shape[1]]), oriented(alone))


def test_a_full_held_space_says_that_nothing_is_left() -> None:
    for call in (directions.null_space, directions.minf):
        with pytest.raises(NoDirectionsError, match="fill all 4 latent directions"):
            call([torch.eye(4)], 0.999)
    with pytest.raises(NoDirectionsError, match="lower beta or hold fewer"):
        directions.reds([torch.eye(4)], [torch.eye(4)], 0.999, 0.999)


@pytest.mark.parametrize(
    ("held", "message"),
    [
        (torch.zeros(2, 4), "zero"),
        (torch.full((2, 4), float("nan")), "not finite"),
        (torch.eye(3), "one d"),
    ],
)
def test_a_jacobian_that_measures_nothing_is_an_error(held: torch.Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        directions.reds([torch.ones(1, 4), held], [torch.eye(4)], 0.9, 0.9)
