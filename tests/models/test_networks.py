"""Networks from files: what must work, and what must be refused before it runs."""

from __future__ import annotations

import io
import pickle
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from reds_core.errors import ModelError
from tests.support.networks import OPEN, SAFE, Hostile, exported, network, saved
from tests.support.worlds import D, TinyClassifier, TinyGenerator


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
def test_a_file_that_is_not_a_network_is_named(tmp_path: Path, kind: str) -> None:
    (tmp_path / "noise").write_bytes(b"\x80\x04noise" * 50)
    with pytest.raises(ModelError, match="noise is not a"):
        network(kind=kind, path=tmp_path / "noise").load(SAFE)
    with pytest.raises(ModelError, match="cannot be read"):
        network(kind=kind, path=tmp_path / "absent").load(SAFE)
    with pytest.raises(ModelError, match="the spec asks for"):
        network(kind=kind, path=tmp_path / "noise", sha256="a" * 64).load(SAFE)


@pytest.mark.parametrize("name", ["fashion-mnist-classifier", "fashion-mnist-judge"])
def test_shipped_networks_load(name: str) -> None:
    assert network(kind="builtin", name=name).load(SAFE)(torch.rand(3, 1, 32, 32)).shape == (3, 10)
