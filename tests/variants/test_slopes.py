"""The slope that each trajectory climbs: what varies, without the effects of the other directions of its seed."""

from __future__ import annotations

import torch

from reds_core.variants.corrected_from import _own_slopes


def test_a_trajectory_gains_nothing_by_moving_as_another_direction_of_its_seed_does() -> None:
    draw = torch.Generator().manual_seed(0)
    jacobian = torch.randn(2, 20, 5, generator=draw).double()
    gram = jacobian.mT @ jacobian
    own = torch.linalg.qr(torch.randn(2, 5, 3, generator=draw).double())[0]
    owners = [(seed, direction, sign) for seed in (0, 1) for direction in (0, 1, 2) for sign in (1, -1)]
    first = torch.stack([sign * own[seed, :, direction] for seed, direction, sign in owners])
    slopes = _own_slopes(gram, torch.tensor([seed for seed, _, _ in owners]), [d for _, d, _ in owners], first)
    for slope, (seed, direction, _) in zip(slopes, owners, strict=True):
        others = own[seed][:, [d for d in range(3) if d != direction]]
        assert float((slope @ others).abs().max()) < 1e-9
        assert float(own[seed][:, direction] @ slope @ own[seed][:, direction]) > 1e-3
        torch.testing.assert_close(slope, slope.mT)


def test_one_direction_climbs_all_that_varies() -> None:
    gram = torch.eye(3).double()[None]
    torch.testing.assert_close(_own_slopes(gram, torch.tensor([0, 0]), [0, 0], torch.eye(3).double()[:2]), gram.expand(2, 3, 3))
