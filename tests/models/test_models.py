"""What every kind of network promises once it is loaded, and what a spec may say of one. What files hold: test_networks.py."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import TypeAdapter, ValidationError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from reds_core.errors import ModelError
from reds_core.models import AnyNetwork
from reds_core.models.config import Access, Config, Count, File, Number, file_sha256
from reds_core.models.factory import import_target, target_sha256
from reds_core.models.shipped.builtin import NETWORKS, WEIGHTS
from tests.support.networks import OPEN, SAFE, exported, network, saved
from tests.support.worlds import D, TinyClassifier, TinyConditional, TinyGenerator, torchscript

BUILD = {"kind": "factory", "target": "tests.support.worlds:build", "options": {"name": "TinyClassifier"}}


class RowByRow(nn.Module):
    """Rows depend on nothing but themselves, and nonlinearly on both inputs."""

    def forward(self, z: Tensor, label: Tensor) -> Tensor:
        return torch.sin(z * (label[:, None] + 1)).cumsum(1)


@pytest.mark.parametrize("batch", [1, 4])
@pytest.mark.parametrize("n", [1, 3, 4, 9])
def test_a_fixed_batch_keeps_every_row_with_its_own_class(tmp_path: Path, batch: int, n: int) -> None:
    example = (torch.randn(batch, D), torch.zeros(batch, dtype=torch.long))
    loaded = network(kind="exported", path=exported(RowByRow(), example, tmp_path / "n.pt2", False)).load(SAFE)
    z, y = torch.randn(n, D), torch.arange(n) % 3
    torch.testing.assert_close(loaded(z, y), RowByRow()(z, y))


@pytest.mark.parametrize("kind", ["torchscript", "dynamic", "one", "four"])
def test_the_whole_jacobian_of_a_saved_network_is_the_original_s(tmp_path: Path, kind: str) -> None:
    original = TinyGenerator().requires_grad_(False)
    loaded = network(**saved(kind, original, tmp_path)).load(SAFE)
    z, directions = torch.randn(5, D), torch.eye(D)

    def jacobian(f: Any) -> Tensor:
        return torch.stack([torch.func.jvp(f, (z,), (u.expand_as(z),))[1] for u in directions], -1)

    torch.testing.assert_close(jacobian(loaded), jacobian(original))
    # Rows that only fill up a chunk must not leak into anybody's derivative.
    ours, theirs = (torch.autograd.functional.jacobian(lambda x, f=f: f(x).sum((1, 2, 3)), z) for f in (loaded, original))
    torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("kind", ["torchscript", "dynamic", "four", "factory", "builtin"])
def test_a_loaded_network_is_frozen_and_in_evaluation_mode(tmp_path: Path, kind: str) -> None:
    if kind == "factory":
        loaded = network(**BUILD).load(OPEN)
    elif kind == "builtin":
        loaded = network(kind="builtin", name="fashion-mnist-classifier").load(SAFE)
    else:
        loaded = network(**saved(kind, TinyGenerator(), tmp_path)).load(SAFE)
    assert list(loaded.parameters()) and not any(p.requires_grad for p in loaded.parameters())
    if kind in ("torchscript", "factory", "builtin"):
        assert not loaded.training


@pytest.mark.parametrize("kind", ["torchscript", "dynamic", "four"])
def test_how_many_inputs_a_network_takes_is_known(tmp_path: Path, kind: str) -> None:
    for net, inputs in ((TinyGenerator(), 1), (TinyConditional(), 2)):
        config = network(**saved(kind, net, tmp_path, inputs))
        assert config.arity(config.load(SAFE)) == inputs


@pytest.mark.parametrize(("name", "inputs"), [("TinyGenerator", 1), ("TinyConditional", 2)])
def test_how_many_inputs_a_factory_s_network_takes_is_known(name: str, inputs: int) -> None:
    config = network(kind="factory", target="tests.support.worlds:build", options={"name": name})
    assert config.arity(config.load(OPEN)) == inputs


def test_torch_s_own_deprecations_are_not_the_user_s_to_read(tmp_path: Path) -> None:
    configs = [network(**saved(kind, TinyGenerator(), tmp_path)) for kind in ("torchscript", "four")]
    with warnings.catch_warnings():
        warnings.resetwarnings()
        warnings.simplefilter("error")
        for config in configs:
            config.load(SAFE)


@pytest.mark.parametrize("kind", ["torchscript", "dynamic"])
def test_a_pinned_hash_opens_its_file_and_no_other(tmp_path: Path, kind: str) -> None:
    config = saved(kind, TinyGenerator(), tmp_path)
    right = hashlib.sha256(config["path"].read_bytes()).hexdigest()
    network(**config, sha256=right).load(SAFE)
    with pytest.raises(ModelError) as refusal:
        network(**config, sha256="0" * 64).load(SAFE)
    assert right in str(refusal.value) and "0" * 64 in str(refusal.value) and str(config["path"]) in str(refusal.value)


def test_a_file_that_changed_is_hashed_again(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"one")
    before = file_sha256(path)
    path.write_bytes(b"three")
    assert file_sha256(path) == hashlib.sha256(b"three").hexdigest() != before


@pytest.mark.parametrize("kind", ["torchscript", "exported"])
def test_another_kind_of_file_is_named_and_no_traceback(tmp_path: Path, kind: str) -> None:
    torch.save(TinyGenerator().state_dict(), tmp_path / "state_dict.pt")
    torch.save(TinyGenerator(), tmp_path / "module.pt")
    (tmp_path / "empty.pt").write_bytes(b"")
    whole = saved("torchscript" if kind == "torchscript" else "dynamic", TinyGenerator(), tmp_path)["path"].read_bytes()
    (tmp_path / "cut.pt").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "folder.pt").mkdir()
    for name in ("state_dict.pt", "module.pt", "empty.pt", "cut.pt", "folder.pt"):
        with pytest.raises(ModelError, match=name):
            network(kind=kind, path=tmp_path / name).load(SAFE)


@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_a_shipped_network_is_its_file(name: str) -> None:
    config = network(kind="builtin", name=name)
    path = WEIGHTS / f"{name}.safetensors"
    assert config.identity() == {"weights_sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
    loaded = config.load(SAFE)
    state = loaded.state_dict()
    stored = load_file(path)
    assert {k for k in state if not k.endswith("num_batches_tracked")} == set(stored)
    for key, value in stored.items():
        torch.testing.assert_close(state[key], value.to(state[key]), rtol=0, atol=0)


@pytest.mark.parametrize("name", sorted(name for name, shipped in NETWORKS.items() if shipped.class_names))
def test_a_shipped_network_s_embedding_is_what_its_scores_are_made_of(name: str) -> None:
    loaded = network(kind="builtin", name=name).load(SAFE)
    x = torch.rand(3, 3 if name.startswith("rooms") else 1, 32, 32)
    torch.testing.assert_close(loaded.head(loaded.embed(x)), loaded(x))


def test_an_unknown_shipped_network_is_a_mistake_of_shape() -> None:
    with pytest.raises(ValidationError, match="fashion-mnist-classifier"):
        network(kind="builtin", name="imagenet")


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_weights_of_either_kind_fill_a_factory_s_network(tmp_path: Path, suffix: str) -> None:
    state = {"weight": torch.randn(3, 8, 8)}
    path = tmp_path / f"w{suffix}"
    save_file(state, path) if suffix == ".safetensors" else torch.save(state, path)
    loaded = network(**BUILD, weights=path, sha256=file_sha256(path)).load(OPEN)
    torch.testing.assert_close(loaded.weight, state["weight"], rtol=0, atol=0)
    with pytest.raises(ModelError, match="the spec asks for"):
        network(**BUILD, weights=path, sha256="1" * 64).load(OPEN)


def test_weights_are_strict_and_the_keys_are_named(tmp_path: Path) -> None:
    for state in ({}, {"weight": torch.zeros(3, 8, 8), "more": torch.zeros(1)}, {"weight": torch.zeros(2, 8, 8)}):
        save_file(state, tmp_path / "w.safetensors")
        with pytest.raises(ModelError, match=r"does not fit tests\.support\.worlds:build(.|\n)*(weight|more)"):
            network(**BUILD, weights=tmp_path / "w.safetensors").load(OPEN)


def test_a_hash_without_the_file_that_it_pins_is_a_mistake() -> None:
    assert network(**BUILD, sha256="0" * 64).mistakes() == ["sha256 pins a weights file, and there is none"]


def test_a_checkpoint_that_only_contains_a_state_dict_is_not_a_state_dict(tmp_path: Path) -> None:
    torch.save({"epoch": 3, "state_dict": TinyClassifier().state_dict()}, tmp_path / "c.pt")
    with pytest.raises(ModelError, match=r"not a state dict \(names -> tensors\)"):
        network(**BUILD, weights=tmp_path / "c.pt").load(OPEN)


@pytest.mark.parametrize("content", [b"", b"hello", b"PK\x03\x04", b"\x80\x04."])
def test_weights_that_are_noise_are_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "w.pt").write_bytes(content)
    with pytest.raises(ModelError, match=r"w\.pt (cannot be read as|is not|holds more)"):
        network(**BUILD, weights=tmp_path / "w.pt").load(OPEN)


@pytest.mark.parametrize("n", [1, 3, 4, 16, 17, 50])
@pytest.mark.parametrize(("least", "multiple"), [(2, 1), (4, 1), (1, 4)])
def test_an_archive_with_bounds_for_its_batch_takes_any(tmp_path: Path, n: int, least: int, multiple: int) -> None:
    path, net = tmp_path / "n.pt2", TinyGenerator()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        size = multiple * torch.export.Dim("n", min=least, max=16 // multiple)
        torch.export.save(torch.export.export(net, (torch.randn(8, D),), dynamic_shapes=({0: size},)), path)
    z = torch.randn(n, D)
    torch.testing.assert_close(network(kind="exported", path=path).load(SAFE)(z), net(z))


class Pair(nn.Module):
    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        return torch.sin(z), z + 1


def test_a_program_that_returns_no_tensor_is_named(tmp_path: Path) -> None:
    loaded = network(kind="exported", path=exported(Pair(), (torch.randn(4, D),), tmp_path / "n.pt2", False)).load(SAFE)
    with pytest.raises(ModelError, match="returns tuple"):
        loaded(torch.randn(4, D))


class NoForward(nn.Module):
    @torch.jit.export
    def synthesize(self, z: Tensor) -> Tensor:
        return z


def test_a_torchscript_without_forward_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no forward method"):
        network(kind="torchscript", path=torchscript(NoForward(), tmp_path / "n.pt")).load(SAFE)


def test_a_factory_may_return_what_it_opened_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import tests.support.worlds as worlds

    script = torchscript(TinyConditional(), tmp_path / "n.pt")
    program = exported(TinyGenerator(), (torch.randn(2, D),), tmp_path / "n.pt2", True)

    def open_script() -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.jit.load(str(script))

    monkeypatch.setattr(worlds, "own_script", open_script, raising=False)
    monkeypatch.setattr(worlds, "own_program", lambda: torch.export.load(program).module(), raising=False)
    for name, inputs in (("own_script", 2), ("own_program", 1)):
        config = network(kind="factory", target=f"tests.support.worlds:{name}")
        loaded = config.load(OPEN)
        assert config.arity(loaded) == inputs and not any(p.requires_grad for p in loaded.parameters())


def test_a_factory_that_exits_does_not_end_the_program(monkeypatch: pytest.MonkeyPatch) -> None:
    import tests.support.worlds as worlds

    monkeypatch.setattr(worlds, "leave", sys.exit, raising=False)
    with pytest.raises(ModelError, match="failed: SystemExit"):
        network(kind="factory", target="tests.support.worlds:leave").load(OPEN)


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A user's package, importable, whose modules leave a mark when they are imported."""
    folder = tmp_path / "users_own_package"
    folder.mkdir()
    for name in ("__init__", "nets"):
        (folder / f"{name}.py").write_text(
            f"import pathlib\npathlib.Path({str(tmp_path)!r}, 'ran_{name}').touch()\n"
            "class Holder:\n    @staticmethod\n    def build(): raise OSError('no weights here')\n"
        )
    monkeypatch.syspath_prepend(tmp_path)
    importlib.invalidate_caches()
    yield folder
    for name in [m for m in sys.modules if m.startswith("users_own_package")]:
        del sys.modules[name]


