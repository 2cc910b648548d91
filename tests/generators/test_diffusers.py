"""A consistency model in diffusers' format: what diffusers itself makes of the noise, walked in directions found at every seed."""

from __future__ import annotations

import json
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import TypeAdapter, ValidationError
from safetensors.torch import load_file, save_file

import reds_core
from reds_core.errors import ModelError
from reds_core.generators import AnyGenerator, Walkable, check_images
from reds_core.generators.latent import draw
from reds_core.models.config import Access
from reds_core.spec.digest import digest
from reds_core.spec.fields import Spec

diffusers = pytest.importorskip("diffusers", reason="diffusers is not installed: pip install '.[diffusers]'")

SAFE = Access(torch.device("cpu"), False)
PIPE, UNET = "pipe/model_index.json", "pipe/unet/config.json"
WEIGHTS = "pipe/unet/diffusion_pytorch_model.safetensors"


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    """A class-conditional pipeline with random weights, and the folder that diffusers saved it in."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        unet = diffusers.UNet2DModel(
            sample_size=8, layers_per_block=1, block_out_channels=(8, 16), norm_num_groups=4, num_class_embeds=3,
            down_block_types=("ResnetDownsampleBlock2D", "AttnDownBlock2D"), attention_head_dim=8,
            up_block_types=("AttnUpBlock2D", "ResnetUpsampleBlock2D"), resnet_time_scale_shift="scale_shift",
        ).eval()  # fmt: skip
    found = diffusers.ConsistencyModelPipeline(unet, diffusers.CMStochasticIterativeScheduler(sigma_max=40.0))
    folder = tmp_path_factory.mktemp("model") / "pipe"
    found.save_pretrained(folder)
    found.set_progress_bar_config(disable=True)
    return found, folder


@pytest.fixture
def folder(pipeline: tuple[Any, Path], tmp_path: Path) -> Path:
    """A copy of the folder, to be changed."""
    return Path(shutil.copytree(pipeline[1], tmp_path / "pipe"))


def loaded(path: Path, **options: Any) -> Walkable:
    walkable: Walkable = TypeAdapter(AnyGenerator).validate_python({"kind": "diffusers", "path": str(path), **options}).load(SAFE)
    return walkable


def spec_of(path: Path, **keys: Any) -> Spec:
    return Spec.model_validate({
        "name": "one-step", "generator": {"kind": "diffusers", "path": str(path), "subspace": 64}, "seeds": {"count": 2},
        "attributes": {"hue": {"kind": "colour"}, "look": {"kind": "pixels"}}, "label": "condition",
        "held": {"hue": 0.1}, "varied": {"look": 0.1}, "trajectory": {"directions": 1, "waypoints": 2, "step": 0.05}, **keys,
    })  # fmt: skip


def test_images_are_those_of_the_published_pipeline_in_one_step(pipeline: tuple[Any, Path]) -> None:
    published, path = pipeline
    ours, labels = loaded(path), torch.tensor([0, 2, 1])
    z = draw(range(3), 3 * 8 * 8, "normal")
    theirs = published(
        batch_size=3, class_labels=labels, num_inference_steps=1, latents=z.unflatten(1, (3, 8, 8)), output_type="pt"
    ).images
    np.testing.assert_allclose(ours.images(z, labels), theirs, atol=1e-4)
    assert (ours.name, ours.class_names, ours.dim, ours.subspace) == ("pipe", ("0", "1", "2"), 192, 128)
    assert check_images(ours) == (3, 8, 8)
    assert float((ours.images(z, labels) - ours.images(z, labels * 0)).abs().max()) > 1e-3


def test_a_unet_alone_has_the_noise_levels_of_the_publication(pipeline: tuple[Any, Path], tmp_path: Path) -> None:
    alone = Path(shutil.copytree(pipeline[1] / "unet", tmp_path / "alone"))
    z, labels = draw(range(2), 192, "normal"), torch.zeros(2, dtype=torch.long)
    same = diffusers.ConsistencyModelPipeline(pipeline[0].unet, diffusers.CMStochasticIterativeScheduler())
    same.set_progress_bar_config(disable=True)
    theirs = same(batch_size=2, class_labels=labels, latents=z.unflatten(1, (3, 8, 8)), output_type="pt").images
    np.testing.assert_allclose(loaded(alone).images(z, labels), theirs, atol=1e-4)
    assert loaded(alone).name == "alone"


def test_weights_of_torch_save_are_read_and_those_that_run_code_are_not(folder: Path, tmp_path: Path) -> None:
    z, labels = draw([0], 192, "normal"), torch.zeros(1, dtype=torch.long)
    expected = loaded(folder).images(z, labels)
    weights = folder / "unet/diffusion_pytorch_model.bin"
    torch.save({k: v.half() for k, v in load_file(tmp_path / WEIGHTS).items()}, weights)
    (tmp_path / WEIGHTS).unlink()
    assert float((loaded(folder).images(z, labels) - expected).abs().max()) < 1e-2

    class Hostile:
        def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
            return os.mkdir, (str(tmp_path / "ran"),)

    weights.write_bytes(pickle.dumps({"conv_in.weight": Hostile()}))
    with pytest.raises(ModelError, match=r"cannot be read|not opened"):
        loaded(folder)
    assert not (tmp_path / "ran").exists()


def test_a_seed_is_walked_in_its_subspace_and_keeps_what_is_held(folder: Path) -> None:
    found = list(reds_core.augment(spec_of(folder), [0, 1]))
    variants = [one for one in found if one.role == "variant"]
    assert len(variants) == 2 * 2 * 2
    assert [one.reason for one in variants] == [""] * len(variants)
    for seed in (0, 1):
        own = next(one.latent for one in found if one.role == "seed" and one.seed == seed)
        moves = np.stack([one.latent - own for one in variants if one.seed == seed])
        assert np.linalg.norm(moves, axis=1).min() > 0.01 * np.linalg.norm(own)


def test_the_digest_names_what_the_folder_holds_and_not_where_it_lies(folder: Path, tmp_path: Path) -> None:
    first = digest(spec_of(folder))
    assert digest(spec_of(Path(shutil.move(folder, tmp_path / "elsewhere")))) == first
    unet = tmp_path / "elsewhere/unet/config.json"
    unet.write_text(json.dumps(json.loads(unet.read_text()) | {"_name_or_path": "/home/somebody"}))
    assert digest(spec_of(tmp_path / "elsewhere")) == first
    config = tmp_path / "elsewhere/scheduler/scheduler_config.json"
    config.write_text(config.read_text().replace("40.0", "41.0"))
    assert digest(spec_of(tmp_path / "elsewhere")) != first


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        (PIPE, {"_class_name": "DDPMPipeline"}, "is a DDPMPipeline, not a ConsistencyModelPipeline"),
        (UNET, {"_class_name": "UNet2DConditionModel"}, "is a UNet2DConditionModel, not a UNet2DModel"),
        ("pipe/scheduler/scheduler_config.json", {"_class_name": "DDIMScheduler"}, "is a DDIMScheduler"),
        ("pipe/scheduler/scheduler_config.json", {"sigma_max": 0.001}, "no noise levels"),
        (UNET, {"out_channels": 6}, "takes 3 channels and returns 6"),
        (UNET, {"sample_size": None}, "sample_size: None"),
        (UNET, {"class_embed_type": "timestep"}, "classes of the type 'timestep'"),
        (UNET, {"num_class_embeds": "many"}, "num_class_embeds: 'many'; it is a whole number"),
        (UNET, {"layers_per_block": 10**9}, "more layers than the file has tensors"),
        (UNET, {"block_out_channels": [8, 2**14]}, "more than twice as large"),
        (UNET, {"down_block_types": ["Unheard", "AttnDownBlock2D"]}, "builds no U-Net"),
        (UNET, {"block_out_channels": [8, 20]}, "does not fit the U-Net of its config.json"),
    ],
)  # fmt: skip
def test_another_model_is_refused_by_name(folder: Path, file: str, change: dict[str, Any], message: str) -> None:
    path = folder.parent / file
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(ModelError, match=message):
        loaded(folder)


def test_weights_that_are_missing_left_over_or_no_numbers_are_refused(folder: Path, tmp_path: Path) -> None:
    weights = load_file(tmp_path / WEIGHTS)
    for changed, message in (
        ({k: v for k, v in weights.items() if k != "conv_in.bias"}, "1 missing: conv_in.bias"),
        (weights | {"extra.weight": torch.zeros(2)}, "1 unknown to it: extra.weight"),
        (weights | {"conv_in.bias": torch.full_like(weights["conv_in.bias"], torch.nan)}, "NaN or infinity in 1 tensor"),
    ):
        save_file(changed, tmp_path / WEIGHTS)
        with pytest.raises(ModelError, match=message):
            loaded(folder)
    (tmp_path / WEIGHTS).unlink()
    with pytest.raises(ValidationError, match=r"holds no diffusion_pytorch_model\.safetensors"):
        loaded(folder)


def test_classes_are_named_and_the_subspace_has_limits(folder: Path) -> None:
    assert loaded(folder, classes=["cat", "dog", "hen"]).class_names == ("cat", "dog", "hen")
    with pytest.raises(ModelError, match=r"names 2 classes; .* has 3"):
        loaded(folder, classes=["cat", "dog"])
    with pytest.raises(ValidationError, match="greater than or equal to 64"):
        loaded(folder, subspace=8)


def test_own_images_are_refused_in_words(folder: Path) -> None:
    session = reds_core.Session(spec_of(folder), device="cpu")
    with pytest.raises(ModelError, match=r"almost any image has some noise"):
        list(session.augment_images(torch.rand(1, 3, 8, 8), [0]))
