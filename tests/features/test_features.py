"""Features: closed forms by their exact values, networks by their preprocessing, and all of them by their derivatives."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from pydantic import TypeAdapter
from torch import Tensor, nn

from reds_core.errors import ModelError
from reds_core.features import AnyFeature
from reds_core.models.config import Access
from tests.support.worlds import TinyClassifier, torchscript

SAFE, OPEN = Access(torch.device("cpu"), False), Access(torch.device("cpu"), True)


def feature(shape: tuple[int, int, int] = (3, 8, 8), access: Access = SAFE, **config: Any) -> Any:
    return TypeAdapter(AnyFeature).validate_python(config).load(access, shape)


def images(n: int = 2, c: int = 3, size: int = 8) -> Tensor:
    return torch.rand(n, c, size, size, generator=torch.Generator().manual_seed(0))


def test_pixels_of_a_box_are_those_inside_it_and_negated_those_outside() -> None:
    x = images()
    inside = feature(kind="pixels", region={"box": [0, 0.25, 0.5, 1]})(x, None)
    torch.testing.assert_close(inside, x[:, :, :4, 2:].flatten(1))
    outside = feature(kind="pixels", region={"box": [0, 0.25, 0.5, 1]}, negate=True)(x, None)
    assert inside.shape[1] + outside.shape[1] == 3 * 64
    torch.testing.assert_close(inside.square().sum(1) + outside.square().sum(1), x.square().flatten(1).sum(1))


def test_a_mask_weights_pixels(tmp_path: Path) -> None:
    mask = np.zeros((8, 8), np.uint8)
    mask[2, 3], mask[5, 6] = 255, 51
    Image.fromarray(mask).save(tmp_path / "m.png")
    x = images()
    found = feature(kind="pixels", region={"mask": tmp_path / "m.png"}, gray=True)(x, None)
    luma = (x * torch.tensor([0.299, 0.587, 0.114])[:, None, None]).sum(1)
    torch.testing.assert_close(found, torch.stack([luma[:, 2, 3], luma[:, 5, 6] * 0.2], 1))
    with pytest.raises(ModelError, match="8x8 pixels, but the generator's images are 16x16"):
        feature((3, 16, 16), kind="pixels", region={"mask": tmp_path / "m.png"})


class BrightIsOne(nn.Module):
    """A segmentation network: class 1 where the image is bright."""

    def forward(self, x: Tensor) -> Tensor:
        bright = (x[:, :1] - 0.5) * 1000
        return torch.cat([-bright, bright], 1)


def test_a_segment_is_fixed_by_the_seeds_own_image(tmp_path: Path) -> None:
    path = torchscript(BrightIsOne(), tmp_path / "s.pt")
    f = feature((1, 8, 8), kind="pixels", region={"segment": {"model": {"kind": "torchscript", "path": path}, "classes": [1]}})
    seed = torch.zeros(1, 1, 8, 8)
    seed[:, :, :, :4] = 1
    bound = f.bind(seed)
    changed = torch.rand(1, 1, 8, 8)
    torch.testing.assert_close(f(changed, bound), (changed * seed).flatten(1))


def test_lowpass_and_highpass_share_out_an_image_and_keep_a_flat_one() -> None:
    x, flat = images(), torch.full((1, 3, 8, 8), 0.3)
    low, high = feature(kind="pixels", lowpass=1.5), feature(kind="pixels", highpass=1.5)
    torch.testing.assert_close(low(x, None) + high(x, None), x.flatten(1))
    torch.testing.assert_close(low(flat, None), flat.flatten(1))
    assert float(feature(kind="pixels", lowpass=100.0)(x, None).var()) < float(low(x, None).var())


def wave(frequency: float, size: int = 32) -> Tensor:
    return (0.5 + 0.4 * torch.cos(2 * torch.pi * frequency * torch.arange(size)))[None, None, None].expand(1, 1, size, size)


@pytest.mark.parametrize(("low", "high", "seen"), [(0.0, 0.1, False), (0.2, 0.3, True), (0.25, 0.3, True), (0.2, 0.25, False)])
def test_a_wave_is_seen_by_the_band_that_holds_its_frequency(low: float, high: float, seen: bool) -> None:
    f = feature((1, 32, 32), kind="frequency", low=low, high=high)
    moved = float((f(wave(0.25), None) - f(torch.full((1, 1, 32, 32), 0.5), None)).norm())
    assert abs(moved - (0.4 * 32 / 2**0.5 if seen else 0.0)) < 1e-3


@pytest.mark.parametrize("size", [31, 32])
def test_bands_share_out_the_energy_of_an_image(size: int) -> None:
    x = images(c=3, size=size)
    edges = [0.0, 0.1, 0.33, 0.5]
    bands = [feature((3, size, size), kind="frequency", low=a, high=b)(x, None) for a, b in pairwise(edges)]
    torch.testing.assert_close(sum(b.square().sum(1) for b in bands), x.square().flatten(1).sum(1))


def test_a_band_between_two_frequencies_of_the_image_is_refused() -> None:
    with pytest.raises(ModelError, match="no Fourier coefficient of a 8x8 image"):
        feature(kind="frequency", low=0.01, high=0.02)


def test_colour_is_the_mean_and_deviation_of_a_region() -> None:
    x = images()
    found = feature(kind="colour", region={"box": [0, 0, 1, 0.5]})(x, None)
    part = x[:, :, :, :4].flatten(2)
    torch.testing.assert_close(found, torch.cat([part.mean(2), part.std(2, unbiased=False)], 1), atol=1e-4, rtol=1e-4)


class Seen(nn.Module):
    """Returns what it is given."""

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1)


def test_a_network_sees_what_its_spec_says(tmp_path: Path) -> None:
    model = {"kind": "torchscript", "path": torchscript(Seen(), tmp_path / "s.pt")}
    x = images()
    f = feature(kind="embedding", model=model, input_range=[0, 255], mean=[1, 2, 3], std=[2, 4, 8])
    expected = (x * 255 - torch.tensor([1.0, 2, 3])[:, None, None]) / torch.tensor([2.0, 4, 8])[:, None, None]
    torch.testing.assert_close(f(x, None), expected.flatten(1))
    assert feature(kind="embedding", model=model, input_size=[4, 6])(x, None).shape == (2, 3 * 4 * 6)
    torch.testing.assert_close(feature(kind="embedding", model=model, normalize=True)(x, None).norm(dim=1), torch.ones(2))


def test_class_names_must_fit_the_scores(tmp_path: Path) -> None:
    model = {"kind": "torchscript", "path": torchscript(TinyClassifier(), tmp_path / "c.pt")}
    with pytest.raises(ModelError, match="there are 2 class names, but the network returns 3 scores"):
        feature((1, 8, 8), kind="classifier", model=model, names=["a", "b"])(images(c=1), None)


def test_a_callable_may_leave_torch_but_runs_only_when_code_may() -> None:
    with pytest.raises(ModelError, match="allow code to run") as caught:
        feature(kind="callable", target="tests.support.worlds:mean_by_numpy")
    assert caught.value.parameter == "allow_code"
    x = images(c=1)
    found = feature((1, 8, 8), OPEN, kind="callable", target="tests.support.worlds:mean_by_numpy")(x, None)
    torch.testing.assert_close(found, x.mean((1, 2))[:, :4])


@pytest.mark.parametrize(
    "config",
    [
        {"kind": "pixels", "region": {"box": [0, 0, 0.5, 0.5]}, "gray": True, "lowpass": 1.0},
        {"kind": "frequency", "low": 0.0, "high": 0.3},
        {"kind": "colour"},
    ],
    ids=lambda c: str(c["kind"]),
)
def test_closed_forms_have_both_kinds_of_derivatives(config: dict[str, Any]) -> None:
    f, x, u = feature(**config), images().double().float(), images(2).flip(0)
    slope = (f(x + 1e-2 * u, None) - f(x - 1e-2 * u, None)) / 2e-2
    torch.testing.assert_close(torch.func.jvp(lambda a: f(a, None), (x,), (u,))[1], slope, atol=2e-3, rtol=2e-3)
    leaf = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad((f(leaf, None) * slope).sum(), leaf)
    torch.testing.assert_close((gradient * u).sum(), slope.square().sum(), atol=2e-2, rtol=2e-3)