def test_hashing_or_refusing_a_target_does_not_import_it(package: Path) -> None:
    target = "users_own_package.nets:Holder.build"
    before = target_sha256(target)
    assert before == hashlib.sha256((package / "nets.py").read_bytes()).hexdigest()
    assert network(kind="factory", target=target).identity() == {"code_sha256": before}
    with pytest.raises(ModelError, match="allow code to run") as caught:
        import_target(target, SAFE)
    assert caught.value.parameter == "allow_code"
    assert not list(package.parent.glob("ran_*"))
    (package / "nets.py").write_text("pass\n")
    assert target_sha256(target) != before


def test_a_target_may_lie_inside_a_class_and_what_it_raises_is_shown_as_its_own(package: Path) -> None:
    with pytest.raises(ModelError, match=r"users_own_package\.nets:Holder\.build\(\) failed: OSError: no weights here"):
        network(kind="factory", target="users_own_package.nets:Holder.build").load(OPEN)
    assert len(list(package.parent.glob("ran_*"))) == 2


def test_a_target_whose_module_is_missing_cannot_be_hashed(package: Path) -> None:
    for target in ("no_such_module:f", "users_own_package.absent:f", "no.such.package:f", "sys:exit"):
        with pytest.raises(ModelError, match="its module cannot be found"):
            target_sha256(target)


