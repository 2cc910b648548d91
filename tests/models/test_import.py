"""Published checkpoints, imported: they make the same images as the code that saved them, whatever the format."""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import TypeAdapter
from safetensors.torch import load_file, save_file
from torch import Tensor

from reds_core.errors import ModelError, SpecError
from reds_core.generators import AnyGenerator, Walkable, check_images
from reds_core.generators.latent import draw
from reds_core.jobs import prepare
from reds_core.jobs.images import as_stored
from reds_core.models.checkpoints import Family, converted, read_checkpoint
from reds_core.models.config import Access, file_sha256
from reds_core.models.imported import import_checkpoint
from reds_core.models.published import BigGan
from reds_core.models.published.stylegan2 import doubled
from reds_core.spec.fields import Spec
from reds_core.spec.load import dump, load_spec
from reds_core.variants.run_seeds import augment, run_seeds
from tests.support import DATA

CPU = Access(torch.device("cpu"), False)
FILES = {
    "sg2ada": ("sg2ada-tiny.pkl", "stylegan2"), "sg2ada-cond": ("sg2ada-cond-tiny.pkl", "stylegan2"),
    "sg3t": ("sg3t-tiny.pkl", "stylegan3"), "sg3r": ("sg3r-tiny.pkl", "stylegan3"),
    "rosinality": ("rosinality-tiny.pt", "stylegan2"), "biggan": ("biggan-tiny-G_ema.pth", "biggan"),
}  # fmt: skip
STYLE_BASED = [name for name in FILES if name != "biggan"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with all of them, imported."""
    found = tmp_path_factory.mktemp("imported")
    for name, (file, _) in FILES.items():
        config = DATA / "biggan-tiny-config.json" if name == "biggan" else None
        import_checkpoint(DATA / file, found / f"{name}.safetensors", config)
    return found


def generator(folder: Path, name: str, **fields: Any) -> Walkable:
    config = {"kind": FILES[name][1], "path": folder / f"{name}.safetensors"} | fields
    loaded: Walkable = TypeAdapter(AnyGenerator).validate_python(config).load(CPU)
    return loaded


def expected(name: str) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    """Latents, classes, and everything that the published code made of them."""
    arrays = {k: torch.from_numpy(v) for k, v in np.load(DATA / f"{name}-expected.npz").items()}
    z = arrays["z"] if "z" in arrays else draw(arrays["seeds"].tolist(), 32, "normal")
    return z, arrays.get("classes", torch.zeros(len(z), dtype=torch.long)), arrays


# The same images


@pytest.mark.parametrize("space", ["z", "w", "w+"])
@pytest.mark.parametrize("psi", [1.0, 0.7])
@pytest.mark.parametrize("name", STYLE_BASED)
def test_images_are_those_of_the_published_code(folder: Path, name: str, psi: float, space: str) -> None:
    g = generator(folder, name, space=space).truncated(psi)
    z, classes, arrays = expected(name)
    with torch.no_grad():
        latents = g.latents(z, classes)
        found = g.raw(latents, classes)
    torch.testing.assert_close(found, arrays[f"image_psi{psi}"], atol=1e-4, rtol=0)
    w = arrays.get(f"w_psi{psi}")
    if space == "w" and w is not None:
        torch.testing.assert_close(latents, w, atol=1e-5, rtol=0)


def test_a_biggan_s_images_are_those_of_the_published_code(folder: Path) -> None:
    g = generator(folder, "biggan")
    z, classes, arrays = expected("biggan")
    with torch.no_grad():
        found = g.raw(g.latents(z, classes), classes)
    off = (found - arrays["images"]).abs()
    # One normalisation of these random weights divides by a variance near zero, and makes a rounding visible: the published float32
    # images are themselves 2.3e-4 from what the same weights give in float64, in two pixels.
    assert off.max() < 5e-4 and (off > 1e-4).sum() <= 4 and off.mean() < 1e-6


def test_a_class_makes_a_difference_and_truncation_moves_to_the_mean_of_all(folder: Path) -> None:
    g = generator(folder, "sg2ada-cond")
    z = torch.randn(4, 32)
    w = [g.latents(z, torch.full((4,), c)) for c in range(3)]
    assert not torch.allclose(w[0], w[1]) and g.class_names == ("0", "1", "2")
    torch.testing.assert_close(*(g.truncated(1e-6).latents(z, torch.full((4,), c)) for c in (0, 1)), atol=1e-5, rtol=0)


def test_rows_of_w_plus_move_layers_of_their_own(folder: Path) -> None:
    g, flat = generator(folder, "sg2ada", space="w+"), generator(folder, "sg2ada")
    z, labels = torch.randn(2, 32), torch.zeros(2, dtype=torch.long)
    rows = g.latents(z, labels)
    assert g.dim == 8 * 32 and rows.shape == (2, 8 * 32)
    images = [g.images(rows, labels)]
    for row in (0, 7):
        moved = rows.clone().unflatten(1, (8, 32))
        moved[:, row] += 1
        images.append(g.images(moved.flatten(1), labels))
    torch.testing.assert_close(images[0], flat.images(flat.latents(z, labels), labels))
    assert all(not torch.allclose(images[0], other) for other in images[1:])


# A part of the network


@pytest.mark.parametrize("name", ["sg2ada", "rosinality"])
def test_a_lower_resolution_is_the_image_on_the_way(folder: Path, name: str) -> None:
    whole, half = generator(folder, name), generator(folder, name, resolution=16)
    w, labels = whole.latents(torch.randn(4, 32), torch.zeros(4, dtype=torch.long)), torch.zeros(4, dtype=torch.long)
    small, large = half.raw(w, labels), whole.raw(w, labels)
    assert small.shape == (4, 3, 16, 16) and large.shape == (4, 3, 32, 32)
    assert generator(folder, name, resolution=16, space="w+").dim == 6 * 32
    # The whole is the small one, doubled, and what the last block adds.
    _, architecture, state = _converted(name)
    network = architecture.build()
    state |= {k: torch.zeros_like(v) for k, v in state.items() if k.startswith("synthesis.blocks.3.rgb.conv")}
    network.load_state_dict(state)
    silent = network.get_submodule("synthesis")(w[:, None].expand(-1, 8, -1))
    torch.testing.assert_close(silent, doubled(small), atol=1e-5, rtol=1e-5)


def test_a_resolution_that_the_network_does_not_pass_is_named(folder: Path) -> None:
    with pytest.raises(ModelError, match="renders 4, 8, 16, 32 pixels, not 24"):
        generator(folder, "sg2ada", resolution=24)


def test_the_noise_can_be_left_out(folder: Path) -> None:
    w, labels = torch.randn(2, 32), torch.zeros(2, dtype=torch.long)
    with_noise, without = (generator(folder, "rosinality", noise=n).raw(w, labels) for n in ("const", "none"))
    assert not torch.allclose(with_noise, without)


# Derivatives and precision


@pytest.mark.parametrize("name", FILES)
def test_derivatives_of_both_modes_are_those_of_differences(folder: Path, name: str) -> None:
    network = _double(folder, name)
    z, classes, _ = expected(name)
    z, u = z[:2].double(), torch.randn(2, z.shape[1], dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    h = 1e-6

    def call(x: Tensor) -> Tensor:
        images: Tensor = network(x, classes[:2])
        return images

    difference = (call(z + h * u) - call(z - h * u)) / (2 * h)
    forward = torch.func.jvp(call, (z,), (u,))[1]
    # Not pixel by pixel: a few lie where the difference steps over a kink.
    assert (forward - difference).norm() < 1e-3 * difference.norm()
    leaf = z.requires_grad_()
    weights = torch.randn(forward.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    (gradient,) = torch.autograd.grad((call(leaf) * weights).sum(), leaf)
    torch.testing.assert_close((gradient * u).sum(), (forward * weights).sum(), atol=1e-6, rtol=1e-6)


def _double(folder: Path, name: str) -> Any:
    _, architecture, state = _converted(name)
    network = architecture.build().double()
    network.load_state_dict(state)
    if isinstance(architecture, BigGan):
        return network
    rows, parts = architecture.rows, dict(network.named_children())
    return lambda z, labels: parts["synthesis"](parts["mapping"](z, labels)[:, None].expand(-1, rows, -1))


def _converted(name: str) -> tuple[Family, Any, dict[str, Tensor]]:
    config = json.loads((DATA / "biggan-tiny-config.json").read_text()) if name == "biggan" else None
    return converted(read_checkpoint(DATA / FILES[name][0]), config)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", FILES)
def test_half_precision_gives_nearly_the_same_images(name: str, dtype: torch.dtype) -> None:
    _, architecture, state = _converted(name)
    z, classes, arrays = expected(name)
    network = architecture.build()
    network.load_state_dict(state)
    network = network.to(dtype, memory_format=torch.channels_last)
    with torch.no_grad():
        if isinstance(architecture, BigGan):
            found, due = network(z.to(dtype), classes), arrays["images"]
        else:
            w = network.get_submodule("mapping")(z.to(dtype), classes)
            found, due = network.get_submodule("synthesis")(w[:, None].expand(-1, architecture.rows, -1)), arrays["image_psi1.0"]
    assert bool(torch.isfinite(found).all())
    assert (found.float() - due).norm() < 0.15 * (due - due.mean()).norm()


# Walked


def spec_of(folder: Path, **changes: Any) -> Spec:
    upper, lower = ({"kind": "pixels", "region": {"box": box}} for box in ([0, 0, 0.5, 1], [0.5, 0, 1, 1]))
    return Spec.model_validate({
        "name": "t", "seeds": {"count": 2, "truncation": 0.7}, "attributes": {"upper": upper, "lower": lower}, "label": "none",
        "generator": {"kind": "stylegan2", "path": folder / "sg2ada.safetensors", "output_range": [-8, 8], "space": "w+"},
        "held": {"upper": 0.05}, "varied": {"lower": 0.05}, "trajectory": {"directions": 2, "waypoints": 2, "step": 0.05},
    } | changes)  # fmt: skip


@pytest.mark.parametrize("tangent", ["auto", "components"])
def test_in_w_plus_layers_move_apart_and_what_is_held_is_held(folder: Path, tangent: str) -> None:
    trajectory = {"directions": 2, "waypoints": 2, "step": 0.05, "tangent": tangent}
    variants = [c for c in augment(spec_of(folder, trajectory=trajectory), range(2)) if c.role == "variant"]
    reached = [c for c in variants if len(c.latent)]
    assert len(reached) >= len(variants) / 2
    assert all(c.drifts["upper"] <= 0.05 for c in reached) and any(c.accepted for c in variants)
    rows = np.stack([c.latent for c in reached]).reshape(len(reached), 8, 32)
    assert np.abs(rows - rows[:, :1]).max(axis=(1, 2)).min() > 1e-3


def test_trajectories_walked_by_small_images_are_checked_on_large_ones(folder: Path) -> None:
    config = spec_of(folder).generator.model_dump() | {"space": "w", "walk_resolution": 16}
    job = prepare.prepare(spec_of(folder, generator=config), "cpu")
    assert job.coarse is not None and (job.networks.image_shape, job.coarse.networks.image_shape) == ((3, 32, 32), (3, 16, 16))
    w, labels = torch.randn(2, 32), torch.zeros(2, dtype=torch.long)
    torch.testing.assert_close(
        job.coarse.networks.generator.raw(w, labels), generator(folder, "sg2ada", resolution=16).raw(w, labels)
    )
    rendered = {"large": 0, "small": 0}

    def counted(size: str, images: Any) -> Any:
        def call(points: Tensor, labels: Tensor) -> Tensor:
            rendered[size] += len(points)
            found: Tensor = images(points, labels)
            return found

        return call

    for size, g in (("large", job.networks.generator), ("small", job.coarse.networks.generator)):
        g.images = counted(size, g.images)  # type: ignore[method-assign]
    candidates, passes = run_seeds(job, range(2))
    reached = [c for c in candidates if c.role == "variant" and len(c.latent)]
    # Only the seeds' and the waypoints' own images are large; everything else was found out by small ones.
    assert rendered["large"] == 2 + len(reached) and rendered["small"] > rendered["large"]
    assert passes.forward <= sum(rendered.values())
    accepted = [c for c in candidates if c.accepted]
    assert accepted and all(c.pixels.shape == (32, 32, 3) for c in accepted)
    latents = torch.from_numpy(np.stack([c.latent for c in reached]))
    images = as_stored(job.networks.generator.images(latents, torch.zeros(len(latents), dtype=torch.long)), "png", None)[0]
    origin = as_stored(job.networks.generator.images(torch.from_numpy(candidates[0].latent)[None], labels[:1]), "png", None)[0]
    upper = job.networks.features["upper"]
    own = [i for i, c in enumerate(reached) if c.seed == 0]
    drifts = (upper(images[own], None) - upper(origin, None)).norm(dim=1) / job.spreads["upper"]
    torch.testing.assert_close(drifts, torch.tensor([reached[i].drifts["upper"] for i in own]), atol=1e-3, rtol=0)


def test_what_counts_pixels_cannot_be_walked_by_smaller_images(folder: Path) -> None:
    spec = spec_of(
        folder, attributes={"upper": {"kind": "frequency", "low": 0, "high": 0.1}, "lower": {"kind": "pixels", "lowpass": 2}}
    )
    path = folder / "walk.yaml"
    path.write_text(dump(spec).replace("space: w+", "space: w+\n  walk_resolution: 16"))
    with pytest.raises(SpecError) as caught:
        load_spec(path)
    assert [p.partition(": counts in pixels")[0] for p in caught.value.problems] == [
        "attributes.upper.high", "attributes.lower.lowpass"
    ]  # fmt: skip
    with pytest.raises(ModelError, match="walk_resolution: 32 is the size that is rendered anyway"):
        generator(folder, "sg2ada", walk_resolution=32)


def test_published_trajectories_are_refused_where_their_grams_fit_no_memory(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prepare, "MOST_GRAM", 255)
    with pytest.raises(ModelError, match="local needs a Gram of 256x256"):
        next(augment(spec_of(folder, trajectory={"method": "local"}), range(2)))


# What is wrong


def test_a_state_dict_of_biggan_needs_its_configuration_and_the_right_one(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"biggan-tiny-G_ema\.pth: .* needs the configuration") as caught:
        import_checkpoint(DATA / "biggan-tiny-G_ema.pth", tmp_path / "b.safetensors")
    assert caught.value.parameter == "config"
    config = json.loads((DATA / "biggan-tiny-config.json").read_text())
    for change, message in (
        ({"resolution": 128}, "do not belong together"),
        ({"hier": False}, "do not belong"),
        ({"model": "BigGANdeep"}, "only the"),
    ):
        (tmp_path / "c.json").write_text(json.dumps(config | change))
        with pytest.raises(ModelError, match=message):
            import_checkpoint(DATA / "biggan-tiny-G_ema.pth", tmp_path / "b.safetensors", tmp_path / "c.json")
    (tmp_path / "c.json").write_text("[" * 100_000)
    with pytest.raises(ModelError, match="cannot be read as JSON"):
        import_checkpoint(DATA / "biggan-tiny-G_ema.pth", tmp_path / "b.safetensors", tmp_path / "c.json")
    (tmp_path / "c.json").write_text(json.dumps({"resolution": 64}))
    with pytest.raises(ModelError, match="configuration lacks n_classes, dim_z, hier"):
        import_checkpoint(DATA / "biggan-tiny-G_ema.pth", tmp_path / "b.safetensors", tmp_path / "c.json")
    assert not list(tmp_path.glob("b.*"))


def test_a_training_checkpoint_without_a_mean_gets_one(folder: Path, tmp_path: Path) -> None:
    found = torch.load(DATA / "rosinality-tiny.pt", weights_only=True)
    known = found.pop("latent_avg")
    torch.save(found | {"args": argparse.Namespace(size=32)}, tmp_path / "t.pt")
    import_checkpoint(tmp_path / "t.pt", tmp_path / "rosinality.safetensors")
    w = generator(folder, "rosinality").latents(torch.randn(1000, 32), torch.zeros(1000, dtype=torch.long))
    measured = generator(tmp_path, "rosinality").means[0]
    assert (measured - w.mean(0)).norm() < 0.2 * w.std(0).norm() and measured.shape == known.shape


def rosinality(tmp_path: Path, **changes: Any) -> Path:
    """rosinality's checkpoint with some of its tensors replaced, or left out if None."""
    found = torch.load(DATA / "rosinality-tiny.pt", weights_only=True)
    for name, value in changes.items():
        found["g_ema"].pop(name, None)
        if value is not None:
            found["g_ema"][name] = value
    torch.save(found, tmp_path / "r.pt")
    return tmp_path / "r.pt"


def test_a_checkpoint_without_fixed_noise_has_none(folder: Path, tmp_path: Path) -> None:
    source = rosinality(tmp_path, **{f"noises.noise_{k}": None for k in range(7)})
    import_checkpoint(source, tmp_path / "rosinality.safetensors")
    w, labels = torch.randn(2, 32), torch.zeros(2, dtype=torch.long)
    torch.testing.assert_close(
        generator(tmp_path, "rosinality").raw(w, labels), generator(folder, "rosinality", noise="none").raw(w, labels)
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"iwt.ll": torch.ones(2, 2)}, "1 tensor that this architecture does not have, 'iwt.ll' among them"),
        ({"convs.0.noise.weight": torch.ones(8, 1)}, "cannot be converted"),
        ({"conv1.conv.weight": torch.zeros(1, 4096, 0, 3, 3)}, "is empty"),
        ({"noises.noise_0": torch.full((1, 1, 4, 4), 1e300, dtype=torch.float64)}, "NaN or infinity"),
        ({"style.2.weight": torch.ones(3, 3)}, "does not fit its own architecture"),
    ],
)
def test_a_variant_or_a_damaged_checkpoint_is_refused_and_leaves_nothing(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    source = rosinality(tmp_path, **changes)
    with pytest.raises(ModelError, match=re.escape(message)):
        import_checkpoint(source, tmp_path / "out/r.safetensors")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("key", ["bottom_width", "BN_eps", "dim_z", "resolution"])
@pytest.mark.parametrize("value", [0, -1, 10**400, 1e300, "x", [], None])
def test_an_absurd_configuration_is_a_message(tmp_path: Path, key: str, value: Any) -> None:
    config = json.loads((DATA / "biggan-tiny-config.json").read_text()) | {key: value}
    (tmp_path / "c.json").write_text(json.dumps(config))
    try:
        import_checkpoint(DATA / "biggan-tiny-G_ema.pth", tmp_path / "b.safetensors", tmp_path / "c.json")
    except ModelError as error:
        assert not list(tmp_path.glob("*b.*")) and "biggan-tiny" in str(error)
    else:
        assert key == "BN_eps"  # any number will do


def test_files_that_cannot_be_written_leave_the_old_ones_and_no_parts(tmp_path: Path) -> None:
    import_checkpoint(DATA / "sg3r-tiny.pkl", tmp_path / "g.safetensors")
    before = (tmp_path / "g.safetensors").read_bytes()
    (tmp_path / "g.json").unlink()
    (tmp_path / "g.json").mkdir()
    with pytest.raises(ModelError, match=r"g\.json is a folder"):
        import_checkpoint(DATA / "sg3t-tiny.pkl", tmp_path / "g.safetensors")
    assert (tmp_path / "g.safetensors").read_bytes() == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["g.json", "g.safetensors"]


def test_a_checkpoint_of_something_else_is_named_with_what_it_holds(tmp_path: Path) -> None:
    torch.save({"model": {"w.weight": torch.ones(2)}}, tmp_path / "other.pt")
    with pytest.raises(ModelError, match="holds model: none of the formats that are read"):
        import_checkpoint(tmp_path / "other.pt", tmp_path / "o.safetensors")


def test_a_pair_that_does_not_belong_together_is_noticed(folder: Path, tmp_path: Path) -> None:
    for suffix, name in ((".safetensors", "sg3t"), (".json", "sg3r")):
        (tmp_path / f"mixed{suffix}").write_bytes((folder / f"{name}{suffix}").read_bytes())
    with pytest.raises(ModelError, match=r"is not the file that mixed\.json describes"):
        TypeAdapter(AnyGenerator).validate_python({"kind": "stylegan3", "path": tmp_path / "mixed.safetensors"}).load(CPU)
    (tmp_path / "mixed.json").unlink()
    with pytest.raises(ModelError, match=r"mixed\.json.*reds import"):
        TypeAdapter(AnyGenerator).validate_python({"kind": "stylegan3", "path": tmp_path / "mixed.safetensors"}).load(CPU)


@pytest.mark.parametrize("value", [torch.tensor(float("nan")), torch.ones((), dtype=torch.float64)])
def test_weights_that_are_not_finite_float32_numbers_are_named(folder: Path, tmp_path: Path, value: Tensor) -> None:
    state = load_file(folder / "sg3t.safetensors")
    state["mapping.mean"] = state["mapping.mean"].to(value.dtype) * value
    save_file(state, tmp_path / "x.safetensors")
    description = json.loads((folder / "sg3t.json").read_text()) | {"weights_sha256": file_sha256(tmp_path / "x.safetensors")}
    (tmp_path / "x.json").write_text(json.dumps(description))
    with pytest.raises(ModelError, match=r"not finite float32 numbers, mapping\.mean"):
        TypeAdapter(AnyGenerator).validate_python({"kind": "stylegan3", "path": tmp_path / "x.safetensors"}).load(CPU)


def test_another_kind_than_the_spec_says_and_other_classes_are_named(folder: Path) -> None:
    with pytest.raises(ModelError, match=r"sg3t\.safetensors is a stylegan3; the spec says kind: stylegan2"):
        TypeAdapter(AnyGenerator).validate_python({"kind": "stylegan2", "path": folder / "sg3t.safetensors"}).load(CPU)
    with pytest.raises(ModelError, match=r"names 2 classes; sg2ada-cond\.safetensors has 3"):
        generator(folder, "sg2ada-cond", classes=["cat", "dog"])
    assert generator(folder, "sg2ada-cond", classes=["cat", "dog", "wild"]).class_names == ("cat", "dog", "wild")


def test_nan_in_a_checkpoint_is_named(tmp_path: Path) -> None:
    found = torch.load(DATA / "biggan-tiny-G_ema.pth", weights_only=True)
    found["blocks.1.0.conv1.bias"][3] = float("nan")
    torch.save(found, tmp_path / "nan.pth")
    with pytest.raises(ModelError, match=r"NaN or infinity in 1 tensor, blocks\.1\.conv1\.bias"):
        import_checkpoint(tmp_path / "nan.pth", tmp_path / "n.safetensors", DATA / "biggan-tiny-config.json")


@pytest.mark.parametrize("name", FILES)
def test_an_imported_generator_passes_the_checks_of_a_run(folder: Path, name: str) -> None:
    # Random weights have no range of their own.
    assert check_images(generator(folder, name, output_range=[-20, 20]))[0] == 3
