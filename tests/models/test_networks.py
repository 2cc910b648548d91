"""Networks and generators from files: what must work, and what must be refused before it runs."""

from __future__ import annotations

import io
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import TypeAdapter
from safetensors.torch import save_file
from torch import nn

from reds_core.errors import ModelError
from reds_core.generators import AnyGenerator, Walkable, check_images
from tests.support.networks import OPEN, SAFE, Hostile, exported, generator, network, saved
from tests.support.worlds import D, RowsGenerator, TinyClassifier, TinyConditional, TinyGenerator, TinyMapping, torchscript


@pytest.mark.parametrize("kind", ["torchscript", "dynamic", "one", "four"])
def test_a_saved_network_computes_and_derives_as_the_original_at_any_batch(tmp_path: Path, kind: str) -> None:
    original = TinyGenerator().requires_grad_(False)
    loaded = network(**saved(kind, original, tmp_path)).load(SAFE)
    z, u = torch.randn(6, D, requires_grad=True), torch.randn(6, D)
    torch.testing.assert_close(loaded(z), original(z))
    ours, theirs = (torch.autograd.grad(f(z).square().sum(), z)[0] for f in (loaded, original))
    torch.testing.assert_close(ours, theirs)
    ours, theirs = (torch.func.jvp(f, (z.detach(),), (u,))[1] for f in (loaded, original))
    torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("kind", ["torchscript", "dynamic", "four"])
def test_a_conditional_generator_gets_its_class(tmp_path: Path, kind: str) -> None:
    net = TinyConditional()
    g = generator(**saved(kind, net, tmp_path, inputs=2), classes=["a", "b", "c"]).load(SAFE)
    z, y = torch.randn(5, D), torch.tensor([0, 1, 2, 1, 0])
    torch.testing.assert_close(g.images(z, y), (net(z, y) + 1) / 2)
    assert g.class_names == ("a", "b", "c") and g.space == "z" and check_images(g) == (1, 8, 8)


def mapped(folder: Path, net: nn.Module, mapping: nn.Module, **more: Any) -> Walkable:
    own = {"kind": "torchscript", "path": torchscript(mapping, folder / "m.pt")}
    loaded: Walkable = generator(kind="torchscript", path=torchscript(net, folder / "g.pt"), mapping=own, **more).load(SAFE)
    return loaded


def test_a_mapping_makes_w_the_space_walked_and_truncation_moves_to_its_mean(tmp_path: Path) -> None:
    mapping = TinyMapping()
    g = mapped(tmp_path, TinyGenerator(), mapping)
    z, y = torch.randn(4, D), torch.zeros(4, dtype=torch.long)
    w = g.latents(z, y)
    torch.testing.assert_close(w, mapping(z))
    torch.testing.assert_close(g.images(w, y), (TinyGenerator()(w) + 1) / 2)
    draws = torch.from_numpy(np.stack([np.random.RandomState(2**31 + i).randn(D) for i in range(4096)])).float()
    mean = mapping(draws).mean(0)
    torch.testing.assert_close(g.truncated(0.5).latents(z, y), mean + 0.5 * (w - mean), atol=1e-5, rtol=1e-5)


def test_rows_of_w_are_walked_as_one_or_side_by_side(tmp_path: Path) -> None:
    z, y = torch.randn(4, D), torch.zeros(4, dtype=torch.long)
    one = mapped(tmp_path, RowsGenerator(), TinyMapping(rows=3))
    every = mapped(tmp_path, RowsGenerator(), TinyMapping(rows=3, different=True), space="w+")
    assert (one.space, one.dim, every.space, every.dim) == ("w", D, "w+", 3 * D)
    torch.testing.assert_close(one.images(one.latents(z, y), y), (TinyGenerator()(TinyMapping()(z)) + 1) / 2)
    torch.testing.assert_close(every.images(every.latents(z, y), y), (TinyGenerator()(2 * TinyMapping()(z)) + 1) / 2)
    with pytest.raises(ModelError, match="rows are equal; these differ"):
        mapped(tmp_path, RowsGenerator(), TinyMapping(rows=3, different=True))


