"""Other people's networks as they come: latents with four axes, a mean w of their own, a trace that froze its batch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from reds_core.errors import ModelError
from reds_core.generators import check_images
from tests.generators.test_generators import ClassMapping, own, script
from tests.support.networks import SAFE, generator
from tests.support.worlds import D, RowsGenerator, TinyGenerator, TinyMapping, torchscript


class FourAxes(TinyGenerator):
    """(n, 6, 1, 1) -> images, as DCGAN and many after it."""

    def forward(self, z: Tensor) -> Tensor:
        if z.ndim != 4:
            raise ValueError("expected four axes")
        return torch.tanh(torch.einsum("nd,dchw->nchw", z[:, :, 0, 0], self.basis))


def test_latents_with_four_axes_are_made_of_the_same_numbers(tmp_path: Path) -> None:
    z, y = torch.randn(4, D), torch.zeros(4, dtype=torch.long)
    g = own(tmp_path, FourAxes(), latent_axes=4)
    assert check_images(g)[0] == 1 and g.dim == D
    torch.testing.assert_close(g.images(g.latents(z, y), y), (TinyGenerator()(z) + 1) / 2)
    with pytest.raises(ModelError, match="latent_axes"):
        check_images(own(tmp_path, FourAxes()))


class FourAxesMapping(TinyMapping):
    def forward(self, z: Tensor) -> Tensor:
        if z.ndim != 4:
            raise ValueError("expected four axes")
        return torch.tanh(z[:, :, 0, 0] @ self.weight)


def test_of_a_mapping_and_a_synthesis_the_one_that_takes_z_has_the_axes(tmp_path: Path) -> None:
    z, y = torch.randn(4, D), torch.zeros(4, dtype=torch.long)
    g = own(tmp_path, TinyGenerator(), FourAxesMapping(), latent_axes=4)
    torch.testing.assert_close(g.latents(z, y), TinyMapping()(z))


def with_mean(mapping: nn.Module, mean: Tensor) -> nn.Module:
    mapping.register_buffer("w_avg", mean)
    return mapping


def named(folder: Path, mapping: nn.Module, net: nn.Module | None = None, mean: str = "w_avg", **more: Any) -> Any:
    fields = script(folder, net or TinyGenerator()) | {"mapping": script(folder, mapping, "m") | {"mean": mean}}
    return generator(**fields, **more).load(SAFE)


def test_a_mapping_s_own_mean_is_what_truncation_moves_to(tmp_path: Path) -> None:
    z, y, mean = torch.randn(4, D), torch.zeros(4, dtype=torch.long), torch.randn(D)
    w = TinyMapping()(z)
    g = named(tmp_path, with_mean(TinyMapping(), mean)).truncated(0.3)
    torch.testing.assert_close(g.latents(z, y), mean + 0.3 * (w - mean))


def test_a_mapping_may_hold_a_mean_for_each_class(tmp_path: Path) -> None:
    z, y, means = torch.randn(4, D), torch.tensor([0, 1, 2, 1]), torch.randn(3, D)
    g = named(tmp_path, with_mean(ClassMapping(), means), classes=3).truncated(0.3)
    torch.testing.assert_close(g.latents(z, y), means[y] + 0.3 * (ClassMapping()(z, y) - means[y]))


@pytest.mark.parametrize("space", ["w", "w+"])
def test_a_mean_serves_every_row(tmp_path: Path, space: str) -> None:
    z, y, mean = torch.randn(4, D), torch.zeros(4, dtype=torch.long), torch.randn(D)
    mapping = TinyMapping(rows=3, different=space == "w+")
    g = named(tmp_path, with_mean(mapping, mean), RowsGenerator(), space=space).truncated(0.3)
    due = mean + 0.3 * (mapping(z) - mean)
    torch.testing.assert_close(g.latents(z, y), due.flatten(1) if space == "w+" else due[:, 0])


def test_a_mean_that_is_missing_or_of_another_shape_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"has no tensor 'w_mean'; the smallest of those that it has: w_avg"):
        named(tmp_path, with_mean(TinyMapping(), torch.ones(D)), mean="w_mean")
    with pytest.raises(ModelError, match=r"w_avg is of shape \(2, 6\); a mean is \(w,\), or \(3, w\)"):
        named(tmp_path, with_mean(ClassMapping(), torch.ones(2, D)), classes=3)
    with pytest.raises(ModelError, match="w of 6 numbers; its mean has 5"):
        named(tmp_path, with_mean(TinyMapping(), torch.ones(5)))


class Grouped(nn.Module):
    """A convolution whose weights depend on z, as StyleGAN2's, in one call for the whole batch."""

    def forward(self, z: Tensor) -> Tensor:
        n = int(z.shape[0])  # a trace takes this for a constant
        x = torch.ones(1, n, 4, 4)
        return torch.tanh(nn.functional.conv2d(x, z[:, :1, None, None], groups=n).reshape(n, 1, 4, 4))


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
@pytest.mark.parametrize("count", [1, 2, 16])
def test_a_trace_that_froze_its_batch_is_named(tmp_path: Path, count: int) -> None:
    torch.jit.save(torch.jit.trace(Grouped(), torch.randn(count, D)), tmp_path / "g.pt")
    g = generator(kind="torchscript", path=tmp_path / "g.pt").load(SAFE)
    with pytest.raises(ModelError, match=f"takes {count} at once, and no other number: its batch size was frozen"):
        check_images(g)
    torchscript(TinyGenerator(), tmp_path / "fine.pt")
    assert check_images(generator(kind="torchscript", path=tmp_path / "fine.pt").load(SAFE))[0] == 1
