"""Every family of checkpoints beyond those in test_import: the same images as the code that saved them, and nothing left over."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from reds_core.errors import ModelError
from reds_core.generators.direct import BigGanDeepGenerator
from reds_core.generators.latent import Walkable
from reds_core.models.checkpoints import NotSupportedError, converted, notes_of, read_checkpoint
from reds_core.models.checkpoints.modules import Modules
from reds_core.models.checkpoints.stand_ins import Array, Record
from reds_core.models.imported import check_fit, import_checkpoint
from reds_core.models.published import StyleGan2
from tests.models.test_import import CPU, expected
from tests.support import DATA
from tests.support.published import (
    FastganGenerator,
    PretrainedBigGAN,
    dcgan,
    moved,
    record_of,
    state_of,
    stored,
)
from tests.support.tensorflow import network, stylegan1_images, stylegan1_network, stylegan1_variables


def images(found: Any, z: Tensor, labels: Tensor, settings: dict[str, Any] | None = None, psi: float = 1.0) -> Tensor:
    """What the import of a checkpoint's contents draws, at a truncation."""
    _, architecture, state = converted(found, settings)
    check_fit(architecture, state)
    network = architecture.build().eval()
    network.load_state_dict(state)
    with torch.no_grad():
        if hasattr(architecture, "rows"):
            parts: dict[str, Any] = dict(network.named_children())
            w, mean = parts["mapping"](z, labels), parts["mapping"].mean
            mean = mean[labels] if mean.ndim == 2 else mean
            drawn: Tensor = parts["synthesis"]((mean + psi * (w - mean))[:, None].expand(-1, architecture.rows, -1))
            return drawn
        at = getattr(network, "at_truncation", lambda psi: network)
        drawn = at(psi)(z * psi, labels)
        return drawn


def close(found: Tensor, due: Tensor, within: float = 1e-4) -> None:
    torch.testing.assert_close(found, due, atol=within, rtol=0)


# From files


@pytest.mark.parametrize("psi", [1.0, 0.7])
@pytest.mark.parametrize(("name", "step"), [("xl-stem", 1), ("xl-superres", 2)])
def test_stylegan_xl_is_truncated_to_the_mean_of_its_class(name: str, step: int, psi: float) -> None:
    arrays = {k: torch.from_numpy(v) for k, v in np.load(DATA / f"{name}-expected.npz").items()}
    found = images(read_checkpoint(DATA / f"{name}-tiny.pkl"), arrays["z"], arrays["classes"], psi=psi)
    close(found[..., ::step, ::step], arrays[f"image_psi{psi}"])


@pytest.mark.parametrize("file", ["r3gan-cond-tiny.pkl", "pggan-tiny.pth"])
def test_networks_walked_in_z_draw_the_published_images(file: str) -> None:
    arrays = {k: torch.from_numpy(v) for k, v in np.load(DATA / f"{file.partition('-tiny')[0]}-expected.npz").items()}
    close(images(read_checkpoint(DATA / file), arrays["z"], arrays["classes"]), arrays["image_psi1.0"])


# StyleGAN2, in other containers


def ada(name: str = "sg2ada") -> Record:
    found: Record = read_checkpoint(DATA / f"{name}-tiny.pkl")["G_ema"]
    return found


@pytest.mark.parametrize("psi", [1.0, 0.7])
@pytest.mark.parametrize("name", ["sg2ada", "sg2ada-cond"])
@pytest.mark.parametrize(
    "container", [lambda g: g, lambda g: {"G_ema": g}, lambda g: {"G": g, "D": None}, lambda g: Modules(g).stored]
)
def test_a_network_alone_and_its_state_dict_draw_the_same_images(container: Callable[[Any], Any], name: str, psi: float) -> None:
    z, classes, arrays = expected(name)
    close(images(container(ada(name)), z, classes, psi=psi), arrays[f"image_psi{psi}"])


def test_the_weights_at_the_end_of_training_are_imported_with_a_warning() -> None:
    assert not notes_of({"G": ada(), "G_ema": ada()}) and not notes_of(ada())
    assert "not their average" in notes_of({"G": ada(), "G_ema": None})[0]


