"""From the space walked to an image: ranges, derivatives, and the images that cannot be used."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from reds_core.errors import ModelError
from reds_core.generators import Walkable, check_images
from tests.support.networks import OPEN, SAFE, generator, saved
from tests.support.worlds import D, TinyGenerator

NO_CLASS = torch.zeros(4, dtype=torch.long)


def walkable(raw: Callable[[Tensor], Tensor], low: float = 0.0, high: float = 1.0, **more: Any) -> Walkable:
    return Walkable("made", "z", D, D, "normal", (), (float(low), float(high)), lambda z, labels: raw(z), None, **more)


def raw_ramp(z: Tensor) -> Tensor:
    return z[:, :4].reshape(-1, 1, 2, 2)


def test_images_are_scaled_by_the_range_and_clamped() -> None:
    z = torch.tensor([[-3.0, -2.0, 1.0, 9.0, 0, 0]])
    images = walkable(raw_ramp, -2, 6).images(z, NO_CLASS[:1])
    torch.testing.assert_close(images.flatten(), torch.tensor([0.0, 0.0, 0.375, 1.0]))


def test_the_clamp_stops_derivatives_in_either_mode_and_under_vmap() -> None:
    g = walkable(raw_ramp, -2, 2)
    z = torch.tensor([[-3.0, -1.0, 1.0, 5.0, 0, 0], [0.0, 3.0, -5.0, 1.0, 0, 0]], requires_grad=True)
    slope = torch.tensor([[0, 0.25, 0.25, 0, 0, 0], [0.25, 0, 0, 0.25, 0, 0]])

    def one(x: Tensor) -> Tensor:
        return g.images(x[None], NO_CLASS[:1])[0].flatten()

    reverse = torch.autograd.grad(g.images(z, NO_CLASS[:2]).sum(), z)[0]
    torch.testing.assert_close(reverse, slope)
    for jacobian in (torch.func.jacrev, torch.func.jacfwd):
        torch.testing.assert_close(torch.func.vmap(jacobian(one))(z.detach()).sum(1), slope)


@pytest.mark.parametrize("kind", ["torchscript", "exported", "factory"])
def test_every_kind_of_generator_derives_as_its_network(tmp_path: Path, kind: str) -> None:
    net, z, u = TinyGenerator(channels=3), torch.randn(5, D, requires_grad=True), torch.randn(5, D)
    code = {"kind": kind, "target": "tests.support.worlds:build", "options": {"channels": 3}}
    config = code if kind == "factory" else saved({"exported": "four"}.get(kind, kind), net, tmp_path)
    g = generator(**config).load(OPEN)
    labels = torch.zeros(5, dtype=torch.long)

    def ours(x: Tensor) -> Tensor:
        found: Tensor = g.images(x, labels)
        return found

    def theirs(x: Tensor) -> Tensor:
        found: Tensor = (net(x) + 1) / 2
        return found

    assert check_images(g) == (3, 8, 8)
    torch.testing.assert_close(*(torch.autograd.grad(f(z).square().sum(), z)[0] for f in (ours, theirs)))
    torch.testing.assert_close(*(torch.func.jvp(f, (z.detach(),), (u,))[1] for f in (ours, theirs)))
    assert g.name == ("build" if kind == "factory" else "n")


@pytest.mark.parametrize(("beyond", "share"), [(0.0, 0.0), (0.019, 0.0), (0.021, 1.0)])
@pytest.mark.parametrize("side", ["low", "high"])
@pytest.mark.parametrize(("low", "high"), [(-1.0, 1.0), (0.0, 255.0)])
def test_only_what_lies_beyond_the_range_by_two_hundredths_of_it_counts(
    beyond: float, share: float, side: str, low: float, high: float
) -> None:
    value = (high + beyond * (high - low)) if side == "high" else (low - beyond * (high - low))
    g = walkable(lambda z: torch.full((len(z), 1, 4, 4), value), low, high)
    assert g.clamped(g.raw(torch.zeros(2, D), NO_CLASS[:2])) == share


def test_a_small_overshoot_of_the_range_is_not_a_mistake() -> None:
    assert check_images(walkable(lambda z: torch.full((len(z), 1, 4, 4), -0.01))) == (1, 4, 4)


@pytest.mark.parametrize(("bright", "right"), [(4, True), (5, False)])
def test_more_than_a_fifth_of_the_pixels_clamped_is_a_wrong_range(bright: int, right: bool) -> None:
    image = torch.zeros(1, 1, 4, 5)
    image.flatten()[:bright] = 3.0
    g = walkable(lambda z: image.expand(len(z), -1, -1, -1))
    if right:
        assert check_images(g) == (1, 4, 5)
    else:
        with pytest.raises(ModelError, match=r"from 0 to 3, and 25% of its pixels lie outside output_range \[0, 1\]"):
            check_images(g)


def silent(z: Tensor) -> Tensor:
    raise ValueError


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (silent, "failed on 8 latents of size 6: ValueError; check latent_dim"),
        (lambda z: z[:, 0], r"returns \(8,\) for 8 latents"),
        (lambda z: z[:, :4], r"returns \(8, 4\) for 8 latents.*set image_shape: \[c, h, w\] for flat outputs"),
        (lambda z: raw_ramp(z)[:3], r"returns \(3, 1, 2, 2\) for 8 latents"),
        (lambda z: raw_ramp(z).repeat(1, 4, 1, 1), "1 or 3 channels"),
        (lambda z: raw_ramp(z)[None], "needed"),
        (lambda z: raw_ramp(z) * torch.nan, "NaN or infinity"),
        (lambda z: raw_ramp(z) / 0, "NaN or infinity"),
        (lambda z: {"image": raw_ramp(z)}, "returns dict; a tensor"),
        (lambda z: (raw_ramp(z),), "returns tuple; a tensor"),
        (lambda z: None, "returns NoneType; a tensor"),
        (lambda z: z.reshape(7, -1), "failed on 8 latents of size 6: RuntimeError"),
    ],
)
def test_images_that_are_not_images_are_refused_with_what_was_seen(raw: Callable[[Tensor], Tensor], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        check_images(walkable(raw))


class Flat(nn.Module):
    """(n, 6) -> (n, 4): an image of 2x2 pixels in a row."""

    def forward(self, z: Tensor) -> Tensor:
        return torch.tanh(z[:, :4])


def test_flat_outputs_take_their_shape_from_the_spec(tmp_path: Path) -> None:
    g = generator(**saved("torchscript", Flat(), tmp_path), image_shape=[1, 2, 2]).load(SAFE)
    z = torch.randn(3, D)
    assert check_images(g) == (1, 2, 2)
    torch.testing.assert_close(g.images(z, NO_CLASS[:3]), ((torch.tanh(z[:, :4]) + 1) / 2).reshape(3, 1, 2, 2))


def test_a_shape_that_flat_outputs_do_not_fill_is_a_mistake() -> None:
    with pytest.raises(ModelError, match="failed on 8 latents"):
        check_images(walkable(lambda z: z[:, :4], image_shape=(3, 2, 2)))


def test_images_with_their_channels_last_are_not_scrambled_into_shape() -> None:
    g = walkable(lambda z: torch.zeros(len(z), 4, 5, 3), image_shape=(3, 4, 5))
    with pytest.raises(ModelError, match=r"returns \(8, 4, 5, 3\)"):
        check_images(g)
    with pytest.raises(ModelError, match=r"returns images \(1, 2, 2\), but image_shape is \(1, 4, 1\)"):
        check_images(walkable(raw_ramp, -9, 9, image_shape=(1, 4, 1)))


def test_images_are_single_precision_whatever_the_network_returns() -> None:
    g = walkable(lambda z: raw_ramp(z).double(), -9, 9)
    assert g.images(torch.zeros(2, D), NO_CLASS[:2]).dtype == torch.float32


def test_a_generator_too_large_for_the_memory_is_said_in_words() -> None:
    def fails(z: Tensor) -> Tensor:
        raise torch.OutOfMemoryError

    with pytest.raises(ModelError, match="the memory of cpu does not suffice for one image at a time"):
        check_images(walkable(fails))