def test_space_z_walks_before_the_mapping(tmp_path: Path) -> None:
    for net, mapping in ((TinyGenerator(), TinyMapping()), (RowsGenerator(), TinyMapping(rows=2, different=True))):
        g = mapped(tmp_path, net, mapping, space="z")
        z, y = torch.randn(4, D), torch.zeros(4, dtype=torch.long)
        assert torch.equal(g.latents(z, y), z)
        torch.testing.assert_close(g.images(z, y), (net(mapping(z)) + 1) / 2)


class Broken(nn.Module):
    """A generator that is wrong in a way of its own."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how = how

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        x = torch.tanh(z[:, :4]).reshape(-1, 1, 2, 2)
        if self.how == "nan":
            return x / 0.0 * 0.0
        if self.how == "flat":
            return x.flatten(1)
        if self.how == "two channels":
            return x.repeat(1, 2, 1, 1)
        if self.how == "range":
            return x * 5
        return x[:1]


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("nan", "NaN or infinity"),
        ("flat", r"image_shape: \[c, h, w\] for flat outputs"),
        ("two channels", "1 or 3 channels"),
        ("range", r"from -4\.\d+ to 4\.\d+, and \d+% of its pixels lie outside output_range \[-1, 1\]"),
        ("batch", "for 8 latents"),
    ],
)
def test_a_generator_that_is_wrong_says_how(tmp_path: Path, how: str, message: str) -> None:
    g = generator(kind="torchscript", path=torchscript(Broken(how), tmp_path / "g.pt")).load(SAFE)
    with pytest.raises(ModelError, match=message):
        check_images(g)


def test_flat_outputs_take_their_shape_from_the_spec(tmp_path: Path) -> None:
    path = torchscript(Broken("flat"), tmp_path / "g.pt")
    assert check_images(generator(kind="torchscript", path=path, image_shape=[1, 2, 2]).load(SAFE)) == (1, 2, 2)


def test_a_small_overshoot_of_the_range_is_no_mistake(tmp_path: Path) -> None:
    g = Walkable("g", "z", 2, 2, "normal", (), (0.0, 1.0), lambda z, y: torch.full((len(z), 1, 4, 4), -0.01), None)
    assert check_images(g) == (1, 4, 4)


def test_wrong_latent_sizes_and_classes_are_named(tmp_path: Path) -> None:
    path = torchscript(TinyGenerator(), tmp_path / "g.pt")
    with pytest.raises(ModelError, match="8 latents of size 9"):
        check_images(generator(kind="torchscript", path=path, latent_dim=9).load(SAFE))
    with pytest.raises(ModelError, match="takes no second input"):
        generator(kind="torchscript", path=path, classes=3).load(SAFE)
    with pytest.raises(ModelError, match="check latent_dim, classes"):
        check_images(generator(kind="torchscript", path=torchscript(TinyConditional(), tmp_path / "c.pt")).load(SAFE))


def test_a_factory_runs_only_when_code_may(tmp_path: Path) -> None:
    save_file({k: v * 2 for k, v in TinyClassifier().state_dict().items()}, tmp_path / "w.safetensors")
    config = {"kind": "factory", "target": "tests.support.worlds:build", "options": {"name": "TinyClassifier"}}
    with pytest.raises(ModelError, match="llow code to run"):
        network(**config).load(SAFE)
    x = torch.rand(2, 1, 8, 8)
    filled = network(**config, weights=tmp_path / "w.safetensors").load(OPEN)
    torch.testing.assert_close(filled(x), 2 * network(**config).load(OPEN)(x))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"target": "tests.support.worlds:nobody"}, "cannot be imported"),
        ({"target": "no.such.module:f"}, "cannot be imported"),
        ({"target": "tests.support.worlds:not_a_network"}, "returned int"),
        ({"target": "tests.support.worlds:build", "options": {"name": "Nobody"}}, "failed: KeyError"),
        ({"target": "tests.support.worlds:D"}, "is not a function"),
    ],
)
def test_a_wrong_factory_says_how(config: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        network(kind="factory", **config).load(OPEN)


def test_weights_that_do_not_fit_or_hold_code_are_refused(tmp_path: Path) -> None:
    config = {"kind": "factory", "target": "tests.support.worlds:build", "options": {"name": "TinyClassifier"}}
    save_file({"other": torch.ones(1)}, tmp_path / "other.safetensors")
    with pytest.raises(ModelError, match="does not fit"):
        network(**config, weights=tmp_path / "other.safetensors").load(OPEN)
    torch.save(Hostile(tmp_path / "touched"), tmp_path / "bad.pt")
    with pytest.raises(ModelError, match="more than tensors"):
        network(**config, weights=tmp_path / "bad.pt").load(OPEN)
    (tmp_path / "noise.safetensors").write_bytes(b"\xff" * 64)
    with pytest.raises(ModelError, match="cannot be read"):
        network(**config, weights=tmp_path / "noise.safetensors").load(OPEN)
    assert not (tmp_path / "touched").exists()


def rewritten(source: Path, target: Path, replace: dict[str, bytes], add: dict[str, bytes]) -> Path:
    """A copy of an archive with members replaced (by the end of their names) and added."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for name in old.namelist():
            content = next((v for k, v in replace.items() if name.endswith(k)), old.read(name))
            new.writestr(name, content)
        root = old.namelist()[0].split("/")[0]
        for name, content in add.items():
            new.writestr(f"{root}/{name}", content)
    return target


