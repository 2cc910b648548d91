"""Attributes that people name: an object, its place, its parts. Exact answers first, then derivatives, then what is not there."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import TypeAdapter
from torch import Tensor, nn

import reds_core
from reds_core.errors import ModelError, SpecError
from reds_core.features import AnyFeature
from reds_core.features.mask import eroded
from reds_core.features.segmentation import moments
from reds_core.jobs.prepare import prepare
from reds_core.models.config import Access
from reds_core.spec.load import load_spec
from reds_core.variants.run_seeds import run_seeds
from tests.support.worlds import SIZE, TinyGenerator, torchscript, world

SAFE, OPEN = Access(torch.device("cpu"), False), Access(torch.device("cpu"), True)


class Bright(nn.Module):
    """A segmentation network: class 1 where the first channel is brighter than `level`, the more abruptly the larger `slope`."""

    def __init__(self, slope: float = 1000.0, level: float = 0.5) -> None:
        super().__init__()
        self.slope, self.level = slope, level

    def forward(self, x: Tensor) -> Tensor:
        score = (x[:, :1] - self.level) * self.slope
        return torch.cat([-score, score], 1)


class Centres(nn.Module):
    """A landmark network: the centre of brightness (y, x) of the left and of the right half, (n, 2, 2), in pixels."""

    def forward(self, x: Tensor) -> Tensor:
        half = x.shape[3] // 2
        halves = torch.stack([x[:, 0, :, :half], x[:, 0, :, half:]], 1)
        p = (halves * 4).flatten(2).softmax(2).unflatten(2, (-1, half))
        y = torch.arange(x.shape[2], dtype=x.dtype)
        return torch.stack([(p.sum(3) * y).sum(2), (p.sum(2) * y[:half]).sum(2)], 2)


class Confident(nn.Module):
    """The same, with the brightest pixel of each half as the confidence."""

    def __init__(self) -> None:
        super().__init__()
        self.centres = Centres()

    def forward(self, x: Tensor) -> Tensor:
        half = x.shape[3] // 2
        best = torch.stack([x[:, 0, :, :half].amax((1, 2)), x[:, 0, :, half:].amax((1, 2))], 1)
        return torch.cat([self.centres(x), best[:, :, None]], 2)


def dark_face(images: Tensor) -> list[np.ndarray | None]:
    """A black box: the centre of brightness of the left half, by NumPy; no face in an image whose right half is bright."""
    found: list[np.ndarray | None] = []
    for image in images.numpy()[:, 0]:
        left, right = image[:, : SIZE // 2] ** 2, image[:, SIZE // 2 :]
        at = np.stack([(left * g).sum() / left.sum() for g in np.mgrid[:SIZE, : SIZE // 2]])
        found.append(None if right.mean() > 0.53 else at.astype(np.float32)[None])
    return found


def no_face(images: Tensor) -> None:
    """A black box that finds nothing in any image."""


def model(net: nn.Module, folder: Path) -> dict[str, Any]:
    return {"kind": "torchscript", "path": torchscript(net, folder / f"{type(net).__name__}.pt")}


def feature(shape: tuple[int, int, int] = (3, 16, 16), access: Access = SAFE, **config: Any) -> Any:
    return TypeAdapter(AnyFeature).validate_python(config).load(access, shape)


def images(n: int = 2, c: int = 3, size: int = 16) -> Tensor:
    return torch.rand(n, c, size, size, generator=torch.Generator().manual_seed(0))


def square(top: int, left: int, side: int = 4, size: int = 16) -> Tensor:
    """A gray image, 1 in a square and 0 around it, (1, 1, size, size)."""
    x = torch.zeros(1, 1, size, size)
    x[:, :, top : top + side, left : left + side] = 1
    return x


def ellipse(cy: float, cx: float, a: float, b: float, turned: float, size: int = 128) -> Tensor:
    """The soft mask of an ellipse, its half axes and centre in fractions of the image."""
    grid = (torch.arange(size) + 0.5) / size
    y, x = grid[:, None] - cy, grid[None] - cx
    u, v = math.cos(turned) * y + math.sin(turned) * x, math.cos(turned) * x - math.sin(turned) * y
    return torch.sigmoid((1 - ((u / a) ** 2 + (v / b) ** 2).sqrt()) * 100)[None, None]


def test_the_moments_of_a_disc_are_its_radius_and_centre() -> None:
    expected = torch.tensor([[math.pi**0.5 * 0.2, 0.4, 0.6, 0.1, 0.1, 0.0]])
    torch.testing.assert_close(moments(ellipse(0.4, 0.6, 0.2, 0.2, 0.0)), expected, atol=1e-3, rtol=0)


def test_the_moments_of_a_leaning_ellipse_tell_its_lean() -> None:
    a, b, turned = 0.3, 0.1, 0.5
    c2, s2 = math.cos(turned) ** 2, math.sin(turned) ** 2
    var_y, var_x = (c2 * a**2 + s2 * b**2) / 4, (s2 * a**2 + c2 * b**2) / 4
    lean = (a**2 - b**2) / 4 * math.sin(turned) * math.cos(turned) / ((var_y + var_x) / 2) ** 0.5
    expected = torch.tensor([[(math.pi * a * b) ** 0.5, 0.5, 0.5, var_y**0.5, var_x**0.5, lean]])
    torch.testing.assert_close(moments(ellipse(0.5, 0.5, a, b, turned)), expected, atol=1e-3, rtol=0)


@pytest.mark.parametrize("side", [1, 3, 8])
def test_the_extent_of_a_square_is_exact_whatever_its_size(side: int) -> None:
    found = moments(square(2, 5, side))[0]
    centre = [(2 + side / 2) / 16, (5 + side / 2) / 16]
    extent = side / 16 / 12**0.5
    torch.testing.assert_close(found, torch.tensor([side / 16, *centre, extent, extent, 0.0]), atol=1e-6, rtol=1e-5)


def test_erosion_shrinks_a_square_at_its_border_but_not_at_the_images() -> None:
    assert torch.equal(eroded(square(4, 4, 8), 2), square(6, 6, 4))
    assert torch.equal(eroded(square(0, 0, 8), 3), square(0, 0, 5))
    assert torch.equal(eroded(0.25 * square(4, 4, 8), 0), 0.25 * square(4, 4, 8))
    assert not eroded(square(4, 4, 4), 2).any()


def test_a_segment_is_eroded_at_the_seed_and_stays_or_is_found_in_every_image(tmp_path: Path) -> None:
    segment = {"model": model(Bright(), tmp_path), "classes": [1], "erode": 1}
    seed, moved = square(4, 4), square(4, 6)
    stays = feature((1, 16, 16), kind="pixels", region={"segment": segment})
    torch.testing.assert_close(stays(moved, stays.bind(seed)), (moved * square(5, 5, 2)).flatten(1))
    follows = feature((1, 16, 16), kind="pixels", region={"segment": segment | {"recompute": True}})
    assert follows.bind(seed) is None
    torch.testing.assert_close(follows(moved, None), square(5, 7, 2).flatten(1))
    around = feature((1, 16, 16), kind="pixels", region={"segment": segment}, negate=True)
    torch.testing.assert_close(around(torch.ones(1, 1, 16, 16), around.bind(seed)), (1 - square(3, 3, 6)).flatten(1))


def test_eroding_by_twice_the_sigma_keeps_the_outside_of_a_low_pass_out(tmp_path: Path) -> None:
    inside = torch.zeros(1, 3, 32, 32)
    inside[:, 0, :, :16] = 1  # the segment, seen in red
    outside = inside.clone()
    outside[:, 1, :, 16:] = 1  # green beyond it
    moved = []
    for erode in (0, 2, 4):
        segment = {"model": model(Bright(), tmp_path), "classes": [1], "erode": erode}
        f = feature((3, 32, 32), kind="pixels", region={"segment": segment}, lowpass=2)
        moved.append(float((f(outside, f.bind(inside)) - f(inside, f.bind(inside))).abs().max()))
    assert moved[0] > 0.3 and moved[1] < 0.16 and moved[2] < 0.0228


def test_an_object_is_its_look_and_its_place_and_nothing_else(tmp_path: Path) -> None:
    f = feature(kind="object", model=model(Bright(), tmp_path), classes=[1])

    def scene(top: int = 4, left: int = 4, side: int = 4, green: float = 0.5, around: float = 0.2) -> Tensor:
        there = square(top, left, side)
        return torch.cat([there, green * there + around * (1 - there), torch.zeros_like(there)], 1)

    def away(**changed: Any) -> float:
        return float((f(scene(**changed), None) - f(scene(), None)).norm())

    assert away() == 0
    assert away(around=0.9) == pytest.approx(0, abs=1e-6)
    assert away(green=0.7) == pytest.approx(0.2 * 4, rel=1e-4)
    # Red, green and mask of all pixels that are the object's in only one of the two.
    each = math.sqrt(1 + 0.25 + 1)
    assert away(left=5) == pytest.approx(each * math.sqrt(8), rel=1e-4)
    assert away(top=10, left=10) == pytest.approx(each * math.sqrt(32), rel=1e-4)
    assert away(side=5) == pytest.approx(each * 3, rel=1e-4)
    assert away(side=2) == pytest.approx(each * math.sqrt(12), rel=1e-4)
    assert math.isnan(away(side=0))


def test_an_objects_low_pass_is_of_the_cut_out_so_that_nothing_leaks_in(tmp_path: Path) -> None:
    f = feature(kind="object", model=model(Bright(), tmp_path), classes=[1], lowpass=2, gray=True)
    there = square(4, 4)
    dark, light = (torch.cat([there, v * (1 - there), v * (1 - there)], 1) for v in (0.0, 1.0))
    torch.testing.assert_close(f(dark, None), f(light, None))
    assert f(dark, None).shape == (1, 2 * 16 * 16)
    assert float((f(dark, None) - f(dark.roll(1, 3), None)).norm()) > 0.1


def test_landmarks_are_the_points_that_a_network_finds(tmp_path: Path) -> None:
    x = TinyGenerator()(torch.randn(5, 6, generator=torch.Generator().manual_seed(0))).detach() / 2 + 0.5
    points = Centres()(x)
    config: dict[str, Any] = {"kind": "landmarks", "model": model(Centres(), tmp_path)}
    torch.testing.assert_close(feature((1, 8, 8), **config)(x, None), points.flatten(1))
    torch.testing.assert_close(feature((1, 8, 8), **config, points=[1])(x, None), points[:, 1])
    sharp = feature((1, 8, 8), kind="landmarks", model=model(Confident(), tmp_path), confidence=0.8)(x, None)
    sure = (Confident()(x)[:, :, 2] >= 0.8).all(1)
    assert 0 < sure.sum() < 5
    torch.testing.assert_close(sharp[sure], points[sure].flatten(1))
    assert bool(sharp[~sure].isnan().all())


def test_a_point_that_does_not_count_need_not_be_found(tmp_path: Path) -> None:
    x = torch.zeros(1, 1, 8, 8)
    x[:, :, 2, 2] = 1  # nothing on the right
    config: dict[str, Any] = {"kind": "landmarks", "model": model(Confident(), tmp_path), "confidence": 0.5}
    assert bool(feature((1, 8, 8), **config)(x, None).isnan().all())
    assert bool(feature((1, 8, 8), **config, points=[0])(x, None).isfinite().all())


def test_a_black_box_may_return_none_for_an_image_without_a_face() -> None:
    x = images(3, 1, 8) * 0.5
    x[1, :, :, 4:] = 0.9
    f = feature((1, 8, 8), OPEN, kind="landmarks", target="tests.features.test_attributes:dark_face")
    found = f(x, None)
    assert found.shape == (3, 2) and found.isfinite().all(1).tolist() == [True, False, True]
    # The width is known now, even if no image shows a face.
    assert f(x[1:2], None).shape == (1, 2)
    with pytest.raises(ModelError, match="found nothing in the first 3 images"):
        feature((1, 8, 8), OPEN, kind="landmarks", target="tests.features.test_attributes:no_face")(x, None)


SMOOTH: dict[str, dict[str, Any]] = {
    "object": {"kind": "object"},
    "object, coarse and gray": {"kind": "object", "gray": True, "lowpass": 1.5},
    "segmentation": {"kind": "segmentation"},
    "sigmoid": {"kind": "segmentation", "scores": "sigmoid"},
    "segment": {"kind": "pixels", "lowpass": 1.0, "region": {"erode": 1}},
    "segment recomputed": {"kind": "pixels", "region": {"recompute": True}},
    "segment recomputed and eroded": {"kind": "pixels", "lowpass": 1.0, "region": {"recompute": True, "erode": 1}},
    "colour of a segment recomputed": {"kind": "colour", "region": {"recompute": True}, "negate": True},
    "landmarks": {"kind": "landmarks"},
}


@pytest.mark.parametrize("name", SMOOTH)
def test_every_attribute_has_both_kinds_of_derivatives(tmp_path: Path, name: str) -> None:
    config = dict(SMOOTH[name])
    network = {"model": model(Centres() if name == "landmarks" else Bright(8.0, 0.2), tmp_path)}
    found = network if name == "landmarks" else network | {"classes": [1]}
    config |= {"region": {"segment": found | config["region"]}} if "region" in config else found  # type: ignore[dict-item]
    f, u = feature(**config), images().flip(0)
    # No two pixels are so near to each other that a difference lets them change places, which is a kink of the erosion.
    draw = torch.Generator().manual_seed(0)
    x = (torch.stack([torch.randperm(256, generator=draw) for _ in range(6)]) / 256).reshape(2, 3, 16, 16)
    bound = f.bind(x)
    h = 1e-3
    slope = (f(x + h * u, bound) - f(x - h * u, bound)) / (2 * h)
    torch.testing.assert_close(torch.func.jvp(lambda a: f(a, bound), (x,), (u,))[1], slope, atol=2e-3, rtol=1e-2)
    leaf = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad((f(leaf, bound) * slope).sum(), leaf)
    torch.testing.assert_close((gradient * u).sum(), slope.square().sum(), atol=1e-3, rtol=1e-2)


ABSENT: dict[str, dict[str, Any]] = {
    "object": {"kind": "object"},
    "segmentation": {"kind": "segmentation"},
    "pixels": {"kind": "pixels", "region": {}},
    "pixels around": {"kind": "pixels", "region": {}, "negate": True},
    "pixels recomputed": {"kind": "pixels", "region": {"recompute": True}},
    "pixels eroded to nothing": {"kind": "pixels", "region": {"erode": 2}},
    "colour": {"kind": "colour", "region": {}},
}


@pytest.mark.parametrize("name", ABSENT)
def test_what_an_image_does_not_show_is_never_a_zero(tmp_path: Path, name: str) -> None:
    found = {"model": model(Bright(), tmp_path), "classes": [1]}
    config = dict(ABSENT[name])
    config |= {"region": {"segment": found | config["region"]}} if "region" in config else found  # type: ignore[dict-item]
    f = feature((1, 16, 16), **config)
    small = 4 if "eroded" in name else 0
    x = torch.cat([square(4, 4, 6), square(4, 4, small), square(8, 8, 6)]).requires_grad_()
    bound = f.bind(x.detach())
    out = f(x, bound)
    assert out.isfinite().all(1).tolist() == [True, False, True] and bool(out[1].isnan().any())
    (gradient,) = torch.autograd.grad(out[[0, 2]].sum(), x)
    assert bool(gradient[[0, 2]].isfinite().all())


def test_all_of_an_image_leaves_nothing_around(tmp_path: Path) -> None:
    segment = {"model": model(Bright(), tmp_path), "classes": [1]}
    f = feature((1, 16, 16), kind="pixels", region={"segment": segment}, negate=True)
    full = torch.ones(1, 1, 16, 16)
    assert bool(f(full, f.bind(full)).isnan().all())


def attributes_of(folder: Path, **attributes: Any) -> Path:
    """A job that varies all pixels and holds the first of these attributes."""
    folder.mkdir(exist_ok=True)
    torchscript(Bright(8.0), folder / "s.pt")
    torchscript(Bright(8.0, 0.985), folder / "rare.pt")
    look = {"look": {"kind": "pixels"}}
    held = {next(iter(attributes)): 0.1}
    trajectory = {"method": "corrected", "directions": 2, "waypoints": 3, "step": 0.15}
    return world(folder, attributes=attributes | look, held=held, label="none", judge=None, trajectory=trajectory)


def test_a_trajectory_rejects_faces_that_are_lost_and_holds_the_others_within_tolerance(tmp_path: Path) -> None:
    face = {"kind": "landmarks", "target": "tests.features.test_attributes:dark_face"}
    job = prepare(load_spec(attributes_of(tmp_path, face=face)), "cpu", allow_code=True)
    assert set(job.derivatives.modes.values()) == {"differences"}
    candidates, _ = run_seeds(job, range(12))
    pixels = {c.seed: c.pixels for c in candidates if c.role == "seed" and c.accepted}

    def measured(image: np.ndarray) -> np.ndarray | None:
        return dark_face(torch.from_numpy(image).permute(2, 0, 1)[None] / 255)[0]

    accepted = [c for c in candidates if c.accepted and c.role == "variant"]
    assert len(accepted) > 30
    for c in accepted:
        found, seeds = measured(c.pixels), measured(pixels[c.seed])
        assert found is not None and seeds is not None
        drift = float(np.linalg.norm(found - seeds)) / job.spreads["face"]
        assert drift <= 0.1 and c.drifts["face"] == pytest.approx(drift, abs=1e-4)
    lost = Counter((c.role, c.reason) for c in candidates)
    assert lost["seed", "not_finite"] and lost["variant", "not_finite"] > 12 * lost["seed", "not_finite"]


@pytest.mark.parametrize("config", [{"kind": "object"}, {"kind": "segmentation"}], ids=lambda c: str(c["kind"]))
def test_an_objects_place_is_held_by_its_derivatives_though_some_reference_images_lack_it(
    tmp_path: Path, config: dict[str, Any]
) -> None:
    path = attributes_of(tmp_path, thing=config | {"model": {"kind": "torchscript", "path": "rare.pt"}, "classes": [1]})
    job = prepare(load_spec(path), "cpu")
    assert job.derivatives.smooth and job.derivatives.reverse
    candidates, _ = run_seeds(job, range(8))
    reasons = Counter(c.reason for c in candidates if c.role == "seed")
    assert 0 < reasons["not_finite"] < 8
    without = {c.seed for c in candidates if c.role == "seed" and not c.accepted}
    accepted = [c for c in candidates if c.accepted and c.role == "variant"]
    assert accepted and not without & {c.seed for c in accepted} and all(c.drifts["thing"] <= 0.1 for c in accepted)


def test_what_no_image_shows_is_an_error(tmp_path: Path) -> None:
    torchscript(Bright(8.0, 2.0), tmp_path / "never.pt")
    config = {"kind": "object", "model": {"kind": "torchscript", "path": "never.pt"}, "classes": [1]}
    with pytest.raises(ModelError, match=r"attributes\.thing: could be measured on hardly any of the 256 reference images"):
        prepare(load_spec(attributes_of(tmp_path, thing=config)), "cpu")


NETWORK = {"kind": "torchscript", "path": "s.pt"}


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"kind": "object", "model": NETWORK}, "thing.classes: is required"),
        ({"kind": "object", "model": NETWORK, "classes": []}, "thing.classes: Tuple should have at least 1 item"),
        ({"kind": "landmarks"}, "thing: set a model or a target that finds"),
        ({"kind": "landmarks", "model": NETWORK, "target": "a:b"}, "thing: set model or target, not both"),
        ({"kind": "landmarks", "model": NETWORK, "options": {"a": 1}}, "thing: options are for a target"),
        ({"kind": "landmarks", "target": "a:b", "mean": [0.5]}, "thing: mean is for a model"),
        ({"kind": "embedding", "model": NETWORK, "input_range": [1, -1]}, r"input_range \[1.0, -1.0\] is empty"),
        ({"kind": "embedding", "model": NETWORK, "mean": [0, 0, 0], "std": [1]}, "mean has 3 numbers and std 1"),
        ({"kind": "embedding", "model": NETWORK, "channels": 3, "mean": [0, 0]}, "mean must have 3 numbers"),
        ({"kind": "embedding", "model": NETWORK, "std": [0.0]}, "std.0: Input should be greater than 0"),
        ({"kind": "embedding", "model": NETWORK, "input_size": [8]}, "input_size.1: is required"),
        ({"kind": "pixels", "region": {"segment": {"model": NETWORK, "classes": [1], "erode": -1}}}, "erode: Input should be"),
    ],
    ids=lambda v: v if isinstance(v, str) else "",
)
def test_a_wrong_attribute_says_what_to_change(tmp_path: Path, config: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        load_spec(attributes_of(tmp_path, thing=config))


class ThreeChannels(nn.Module):
    """A network for colour images only."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.layer(x)
        return found.mean((2, 3))


