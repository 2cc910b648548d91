"""The directions that an image reacts to most are the leading right singular vectors of its Jacobian."""

from __future__ import annotations

import torch

from reds_core.directions.evaluator import Evaluator
from reds_core.directions.leading import leading
from reds_core.types import PassCounter


def test_they_are_the_leading_right_singular_vectors() -> None:
    draw = torch.Generator().manual_seed(1)
    left, right = (torch.linalg.qr(torch.randn(n, 40, generator=draw))[0] for n in (60, 200))
    lengths = torch.tensor([8.0] * 16 + [0.1] * 24)
    maps = torch.stack([(left * lengths) @ right.T, (left * lengths.flip(0)) @ right.T])  # of two seeds
    evaluator = Evaluator(lambda z, rows: [torch.einsum("npd,nd->np", maps[rows], z)], 1, PassCounter())
    found = leading(evaluator, torch.randn(2, 200, generator=draw), torch.arange(2), 16)
    for columns, expected in zip(found, (right[:, :16], right[:, -16:]), strict=True):
        torch.testing.assert_close(columns.mT @ columns, torch.eye(16), atol=1e-5, rtol=0)
        assert float(torch.linalg.svdvals(columns.mT @ expected).min()) > 0.999
    assert evaluator.counter.total.reverse == 2 * (24 + 24)


def test_there_are_no_more_than_pixels_or_latents() -> None:
    weight = torch.randn(5, 30, generator=torch.Generator().manual_seed(0))
    evaluator = Evaluator(lambda z, rows: [z @ weight.T], 4, PassCounter())
    assert leading(evaluator, torch.zeros(3, 30), torch.arange(3), 16).shape == (3, 30, 5)
