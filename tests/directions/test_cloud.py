"""How sampled latents lie: exact components, and what is plausible."""

from __future__ import annotations

import torch

from reds_core.directions.cloud import cloud_of, components


def test_components_are_the_axes_of_an_ellipsoid_each_as_long_as_its_deviation() -> None:
    lengths = torch.tensor([3.0, 1.0, 0.5, 0.1])
    turn = torch.linalg.qr(torch.randn(4, 4, generator=torch.Generator().manual_seed(0)))[0]
    samples = torch.randn(20_000, 4, generator=torch.Generator().manual_seed(1)) * lengths @ turn
    found = components(samples, 3)[0]
    torch.testing.assert_close(found.norm(dim=0), lengths[:3], rtol=0.03, atol=0)
    torch.testing.assert_close((turn @ found / lengths[:3]).abs()[:3], torch.eye(3), rtol=0, atol=0.05)


def test_more_dimensions_than_samples_give_the_same_components() -> None:
    samples = torch.randn(30, 50, generator=torch.Generator().manual_seed(0))
    wide = components(samples - samples.mean(0), 5)[0]
    tall = components((samples - samples.mean(0)).repeat(2, 1), 5)[0]
    torch.testing.assert_close((wide.mT @ tall).abs(), torch.diag(wide.square().sum(0)), rtol=1e-3, atol=1e-3)


def test_what_differs_between_classes_is_not_a_variation_of_one() -> None:
    labels = torch.arange(2000) % 2
    samples = torch.randn(2000, 3, generator=torch.Generator().manual_seed(0))
    samples[:, 0] += 100 * labels
    cloud = cloud_of(samples, labels, [0, 1])
    assert float(components(cloud.deviations, 3)[0].norm(dim=0).max()) < 1.2
    assert abs(float(cloud.mean(torch.tensor([1]))[0, 0]) - 100) < 0.2
    assert cloud.plausible(samples, labels, None).float().mean() > 0.998
    assert not bool(cloud.plausible(samples[:1] + 50, labels[:1], None))