def test_a_colour_network_in_front_of_a_gray_generator_says_so_and_channels_helps(tmp_path: Path) -> None:
    x = images(c=1)
    config: dict[str, Any] = {"kind": "embedding", "model": model(ThreeChannels(), tmp_path)}
    with pytest.raises(ModelError, match="takes 3 channels, but the images have 1; set channels: 3, which repeats gray"):
        feature((1, 16, 16), **config)(x, None)
    with pytest.raises(ModelError, match="mean has 3 numbers, but the images have 1 channel; set channels: 3, which repeats gray"):
        feature((1, 16, 16), **config, mean=[0.1, 0.2, 0.3])(x, None)
    network = torch.jit.load(str(config["model"]["path"]))
    torch.testing.assert_close(feature((1, 16, 16), **config, channels=3)(x, None), network(x.expand(-1, 3, -1, -1)))
    gray: dict[str, Any] = {"kind": "landmarks", "model": model(Centres(), tmp_path), "channels": 1}
    luma = (images() * torch.tensor([0.299, 0.587, 0.114])[:, None, None]).sum(1, keepdim=True)
    torch.testing.assert_close(feature(**gray)(images(), None), Centres()(luma).flatten(1))


class Returns(nn.Module):
    """Returns zeros and the image's mean in a fixed shape, (n, *shape)."""

    def __init__(self, shape: list[int]) -> None:
        super().__init__()
        self.out = nn.Parameter(torch.zeros(1, *shape))

    def forward(self, x: Tensor) -> Tensor:
        return x.mean() + self.out.repeat_interleave(x.shape[0], 0)