CONV = {"b4": "Conv"}  # the only convolution of the first block has a name of its own


def tensorflow(name: str, **told: Any) -> tuple[Record, dict[str, Record]]:
    """A pickle's networks in TensorFlow's form, and their parts, made of those in PyTorch's, names to names."""
    t = Modules(ada(name))
    parts: dict[str, Any] = {"synthesis": [], "mapping": []}
    for theirs in t:
        value, ours = np.asarray(t[theirs]), theirs.split(".")
        layer = {"conv0": "Conv0_up", "torgb": "ToRGB"}.get(
            ours[2] if len(ours) > 2 else "", "Conv" if ours[1] == "b4" else "Conv1"
        )
        if ours[0] == "mapping" and ours[1] != "w_avg":
            dense = "LabelEmbed" if ours[1] == "embed" else ours[1].replace("fc", "Dense")
            parts["mapping"].append((f"{dense}/{ours[2]}", Array(value.T)))
        elif ours[-1] == "const":
            parts["synthesis"].append(("4x4/Const/const", Array(value[None])))
        elif ours[-1] == "noise_const":
            k = int(np.log2(len(value)))
            parts["synthesis"].append((f"noise{2 * k - (5 if layer == 'Conv0_up' else 4)}", Array(value[None, None])))
        elif ours[0] == "synthesis" and ours[-1] != "resample_filter":
            size = ours[1][1:]
            if ours[3] == "affine":
                at = f"mod_{ours[4]}"
                value = value.T if ours[4] == "weight" else value - 1
            else:
                at = ours[3]
                if at == "weight":
                    value = value.transpose(2, 3, 1, 0)
                    value = value[::-1, ::-1] if layer == "Conv0_up" else value
            parts["synthesis"].append((f"{size}x{size}/{layer}/{at}", float(value) if value.ndim == 0 else Array(value)))
    components = {part: network({"variables": held, "static_kwargs": told}) for part, held in parts.items()}
    main = [("lod", 0.0), ("dlatent_avg", Array(np.asarray(t["mapping.w_avg"])))]
    return network({"variables": main, "components": components, "static_kwargs": told}), components


@pytest.mark.parametrize("psi", [1.0, 0.7])
@pytest.mark.parametrize("name", ["sg2ada", "sg2ada-cond"])
def test_a_pickle_of_tensorflow_draws_the_images_of_its_conversion(name: str, psi: float) -> None:
    z, classes, arrays = expected(name)
    g, _ = tensorflow(name)
    close(images((None, None, g), z, classes, psi=psi), arrays[f"image_psi{psi}"])
    close(images(g, z, classes, psi=psi), arrays[f"image_psi{psi}"])


def test_classes_of_the_first_stylegan2_are_normalised_together_with_z() -> None:
    """Its mapping puts a class's vector after z, and brings both to unit length at once."""
    g, parts = tensorflow("sg2ada-cond")
    vectors = np.random.default_rng(0).normal(size=(3, 32)).astype(np.float32)
    kept = [(n, v) for n, v in parts["mapping"]["variables"] if not n.startswith("LabelEmbed")]
    parts["mapping"]["variables"] = [*kept, ("LabelConcat/weight", Array(vectors))]
    _, architecture, state = converted((None, None, g), None)
    assert isinstance(architecture, StyleGan2) and architecture.joint
    mapping = architecture.mapping()
    mapping.load_state_dict({k.removeprefix("mapping."): v for k, v in state.items() if k.startswith("mapping.")})
    z, labels = torch.randn(3, 32), torch.arange(3)
    x = torch.cat([z, torch.from_numpy(vectors)], 1)
    x = x / (x.square().mean(1, keepdim=True) + 1e-8).sqrt()
    for layer in mapping.layers:
        x = nn.functional.leaky_relu(layer(x), 0.2) * 2**0.5
    torch.testing.assert_close(mapping(z, labels), x)


