"""Directions that are fitted once: their known answers, and that runs can use them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from reds_core import load_spec
from reds_core.directions.cloud import cloud_of
from reds_core.directions.fitted import Sampled, interfacegan, sefa
from reds_core.jobs.prepare import prepare
from tests.support.worlds import world


@pytest.mark.parametrize("by", ["pca", "sefa", "interfacegan"])
def test_straight_methods_give_unit_directions_that_runs_can_use(tmp_path: Path, by: str) -> None:
    job = prepare(load_spec(world(tmp_path), [f"trajectory.directions_by={by}", "trajectory.method=linear"]), "cpu")
    assert job.fixed is not None
    torch.testing.assert_close(job.fixed.norm(dim=0), torch.ones(job.fixed.shape[1], dtype=torch.float64))


def test_sefa_of_known_weights_is_their_leading_directions(tmp_path: Path) -> None:
    generator = prepare(load_spec(world(tmp_path)), "cpu").networks.generator
    generator.style_weight = torch.diag(torch.tensor([1.0, 5, 2, 0.1, 0.2, 0.3]))
    cloud = cloud_of(torch.randn(50, 6), torch.zeros(50).long(), [])
    found = sefa(Sampled(generator, cloud, lambda n: None, lambda name, x: None, ["a"], ["b"]))  # type: ignore[arg-type, return-value]
    assert found.abs().argmax(0)[:3].tolist() == [1, 2, 0]


def test_interfacegan_leaves_the_normals_of_what_is_held(tmp_path: Path) -> None:
    """Held: the first latent axis. Varied: the sum of the first two. What is left is the second."""
    draw = torch.Generator().manual_seed(0)
    latents = torch.randn(2000, 4, generator=draw)
    features = {"held": latents[:, :1], "varied": latents[:, :1] + latents[:, 1:2]}
    generator = prepare(load_spec(world(tmp_path)), "cpu").networks.generator
    cloud = cloud_of(latents, torch.zeros(2000).long(), [])
    found = interfacegan(
        Sampled(generator, cloud, lambda n: (latents, latents), lambda name, x: features[name], ["held"], ["varied"])
    )
    assert found.abs()[:, 0].argmax() == 1 and abs(float(found[0, 0])) < 0.01
