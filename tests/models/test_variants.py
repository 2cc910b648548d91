"""Checkpoints of known families that must not be imported as they are: with more in them, less, or made to fill the memory."""

from __future__ import annotations

import collections
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from reds_core.errors import ModelError
from reds_core.models.checkpoints import NotSupportedError, converted, notes_of, read_checkpoint
from reds_core.models.checkpoints.stand_ins import Array, Record
from reds_core.models.imported import import_checkpoint
from tests.models.test_families import ada, images, tensorflow
from tests.support import DATA
from tests.support.published import FastganGenerator, dcgan, moved, record_of, state_of, stored

# What is left over, or does not fit


def test_a_tensor_that_nobody_asked_for_stops_an_import() -> None:
    """Classes with known names and more in them draw other images."""
    g = ada()
    g["_modules"]["synthesis"]["_modules"]["b16"]["_modules"]["attn"] = Record(_parameters={"gamma": stored(torch.ones(1))})
    with pytest.raises(NotSupportedError, match=r"1 tensor that this architecture does not have, 'synthesis\.b16\.attn\.gamma'"):
        converted({"G_ema": g}, None)
    wave = read_checkpoint(DATA / "sg3t-tiny.pkl")
    wave["G_ema"]["_modules"]["scale_mapping"] = Record(_parameters={"weight": stored(torch.ones(1))})
    with pytest.raises(NotSupportedError, match=r"'scale_mapping\.weight'"):
        converted(wave, None)


@pytest.mark.parametrize("file", ["r3gan-cond-tiny.pkl", "xl-superres-tiny.pkl", "pggan-tiny.pth"])
def test_a_tensor_more_or_less_in_any_family_is_named(file: str) -> None:
    found = read_checkpoint(DATA / file)
    if "G_ema" in found:
        found["G_ema"]["_modules"]["extra"] = Record(_parameters={"weight": stored(torch.ones(1))})
    else:
        found["avgG"]["extra.weight"] = stored(torch.ones(1))
    with pytest.raises(NotSupportedError, match=r"'extra\.weight' among them"):
        converted(found, None)
    found = read_checkpoint(DATA / file)
    inner = found["G_ema"]["_modules"] if "G_ema" in found else found["avgG"]
    del inner[list(inner)[-1]]
    with pytest.raises(ModelError):
        converted(found, None)


def test_a_module_that_lies_in_itself_ends() -> None:
    g = ada()
    g["_modules"]["again"] = g
    with pytest.raises(ModelError, match="more than 32 deep"):
        converted({"G_ema": g}, None)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"alpha": 0.5}, "alpha is 0.5"),
        ({"leakyReluLeak": 0.1}, "leakyReluLeak"),
        ({"attribKeysOrder": Record(a=1)}, "attribKeysOrder"),
    ],
)
def test_a_progressive_gan_that_still_grows_or_has_classes_is_refused(change: dict[str, Any], message: str) -> None:
    found = read_checkpoint(DATA / "pggan-tiny.pth")
    found["config"] |= change
    with pytest.raises(NotSupportedError, match=message):
        converted(found, None)


def test_a_loss_decides_whether_a_progressive_gan_s_colours_are_squashed() -> None:
    found = read_checkpoint(DATA / "pggan-tiny.pth")
    z, labels = torch.randn(2, 32), torch.zeros(2, dtype=torch.long)
    found["config"]["lossCriterion"] = "DCGAN"
    squashed = images(found, z, labels)
    found["config"]["lossCriterion"] = "WGANGP"
    torch.testing.assert_close(images(found, z, labels).tanh(), squashed)
    assert not notes_of(found)
    del found["config"]["lossCriterion"]
    torch.testing.assert_close(images(found, z, labels), squashed)
    assert "which loss" in notes_of(found)[0]


# Settings


def test_a_biggan_s_settings_are_read_from_its_own_state(tmp_path: Path) -> None:
    config = json.loads((DATA / "biggan-tiny-config.json").read_text())
    torch.save({"itr": 7, "config": config | {"G_activation": nn.ReLU()}}, tmp_path / "state_dict.pth")
    by_state = import_checkpoint(DATA / "biggan-tiny-G_ema.pth", tmp_path / "a.safetensors", tmp_path / "state_dict.pth")
    by_json = import_checkpoint(DATA / "biggan-tiny-G_ema.pth", tmp_path / "b.safetensors", DATA / "biggan-tiny-config.json")
    assert by_state.weights_sha256 == by_json.weights_sha256
    torch.save(collections.OrderedDict(a=torch.ones(1)), tmp_path / "other.pth")
    with pytest.raises(ModelError, match=r"other\.pth holds no config"):
        import_checkpoint(DATA / "biggan-tiny-G_ema.pth", tmp_path / "c.safetensors", tmp_path / "other.pth")


# What would grow


def wide(rows: int, columns: int) -> Any:
    """A large tensor in a small file: a view that repeats one number has to be stored whole, so this one is thin."""
    return stored(torch.ones(rows, columns))


def test_products_of_thin_tensors_cannot_fill_the_memory() -> None:
    found = read_checkpoint(DATA / "xl-stem-tiny.pkl")
    mapping = found["G_ema"]["_modules"]["mapping"]["_modules"]
    mapping["embed"]["_parameters"]["weight"] = wide(60_000, 1)
    mapping["embed_proj"]["_parameters"] = {"weight": wide(60_000, 1), "bias": stored(torch.ones(60_000))}
    with pytest.raises(ModelError, match="made to fill the memory"):
        converted(found, None)
    published = record_of(moved(FastganGenerator(8, 128, 3, True)))
    synthesis = published["_modules"]["synthesis"]["_modules"]
    synthesis["embed"]["_parameters"]["weight"] = wide(60_000, 1)
    gain = synthesis["feat_8"]["_modules"]["bn"]["_modules"]["gain"]["_parameters"]
    gain |= {"weight_orig": wide(60_000, 1), "weight_u": stored(torch.ones(60_000)), "weight_v": stored(torch.ones(1))}
    gain["bias"] = stored(torch.ones(60_000))
    with pytest.raises(ModelError, match="made to fill the memory"):
        converted({"G_ema": published}, None)


@pytest.mark.parametrize(
    ("name", "tensor"),
    [("main.1.bias", torch.ones(8, 1)), ("main.1.running_mean", torch.ones(8, 1)), ("main.0.bias", torch.ones(8, 1))],
)
def test_shapes_that_would_spread_are_refused(name: str, tensor: Tensor) -> None:
    with pytest.raises(ModelError, match="not fit"):
        converted(state_of(moved(dcgan(10, (8, 6)))) | {name: stored(tensor)}, None)


@pytest.mark.parametrize("name", ["synthesis/noise99999999999", "synthesis/99999999x99999999/Conv1/weight"])
def test_absurd_numbers_in_names_are_only_names(name: str) -> None:
    g, parts = tensorflow("sg2ada")
    parts["synthesis"]["variables"].append((name.removeprefix("synthesis/"), Array(np.ones((1, 1, 1, 1), np.float32))))
    with pytest.raises(ModelError):
        converted((None, None, g), None)
    for k in range(13):
        parts["synthesis"]["variables"].append((f"{k}x{k}/Conv1/weight", Array(np.ones((1, 1, 1, 1), np.float32))))
    with pytest.raises(ModelError, match="blocks; no published network"):
        converted((None, None, g), None)