def test_a_network_that_grew_with_its_images_draws_the_largest() -> None:
    """Configurations b to d: colours only at the end, by the name of ToRGB_lod0; those of smaller sizes are left behind."""
    g, parts = tensorflow("sg2ada")
    held = parts["synthesis"]["variables"]
    colours = {n: v for n, v in held if "ToRGB" in n}
    renamed = [(n.replace("32x32/ToRGB", "ToRGB_lod0").replace("16x16/ToRGB", "ToRGB_lod1"), v) for n, v in held]
    parts["synthesis"]["variables"] = [(n, v) for n, v in renamed if n not in colours] + [("lod", 0.0)]
    _, architecture, state = converted((None, None, g), None)
    check_fit(architecture, state)
    assert isinstance(architecture, StyleGan2) and architecture.form == "orig"


@pytest.mark.parametrize("told", [{"resample_kernel": [1, 2, 1]}, {"nonlinearity": "relu"}, {"normalize_latents": False}])
def test_settings_of_tensorflow_that_are_not_supported_are_named(told: dict[str, Any]) -> None:
    with pytest.raises(NotSupportedError, match=next(iter(told))):
        converted((None, None, tensorflow("sg2ada", **told)[0]), None)


@pytest.mark.parametrize("psi", [1.0, 0.7])
@pytest.mark.parametrize("classes", [0, 3])
def test_the_first_stylegan_draws_what_its_code_draws(classes: int, psi: float) -> None:
    """Up to a size at which doubling and convolving are one step."""
    variables = stylegan1_variables(128, 12, classes)
    z, labels = torch.randn(3, 12, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 2, 1]) % max(1, classes)
    due = stylegan1_images(variables, z, labels, psi)
    close(images((None, None, stylegan1_network(variables)), z, labels, psi=psi), due, within=2e-4)  # of images up to 5


@pytest.mark.parametrize("told", [{"use_pixel_norm": True}, {"blur_filter": None}, {"fused_scale": False}])
def test_settings_of_the_first_stylegan_that_are_not_supported_are_named(told: dict[str, Any]) -> None:
    with pytest.raises(NotSupportedError, match=next(iter(told))):
        converted((None, None, stylegan1_network(stylegan1_variables(8, 12, 0), **told)), None)


