"""A network may be laid out differently in memory, but must still compute the same."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from reds_core.errors import ModelError
from reds_core.models.answers import single
from reds_core.models.config import Access
from reds_core.models.layout import BestLayout
from reds_core.models.torchscript import TorchScript
from tests.support.worlds import torchscript

CPU = Access(torch.device("cpu"), False)


class Plain(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.conv(x)
        return y.flatten(1)


class Views(Plain):
    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.conv(x)
        return y.view(len(x), -1)


class Strides(Plain):
    """Reads its activations by their places in memory, and so changes silently with them."""

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.conv(x)
        return y.as_strided((len(x), y[0].numel()), (y[0].numel(), 1))


@pytest.mark.parametrize(("kind", "moves"), [(Plain, True), (Views, False), (Strides, False)])
def test_a_network_changes_its_layout_only_where_it_computes_the_same(tmp_path: Path, kind: type[Plain], moves: bool) -> None:
    torch.manual_seed(0)
    original, x = kind().requires_grad_(False), torch.randn(2, 3, 8, 8, requires_grad=True)
    loaded = TorchScript(kind="torchscript", path=torchscript(original, tmp_path / "n.pt")).load(CPU)
    laid = BestLayout(loaded, CPU.device)
    with torch.no_grad():
        torch.testing.assert_close(laid(x), original(x))
    expected, found = (torch.autograd.grad(f(x).square().sum(), x)[0] for f in (original, laid))
    torch.testing.assert_close(found, expected)
    assert dict(loaded.named_parameters())["conv.weight"].is_contiguous(memory_format=torch.channels_last) is moves


class FiveAxes(Plain):
    """Convolves as published modulated convolutions do, with a weight of five axes."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(1, 4, 4, 3, 3))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = nn.functional.conv2d(self.conv(x), self.weight[0], padding=1)
        return y.flatten(1)


def test_weights_of_five_axes_stay_as_they_are(tmp_path: Path) -> None:
    torch.manual_seed(0)
    original, x = FiveAxes().requires_grad_(False), torch.randn(2, 3, 8, 8)
    laid = BestLayout(TorchScript(kind="torchscript", path=torchscript(original, tmp_path / "n.pt")).load(CPU), CPU.device)
    with torch.no_grad():
        torch.testing.assert_close(laid(x), original(x))
        torch.testing.assert_close(laid(x), original(x))


class Answers(nn.Module):
    """Answers what is no table of numbers."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind

    def forward(self, x: Tensor) -> Tensor:
        return x[:0] if self.kind == "empty" else x.to_sparse() if self.kind == "sparse" else x.to("meta")


@pytest.mark.parametrize("kind", ["empty", "sparse", "meta"])
def test_an_answer_that_holds_no_numbers_passes_to_where_it_is_refused(kind: str) -> None:
    with torch.no_grad():
        found = BestLayout(Answers(kind), CPU.device)(torch.ones(2, 3))
    assert len(found) == (0 if kind == "empty" else 2)
    if kind != "empty":
        with pytest.raises(ModelError, match="the judge returns a sparse, nested, quantized or meta tensor"):
            single(found, "the judge")
