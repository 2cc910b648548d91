"""Tangent coordinates: plausible radii, and the basis of a seed in a large isotropic space."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from reds_core import load_spec
from reds_core.directions.cloud import axes
from reds_core.directions.evaluator import Evaluator
from reds_core.jobs.prepare import prepare
from reds_core.trajectories.tangent import tangent_at
from reds_core.types import PassCounter, Passes
from reds_core.variants.run_seeds import run_seeds
from tests.support.worlds import TinyClassifier, torchscript, world


class Wide(nn.Module):
    """A generator with a large isotropic latent, of which images use ten directions."""

    def __init__(self, d: int = 300) -> None:
        super().__init__()
        draw = torch.Generator().manual_seed(5)
        self.down = nn.Parameter(torch.randn(d, 10, generator=draw) / d**0.5)
        self.up = nn.Parameter(torch.randn(10, 64, generator=draw) / 2)

    def forward(self, z: Tensor) -> Tensor:
        return torch.tanh(z @ self.down @ self.up).reshape(-1, 1, 8, 8)


def test_a_coordinate_is_plausible_within_the_radius_of_sampled_latents_or_its_own() -> None:
    deviations = torch.randn(5000, 3, generator=torch.Generator().manual_seed(0))
    origin = torch.tensor([[0.0, 0, 0], [9.0, 0, 0]])
    where = tangent_at(origin, torch.zeros(2, 3), axes(deviations), deviations)
    assert 3.5 < float(where.radius[0]) < 4.8 and abs(float(where.radius[1]) - 9) < 1e-3
    y = torch.tensor([[3.0, 0, 0], [6.0, 0, 0], [-1.0, 0, 0], [0.1, 0, 0]]).double()
    rows = torch.tensor([0, 0, 1, 1])
    inside, normal = where.inside(y, rows), where.outward(y, rows)
    radius = float(where.radius[0])
    torch.testing.assert_close(inside[:, 0], torch.tensor([3.0, radius, -1.0, 0.0]).double(), atol=1e-3, rtol=0)
    assert normal[:, 0].tolist() == [0, 1, 0, 1]
    torch.testing.assert_close(where.latents(y[:1], torch.tensor([1])), torch.tensor([[12.0, 0, 0]]))


def test_random_cotangents_span_what_an_image_reacts_to() -> None:
    network = Wide()
    points = torch.randn(3, 300, generator=torch.Generator().manual_seed(0))
    evaluator = Evaluator(lambda z, rows: [network(z).flatten(1)], 2, PassCounter())
    found = evaluator.pullbacks(points, torch.arange(3), 16)
    assert found.shape == (3, 300, 16) and evaluator.counter.total == Passes(forward=3, reverse=48)
    inside = torch.linalg.qr(network.down.detach())[0]
    torch.testing.assert_close(inside @ (inside.mT @ found), found, rtol=1e-3, atol=1e-4)
    assert int(torch.linalg.matrix_rank(found[0], rtol=1e-4)) == 10


def test_a_large_isotropic_space_is_walked_in_what_the_image_reacts_to(tmp_path: Path) -> None:
    path = world(tmp_path, generator={"kind": "torchscript", "path": "g.pt", "latent_dim": 300, "output_range": [-1, 1]},
                 held={"class": 0.05}, trajectory={"directions": 2, "waypoints": 2, "step": 0.05}, judge=None)  # fmt: skip
    torchscript(Wide(), tmp_path / "g.pt")
    torchscript(TinyClassifier(everywhere=True), tmp_path / "c.pt")
    job = prepare(load_spec(path), "cpu")
    assert job.tangent is None
    candidates, passes = run_seeds(job, range(3))
    variants = [c for c in candidates if c.role == "variant"]
    drifts = np.array([c.drifts["class"] for c in variants])
    assert np.nanmax(drifts) <= 0.05 and np.isfinite(drifts).mean() > 0.7
    # Far fewer than the 300 passes a Jacobian would take along every axis.
    assert passes.equivalents / 3 < 300