def test_images_that_are_not_square_start_from_a_constant_that_is_not(tmp_path: Path) -> None:
    g = ada()
    for name in ("b4", "b8", "b16", "b32"):
        block = g["_modules"]["synthesis"]["_modules"][name]
        if name == "b4":
            block["_parameters"]["const"] = stored(block["_parameters"]["const"].tensor()[:, :, :2])
        for conv in (block["_modules"].get("conv0"), block["_modules"]["conv1"]):
            if conv is not None:
                noise = conv["_buffers"]["noise_const"].tensor()
                conv["_buffers"]["noise_const"] = stored(noise[:, : len(noise) // 2])
    z, classes, _ = expected("sg2ada")
    assert images(g, z, classes).shape[1:] == (3, 32, 16)
    _, architecture, _ = converted(g, None)
    assert isinstance(architecture, StyleGan2) and architecture.size == (32, 16)


# Rosinality's names, in other containers


@pytest.mark.parametrize("rows", [1, 8, None])
def test_an_encoder_s_decoder_is_the_generator_and_its_mean_counts_once(rows: int | None) -> None:
    z, classes, arrays = expected("rosinality")
    found = read_checkpoint(DATA / "rosinality-tiny.pt")
    mean = found["latent_avg"].tensor().reshape(1, -1)
    state = {f"decoder.{k}": v for k, v in found["g_ema"].items()} | {
        "encoder.input_layer.0.weight": stored(torch.ones(8, 3, 3, 3))
    }
    encoder = {"state_dict": state, "opts": Record(stylegan_size=32)} | (
        {"latent_avg": stored(mean.repeat(rows, 1))} if rows else {}
    )
    close(images(encoder, z, classes), arrays["image_psi1.0"])
    if rows:
        close(images(encoder, z, classes, psi=0.7), arrays["image_psi0.7"])
        encoder["latent_avg"] = stored(torch.arange(64.0).reshape(2, 32))
        with pytest.raises(ModelError, match="2 rows that differ"):
            converted(encoder, None)


def test_a_tensor_beside_an_encoder_and_its_decoder_stops_the_import() -> None:
    state = {f"decoder.{k}": v for k, v in read_checkpoint(DATA / "rosinality-tiny.pt")["g_ema"].items()}
    state |= {"encoder.body.0.weight": stored(torch.ones(3)), "refiner.weight": stored(torch.ones(3))}
    with pytest.raises(ModelError, match=r"holds 1 tensor that this architecture does not have, 'refiner\.weight'"):
        converted({"state_dict": state}, None)


def test_a_state_dict_alone_draws_the_same_images() -> None:
    z, classes, arrays = expected("rosinality")
    close(images(read_checkpoint(DATA / "rosinality-tiny.pt")["g_ema"], z, classes), arrays["image_psi1.0"])


def test_a_conditional_network_converted_to_a_form_without_classes_is_refused() -> None:
    state = read_checkpoint(DATA / "rosinality-tiny.pt")["g_ema"]
    state["style.1.weight"] = stored(torch.randn(32, 64))
    with pytest.raises(ModelError, match="takes 64 numbers, and w has 32: it was converted from a conditional network"):
        converted(state, None)


# By networks as they were published


@pytest.mark.parametrize("classes", [0, 3])
@pytest.mark.parametrize("lite", [True, False])
@pytest.mark.parametrize("resolution", [128, 256])
def test_fastgan_draws_the_published_images(resolution: int, lite: bool, classes: int) -> None:
    published = moved(FastganGenerator(8, resolution, classes, lite))
    z, labels = torch.randn(2, 8), torch.tensor([0, 2])
    with torch.no_grad():
        due = published.get_submodule("synthesis")(z, labels)
    close(images({"G": None, "G_ema": record_of(published)}, z, labels), due, 1e-5)


@pytest.mark.parametrize("psi", [1.0, 0.7, 0.4, 0.33])
@pytest.mark.parametrize("told", [True, False])
def test_biggan_deep_has_the_statistics_of_its_truncation(psi: float, told: bool) -> None:
    layers = [[False, 4, 4], [True, 4, 2], [False, 2, 2], [True, 2, 1]]
    published = moved(PretrainedBigGAN(8, 5, layers, attention=2, levels=51))
    z, labels = torch.randn(2, 8), torch.tensor([1, 4])
    with torch.no_grad():
        due = published(z * psi, labels, psi)
    close(images(state_of(published), z, labels, {"layers": layers, "eps": 1e-4} if told else None, psi), due, 1e-5)
    with pytest.raises(ModelError, match="do not belong together"):
        converted(state_of(published), {"layers": layers[:3]})


def test_the_walk_of_a_biggan_deep_is_truncated_the_same_way(tmp_path: Path) -> None:
    published = moved(PretrainedBigGAN(8, 5, [[False, 4, 4], [True, 4, 2]], attention=1, levels=51))
    torch.save(published.state_dict(), tmp_path / "b.bin")
    import_checkpoint(tmp_path / "b.bin", tmp_path / "b.safetensors")
    g: Walkable = BigGanDeepGenerator.model_validate({"kind": "biggan-deep", "path": tmp_path / "b.safetensors"}).load(CPU)
    z, labels = torch.randn(2, 8), torch.tensor([1, 4])
    with torch.no_grad():
        for psi in (1.0, 0.5, 1.0):
            g = g.truncated(psi)
            close(g.raw(g.latents(z, labels), labels), published(z * psi, labels, psi), 1e-5)


@pytest.mark.parametrize("prefix", ["", "module."])
def test_the_tutorial_s_dcgan_draws_its_images(prefix: str) -> None:
    published = moved(dcgan(10, (8, 6, 4)))
    z = torch.randn(3, 10)
    with torch.no_grad():
        due = published.get_submodule("main")(z[:, :, None, None])
    found = {f"{prefix}{name}": value for name, value in state_of(published).items()}
    close(images(found, z, torch.zeros(3, dtype=torch.long)), due, 1e-5)