def test_a_package_installed_for_editing_can_be_hashed(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`pip install -e` finds the top package by a finder of its own, which is on no path."""

    class Finder:
        @staticmethod
        def find_spec(name: str, path: Any = None, target: Any = None) -> Any:
            here = str(package / "__init__.py")
            places = [str(package)]
            if name == "edited":
                return importlib.util.spec_from_file_location(name, here, submodule_search_locations=places)
            return None

    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path, Finder])
    assert target_sha256("edited.nets:f") == file_sha256(package / "nets.py")
    assert not list(package.parent.glob("ran_*"))


@pytest.mark.parametrize("target", ["module", "module:", ":f", "a:b:c", "a b:f", "a.b", "a/b:f", "os;x:f", ".a:f", "a:f()"])
def test_a_target_of_another_form_is_a_mistake_of_shape(target: str) -> None:
    with pytest.raises(ValidationError, match="target"):
        network(kind="factory", target=target)


class Sizes(Config):
    number: Number = 0.0
    count: Count = 0
    file: File = Path("/")


def test_yes_is_not_a_number_and_a_whole_number_is() -> None:
    assert Sizes(number=2).number == 2.0
    for wrong in ({"number": True}, {"number": "1"}, {"number": float("nan")}, {"count": 1.0}, {"count": True}, {"nmber": 1}):
        with pytest.raises(ValidationError):
            TypeAdapter(Sizes).validate_python(wrong)


def test_relative_paths_start_at_the_base_and_absolute_ones_stay(tmp_path: Path) -> None:
    read = TypeAdapter(Sizes).validate_python
    assert read({"file": "nets/g.pt"}, context={"base": tmp_path}).file == tmp_path / "nets/g.pt"
    assert read({"file": tmp_path / "g.pt"}, context={"base": "/elsewhere"}).file == tmp_path / "g.pt"
    assert read({"file": "g.pt"}).file == Path.cwd() / "g.pt"


@pytest.mark.parametrize("path", ["~nobody-of-this-name/g.pt", "a\0b"])
def test_a_path_that_cannot_exist_is_a_mistake_of_shape(path: str) -> None:
    with pytest.raises(ValidationError, match="path"):
        network(kind="torchscript", path=path)


@pytest.mark.parametrize("kind", ["torchscript", "exported"])
@pytest.mark.parametrize("extra", [{"sha256": "A" * 64}, {"sha256": "ab"}, {"weights": "w"}, {"latent_dim": 3}])
def test_a_network_takes_only_its_own_fields(kind: str, extra: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=next(iter(extra))):
        TypeAdapter(AnyNetwork).validate_python({"kind": kind, "path": "n.pt", **extra})


def test_a_network_lands_on_the_device_asked_for(tmp_path: Path) -> None:
    meta = Access(torch.device("meta"), True)
    assert next(network(**BUILD).load(meta).parameters()).device.type == "meta"
    path = exported(TinyGenerator(), (torch.randn(2, D),), tmp_path / "n.pt2", True)
    assert next(network(kind="exported", path=path).load(meta).parameters()).device.type == "meta"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize("kind", ["torchscript", "dynamic", "four"])
def test_a_network_saved_on_the_cpu_computes_on_a_gpu(tmp_path: Path, kind: str) -> None:
    loaded = network(**saved(kind, TinyGenerator(), tmp_path)).load(Access(torch.device("cuda"), False))
    z = torch.randn(3, D)
    torch.testing.assert_close(loaded(z.cuda()).cpu(), TinyGenerator()(z), atol=1e-4, rtol=1e-4)


def test_traced_and_scripted_networks_are_the_same_to_us(tmp_path: Path) -> None:
    traced = tmp_path / "traced.pt"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.trace(TinyClassifier().eval(), torch.rand(2, 1, 8, 8)), str(traced))
    x = torch.rand(5, 1, 8, 8)
    scripted = network(kind="torchscript", path=torchscript(TinyClassifier(), tmp_path / "scripted.pt")).load(SAFE)
    torch.testing.assert_close(network(kind="torchscript", path=traced).load(SAFE)(x), scripted(x))
