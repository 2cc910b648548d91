"""From a seed's latent to an image: spaces, classes, truncation, ranges, and the generators that cannot be used."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import TypeAdapter, ValidationError
from torch import Tensor, nn

from reds_core.errors import ModelError
from reds_core.generators import AnyGenerator, Walkable, check_images
from reds_core.generators.latent import MEAN_SEEDS, draw
from tests.support.networks import OPEN, SAFE, exported, generator
from tests.support.worlds import D, RowsGenerator, TinyConditional, TinyGenerator, TinyMapping, torchscript

NO_CLASS = torch.zeros(4, dtype=torch.long)


class ClassMapping(TinyMapping):
    """(n, 6) and (n,) classes -> (n, 6): every class has a mean of its own."""

    def forward(self, z: Tensor, label: Tensor) -> Tensor:  # type: ignore[override]
        return torch.tanh(z @ self.weight) + label[:, None]


def script(folder: Path, net: nn.Module, name: str = "g") -> dict[str, Any]:
    return {"kind": "torchscript", "path": torchscript(net, folder / f"{name}.pt")}


def own(folder: Path, net: nn.Module, mapping: nn.Module | None = None, **more: Any) -> Walkable:
    mapped = {"mapping": script(folder, mapping, "m")} if mapping else {}
    loaded: Walkable = generator(**script(folder, net), **mapped, **more).load(SAFE)
    return loaded


def walkable(raw: Callable[[Tensor], Tensor], low: float = 0.0, high: float = 1.0, **more: Any) -> Walkable:
    return Walkable("made", "z", D, D, "normal", (), (float(low), float(high)), lambda z, labels: raw(z), None, **more)


def mean_of(mapping: Callable[[Tensor], Tensor]) -> Tensor:
    z = np.stack([np.random.RandomState(2**31 + i).randn(D) for i in range(len(MEAN_SEEDS))]).astype(np.float32)
    with torch.no_grad():
        return mapping(torch.from_numpy(z)).mean(0)


def of_class(mapping: nn.Module, label: int, z: Tensor) -> Tensor:
    found: Tensor = mapping(z, torch.full((len(z),), label))
    return found


# Latents


def test_a_seed_s_latent_is_that_of_the_published_tools() -> None:
    seeds = [0, 7, 2**32 - 1]
    normal = np.stack([np.random.RandomState(s).randn(5) for s in seeds]).astype(np.float32)
    uniform = np.stack([2 * np.random.RandomState(s).rand(5) - 1 for s in seeds]).astype(np.float32)
    np.testing.assert_array_equal(draw(seeds, 5, "normal").numpy(), normal)
    np.testing.assert_array_equal(draw(seeds, 5, "uniform").numpy(), uniform)
    assert draw(seeds, 5, "normal").dtype == torch.float32


@pytest.mark.parametrize("latent", ["normal", "uniform"])
def test_without_a_mapping_truncation_shrinks_z(tmp_path: Path, latent: str) -> None:
    g = own(tmp_path, TinyGenerator(), latent=latent)
    z = draw(range(4), D, g.latent)
    torch.testing.assert_close(g.truncated(0.7).latents(z, NO_CLASS), 0.7 * z)
    assert torch.equal(g.latents(z, NO_CLASS), z) and (g.space, g.dim, g.z_dim) == ("z", D, D)


def test_truncation_moves_to_the_mean_of_the_class_given(tmp_path: Path) -> None:
    mapping = ClassMapping()
    g = own(tmp_path, TinyGenerator(), mapping, classes=3)
    z, y = torch.randn(6, D), torch.tensor([0, 1, 2, 2, 1, 0])
    w = mapping(z, y)
    means = torch.stack([mean_of(partial(of_class, mapping, c)) for c in range(3)])
    torch.testing.assert_close(g.truncated(0.3).latents(z, y), means[y] + 0.3 * (w - means[y]), atol=1e-5, rtol=1e-5)


def test_a_mean_over_thousands_of_latents_is_measured_once_and_only_if_needed(tmp_path: Path) -> None:
    g = own(tmp_path, TinyGenerator(), TinyMapping())
    assert len(MEAN_SEEDS) >= 4000
    calls: list[int] = []
    mapping = g.mapping
    assert mapping is not None

    def counted(z: Tensor, labels: Tensor) -> Tensor:
        calls.append(len(z))
        return mapping(z, labels)

    g.mapping = counted
    g.latents(torch.randn(4, D), NO_CLASS)
    assert calls == [4]
    first, second = (g.truncated(0.5).latents(torch.ones(4, D), NO_CLASS) for _ in range(2))
    assert sum(calls) == 4 + 4 + len(MEAN_SEEDS) + 4 and torch.equal(first, second)


def test_in_w_plus_every_row_moves_to_its_own_mean(tmp_path: Path) -> None:
    mapping = TinyMapping(rows=3, different=True)
    g = own(tmp_path, RowsGenerator(), mapping, space="w+")
    z = torch.randn(4, D)
    mean = mean_of(lambda x: mapping(x).flatten(1))
    w = mapping(z).flatten(1)
    torch.testing.assert_close(g.truncated(0.5).latents(z, NO_CLASS), mean + 0.5 * (w - mean), atol=1e-5, rtol=1e-5)


def test_in_w_one_row_feeds_every_layer_s_derivative(tmp_path: Path) -> None:
    g = own(tmp_path, RowsGenerator(), TinyMapping(rows=4))
    w, u = torch.randn(4, D), torch.randn(4, D)
    ours = torch.func.jvp(lambda x: g.images(x, NO_CLASS), (w,), (u,))[1]
    # The synthesis takes the mean of equal rows, so that moving the one row moves all of it.
    theirs = torch.func.jvp(lambda x: (TinyGenerator()(x) + 1) / 2, (w,), (u,))[1]
    torch.testing.assert_close(ours, theirs)


# Classes


def test_the_class_goes_to_whichever_network_takes_one(tmp_path: Path) -> None:
    z, y = torch.randn(4, D), torch.tensor([2, 1, 0, 2])
    both = {"mapping, synthesis": (ClassMapping(), TinyConditional()), "mapping": (ClassMapping(), TinyGenerator())}
    both["synthesis"] = (TinyMapping(), TinyConditional())  # type: ignore[assignment]
    for who, (mapping, net) in both.items():
        g = own(tmp_path, net, mapping, classes=3)
        w = mapping(z, y) if "mapping" in who else nn.Module.__call__(mapping, z)
        torch.testing.assert_close(g.latents(z, y), w)
        image = net(w, y) if "synthesis" in who else nn.Module.__call__(net, w)
        torch.testing.assert_close(g.images(w, y), (image + 1) / 2, msg=who)
        assert check_images(g) == (1, 8, 8)


def test_classes_have_the_names_given_or_their_numbers(tmp_path: Path) -> None:
    net = TinyConditional()
    assert own(tmp_path, net, classes=3).class_names == ("0", "1", "2")
    assert own(tmp_path, net, classes=["cat", "dog", "bat"]).class_names == ("cat", "dog", "bat")
    assert own(tmp_path, TinyGenerator()).class_names == ()


def test_classes_that_no_network_takes_are_a_mistake(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"classes is set, but the TorchScript network g\.pt takes no second input"):
        own(tmp_path, TinyGenerator(), TinyMapping(), classes=3)


def test_a_network_that_needs_a_class_says_so_before_the_run(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="check latent_dim, classes"):
        check_images(own(tmp_path, TinyConditional()))
    with pytest.raises(ModelError, match=r"generator\.mapping failed"):
        own(tmp_path, TinyGenerator(), ClassMapping())


# Images


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
    if kind == "torchscript":
        config = script(tmp_path, net)
    elif kind == "exported":
        config = {"kind": kind, "path": exported(net, (torch.randn(4, D),), tmp_path / "g.pt2", False)}
    else:
        config = {"kind": kind, "target": "tests.support.worlds:build", "options": {"channels": 3}}
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
    assert g.name == ("build" if kind == "factory" else "g")


def test_an_exported_mapping_and_synthesis_work_together_at_any_batch(tmp_path: Path) -> None:
    mapping = exported(TinyMapping(rows=3), (torch.randn(1, D),), tmp_path / "m.pt2", False)
    net = exported(RowsGenerator(), (torch.randn(4, 3, D),), tmp_path / "g.pt2", False)
    g = generator(kind="exported", path=net, mapping={"kind": "exported", "path": mapping}).load(SAFE)
    z = torch.randn(4, D)
    torch.testing.assert_close(g.latents(z, NO_CLASS), TinyMapping()(z))
    assert check_images(g) == (1, 8, 8) and (g.space, g.dim) == ("w", D)


@pytest.mark.parametrize(("beyond", "share"), [(0.0, 0.0), (0.019, 0.0), (0.021, 1.0)])
@pytest.mark.parametrize("side", ["low", "high"])
@pytest.mark.parametrize(("low", "high"), [(-1.0, 1.0), (0.0, 255.0)])
def test_only_what_lies_beyond_the_range_by_two_hundredths_of_it_counts(
    beyond: float, share: float, side: str, low: float, high: float
) -> None:
    value = (high + beyond * (high - low)) if side == "high" else (low - beyond * (high - low))
    g = walkable(lambda z: torch.full((len(z), 1, 4, 4), value), low, high)
    assert g.clamped(torch.zeros(2, D), NO_CLASS[:2]) == share


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
        (lambda z: z[:, :4], r"returns \(8, 4\) for 8 latents.*image_shape"),
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


def test_the_last_class_is_tried_too(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="check latent_dim, classes"):
        check_images(own(tmp_path, TinyConditional(50), classes=60))


# Mappings


class Wrong(nn.Module):
    def __init__(self, how: str) -> None:
        super().__init__()
        self.how = how

    def forward(self, z: Tensor) -> Tensor:
        if self.how == "flat":
            return z.flatten()
        if self.how == "deep":
            return z[:, None, None]
        return z[:1]


@pytest.mark.parametrize(("how", "seen"), [("flat", r"\(12,\)"), ("deep", r"\(2, 1, 1, 6\)"), ("batch", r"\(1, 6\)")])
def test_a_mapping_of_another_shape_is_named(tmp_path: Path, how: str, seen: str) -> None:
    with pytest.raises(ModelError, match=rf"generator\.mapping returns {seen} for 2 latents; \(n, w\) or \(n, rows, w\)"):
        own(tmp_path, TinyGenerator(), Wrong(how))


def test_a_mapping_of_another_latent_size_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"generator\.mapping failed on latents of size 9"):
        own(tmp_path, TinyGenerator(), TinyMapping(), latent_dim=9)


def test_w_plus_needs_rows(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"w\+ needs a mapping that returns \(n, rows, w\)"):
        own(tmp_path, TinyGenerator(), TinyMapping(), space="w+")


def test_a_mapping_made_of_code_needs_allow_code_too(tmp_path: Path) -> None:
    mapping = {"kind": "factory", "target": "tests.support.worlds:build", "options": {"name": "TinyMapping"}}
    config = generator(**script(tmp_path, TinyGenerator()), mapping=mapping)
    with pytest.raises(ModelError, match="llow code to run"):
        config.load(SAFE)
    assert config.load(OPEN).space == "w"


# Fields


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"latent_dim": 0}, "latent_dim"),
        ({"latent_dim": True}, "latent_dim"),
        ({"output_range": [0]}, "output_range"),
        ({"output_range": [0, float("nan")]}, "output_range"),
        ({"output_range": None}, "output_range"),
        ({"latent": "gaussian"}, "latent"),
        ({"classes": 0}, "classes"),
        ({"classes": []}, "classes"),
        ({"image_shape": [28, 28]}, "image_shape"),
        ({"space": "s"}, "space"),
        ({"mapping": {"kind": "builtin", "name": "fashion-mnist-judge"}}, "mapping"),
        ({"name": "mine"}, "name"),
    ],
)
def test_a_field_of_another_form_is_named(change: dict[str, Any], where: str) -> None:
    with pytest.raises(ValidationError, match=where):
        generator(kind="torchscript", path="g.pt", **change)


def test_fields_that_contradict_each_other_are_all_reported() -> None:
    config = generator(kind="torchscript", path="g.pt", output_range=[1, 1], space="w")
    empty, space = config.mistakes()
    assert "output_range [1.0, 1.0] is empty" in empty and "space w needs a mapping" in space
    assert generator(kind="torchscript", path="g.pt").mistakes() == []
    assert len(generator(kind="factory", target="a:b", output_range=[1, 1], sha256="0" * 64).mistakes()) == 2


# The shipped generator


def shipped(space: str) -> Walkable:
    config = {"kind": "builtin", "name": "fashion-mnist", "space": space}
    loaded: Walkable = TypeAdapter(AnyGenerator).validate_python(config).load(SAFE)
    return loaded


@pytest.mark.parametrize("psi", [1.0, 0.7])
def test_the_same_seeds_look_the_same_in_z_and_in_w(psi: float) -> None:
    by_z, by_w = shipped("z").truncated(psi), shipped("w").truncated(psi)
    z, y = draw(range(4), by_z.z_dim, "normal"), torch.tensor([0, 3, 7, 9])
    torch.testing.assert_close(by_z.images(by_z.latents(z, y), y), by_w.images(by_w.latents(z, y), y), atol=1e-5, rtol=1e-4)
    assert (by_z.dim, by_w.dim) == (by_z.z_dim, 128)


def test_the_means_in_the_shipped_file_are_those_of_its_mapping() -> None:
    g = shipped("w")
    z = draw(MEAN_SEEDS, g.z_dim, "normal")
    for label in (0, 9):
        y = torch.full((len(z),), label)
        with torch.no_grad():
            w = g.latents(z, y)
        assert float((w.mean(0) - g.means[label]).norm()) < 0.1 * float((w - g.means[label]).norm(dim=1).mean())
