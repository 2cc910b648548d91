"""From a seed's latent to the space walked: mappings, truncation, classes, fields, and the shipped generator."""

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
from tests.support.networks import OPEN, SAFE, exported, generator, saved
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


@pytest.mark.parametrize("kind", ["torchscript", "dynamic", "four"])
def test_a_conditional_generator_gets_its_class(tmp_path: Path, kind: str) -> None:
    net = TinyConditional()
    g = generator(**saved(kind, net, tmp_path, inputs=2), classes=["a", "b", "c"]).load(SAFE)
    z, y = torch.randn(5, D), torch.tensor([0, 1, 2, 1, 0])
    torch.testing.assert_close(g.images(z, y), (net(z, y) + 1) / 2)
    assert g.class_names == ("a", "b", "c") and g.space == "z" and check_images(g) == (1, 8, 8)


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
    for mapping in (TinyMapping(), None):
        with pytest.raises(ModelError, match=r"classes is set, but the TorchScript network g\.pt takes no second input"):
            own(tmp_path, TinyGenerator(), mapping, classes=3)


def test_the_last_class_is_tried_too(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="check latent_dim, latent_axes, classes"):
        check_images(own(tmp_path, TinyConditional(50), classes=60))


def test_a_network_that_needs_a_class_says_so_before_the_run(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="check latent_dim, latent_axes, classes"):
        check_images(own(tmp_path, TinyConditional()))
    with pytest.raises(ModelError, match=r"generator\.mapping failed"):
        own(tmp_path, TinyGenerator(), ClassMapping())


# Mappings


def test_a_mapping_makes_w_the_space_walked_and_truncation_moves_to_its_mean(tmp_path: Path) -> None:
    mapping = TinyMapping()
    g = own(tmp_path, TinyGenerator(), mapping)
    z, y = torch.randn(4, D), torch.zeros(4, dtype=torch.long)
    w = g.latents(z, y)
    torch.testing.assert_close(w, mapping(z))
    torch.testing.assert_close(g.images(w, y), (TinyGenerator()(w) + 1) / 2)
    mean = mean_of(mapping)
    torch.testing.assert_close(g.truncated(0.5).latents(z, y), mean + 0.5 * (w - mean), atol=1e-5, rtol=1e-5)


def test_rows_of_w_are_walked_as_one_or_side_by_side(tmp_path: Path) -> None:
    z, y = torch.randn(4, D), torch.zeros(4, dtype=torch.long)
    one = own(tmp_path, RowsGenerator(), TinyMapping(rows=3))
    every = own(tmp_path, RowsGenerator(), TinyMapping(rows=3, different=True), space="w+")
    assert (one.space, one.dim, every.space, every.dim) == ("w", D, "w+", 3 * D)
    torch.testing.assert_close(one.images(one.latents(z, y), y), (TinyGenerator()(TinyMapping()(z)) + 1) / 2)
    torch.testing.assert_close(every.images(every.latents(z, y), y), (TinyGenerator()(2 * TinyMapping()(z)) + 1) / 2)
    with pytest.raises(ModelError, match="rows are equal; these differ"):
        own(tmp_path, RowsGenerator(), TinyMapping(rows=3, different=True))


def test_space_z_walks_before_the_mapping(tmp_path: Path) -> None:
    for net, mapping in ((TinyGenerator(), TinyMapping()), (RowsGenerator(), TinyMapping(rows=2, different=True))):
        g = own(tmp_path, net, mapping, space="z")
        z, y = torch.randn(4, D), torch.zeros(4, dtype=torch.long)
        assert torch.equal(g.latents(z, y), z)
        torch.testing.assert_close(g.images(z, y), (net(mapping(z)) + 1) / 2)


def test_an_exported_mapping_and_synthesis_work_together_at_any_batch(tmp_path: Path) -> None:
    mapping = exported(TinyMapping(rows=3), (torch.randn(1, D),), tmp_path / "m.pt2", False)
    net = exported(RowsGenerator(), (torch.randn(4, 3, D),), tmp_path / "g.pt2", False)
    g = generator(kind="exported", path=net, mapping={"kind": "exported", "path": mapping}).load(SAFE)
    z = torch.randn(4, D)
    torch.testing.assert_close(g.latents(z, NO_CLASS), TinyMapping()(z))
    assert check_images(g) == (1, 8, 8) and (g.space, g.dim) == ("w", D)


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


def test_another_latent_size_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="8 latents of size 9"):
        check_images(own(tmp_path, TinyGenerator(), latent_dim=9))
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


def test_the_shipped_generator_loads_and_truncates_towards_the_mean_of_the_class() -> None:
    g = TypeAdapter(AnyGenerator).validate_python({"kind": "builtin", "name": "fashion-mnist"}).load(SAFE)
    assert g.space == "w" and g.dim >= 128 and len(g.class_names) == 10 and check_images(g) == (1, 32, 32)
    z, y = torch.randn(10, g.z_dim), torch.arange(10)
    none = g.truncated(1e-9).latents(z, y)
    torch.testing.assert_close(none, torch.stack([g.means[c] for c in range(10)]), atol=1e-4, rtol=1e-4)
    assert float((none[0] - none[1]).norm()) > 0.1


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