@pytest.mark.parametrize(
    ("shape", "config", "message"),
    [
        ([5, 3], {"kind": "landmarks"}, "set the value of the third"),
        ([5, 2], {"kind": "landmarks", "confidence": 0.5}, "no confidence; leave confidence out"),
        ([5], {"kind": "landmarks"}, r"returns \(2, 5\); points \(n, k, 2\)"),
        ([5, 8, 8], {"kind": "landmarks"}, r"returns \(2, 5, 8, 8\); points"),
        ([5, 2], {"kind": "landmarks", "points": [5]}, "returns 5 points; none has index 5"),
        ([3, 8, 8], {"kind": "object", "classes": [3]}, "with a class 3 is needed"),
        ([3], {"kind": "segmentation", "classes": [0]}, r"returns \(2, 3\); \(n, classes, h, w\)"),
        ([1, 8, 8], {"kind": "segmentation", "classes": [0]}, "a softmax over it is 1 everywhere; choose scores: sigmoid"),
    ],
)
def test_a_network_that_returns_something_else_is_named(
    tmp_path: Path, shape: list[int], config: dict[str, Any], message: str
) -> None:
    with pytest.raises(ModelError, match=message):
        feature(**config, model=model(Returns(shape), tmp_path))(images(), None)


def test_a_spec_with_every_new_attribute_survives_being_resolved(tmp_path: Path) -> None:
    found = {"model": NETWORK, "classes": [1]}
    attributes = {
        "face": {"kind": "landmarks", "target": "tests.features.test_attributes:dark_face"},
        "points": {"kind": "landmarks", "model": NETWORK, "confidence": 0.5, "points": [0, 2]},
        "thing": {"kind": "object", **found},
        "place": {"kind": "segmentation", **found},
        "part": {"kind": "pixels", "lowpass": 2, "region": {"segment": {**found, "erode": 4, "recompute": True}}},
    }
    spec = load_spec(attributes_of(tmp_path, **attributes))
    (tmp_path / "resolved.yaml").write_text(reds_core.spec.load.dump(spec))
    assert load_spec(tmp_path / "resolved.yaml") == spec