def test_a_hostile_archive_is_refused_and_nothing_of_it_has_run(tmp_path: Path) -> None:
    good = exported(TinyGenerator(), (torch.randn(2, D),), tmp_path / "good.pt2", True)
    touched = tmp_path / "touched"
    nested = io.BytesIO()
    torch.save({"inputs": [Hostile(touched)]}, nested)
    table = b'{"config": {"basis": {"path_name": "weight_0", "is_param": true, "use_pickle": true}}}'
    cases = {
        "plain": ({"sample_inputs/model.pt": pickle.dumps(Hostile(touched))}, {}),
        "nested": ({"sample_inputs/model.pt": nested.getvalue()}, {}),
        "weights": ({"model_weights_config.json": table, "weight_0": nested.getvalue()}, {}),
        "compiled": ({}, {"data/aotinductor/model/model.so": b"\x7fELF"}),
        "old": ({}, {"serialized_state_dict.pt": nested.getvalue()}),
        "traversal": ({}, {"../../escape.pt": b""}),
    }
    for name, (replace, add) in cases.items():
        with pytest.raises(ModelError, match="llow code to run"):
            network(kind="exported", path=rewritten(good, tmp_path / f"{name}.pt2", replace, add)).load(SAFE)
        assert not touched.exists(), name
    network(kind="exported", path=good).load(SAFE)


@pytest.mark.parametrize("kind", ["torchscript", "exported"])
def test_a_file_that_is_no_network_is_named(tmp_path: Path, kind: str) -> None:
    (tmp_path / "noise").write_bytes(b"\x80\x04noise" * 50)
    with pytest.raises(ModelError, match="noise is no"):
        network(kind=kind, path=tmp_path / "noise").load(SAFE)
    with pytest.raises(ModelError, match="cannot be read"):
        network(kind=kind, path=tmp_path / "absent").load(SAFE)
    with pytest.raises(ModelError, match="the spec asks for"):
        network(kind=kind, path=tmp_path / "noise", sha256="a" * 64).load(SAFE)


def test_shipped_networks_load_and_truncate_towards_the_mean_of_the_class() -> None:
    g = TypeAdapter(AnyGenerator).validate_python({"kind": "builtin", "name": "fashion-mnist"}).load(SAFE)
    assert g.space == "w" and g.dim >= 128 and len(g.class_names) == 10 and check_images(g) == (1, 32, 32)
    z, y = torch.randn(10, g.z_dim), torch.arange(10)
    none = g.truncated(1e-9).latents(z, y)
    torch.testing.assert_close(none, torch.stack([g.means[c] for c in range(10)]), atol=1e-4, rtol=1e-4)
    assert float((none[0] - none[1]).norm()) > 0.1
    for name in ("fashion-mnist-classifier", "fashion-mnist-judge"):
        assert network(kind="builtin", name=name).load(SAFE)(torch.rand(3, 1, 32, 32)).shape == (3, 10)
