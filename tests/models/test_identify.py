"""What is not read: its name, as far as bytes and names tell, and a way round that works to the letter."""

from __future__ import annotations

import io
import re
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import Tensor, nn

from reds_core.errors import ModelError
from reds_core.generators import check_images
from reds_core.models.checkpoints import NotSupportedError, way_round
from reds_core.models.config import Access
from reds_core.models.imported import import_checkpoint
from reds_core.spec.load import load_spec
from tests.support import DATA, SPECS
from tests.support.docs import page


def refusal(path: Path) -> str:
    with pytest.raises(ModelError) as caught:
        import_checkpoint(path, path.parent / "out.safetensors")
    assert not list(path.parent.glob("out.*")) and str(path) in str(caught.value)
    return str(caught.value)


def archive(*names: str) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as file:
        for name in names:
            file.writestr(name, b"x")
    return content.getvalue()


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "a Git LFS pointer.*git lfs pull"),
        (b"<!DOCTYPE html><html><head><title>Google Drive", "a web page.*/resolve/ in place of /blob/"),
        (b"\n<html>", "a web page"),
        (b'{"layers": []}', "JSON"),
        (b"\x89HDF\r\n\x1a\n", "HDF5"),
        (b"\x1f\x8b\x08\0\0", "compressed archive; unpack"),
        (b"\x40\0\0\0\0\0\0\0{\"a\": 1}", "a safetensors file"),
        (archive("g/data.pkl", "g/constants.pkl", "g/code/x.py"), "TorchScript.*kind: torchscript"),
        (archive("models/model.json"), "torch.export.*kind: exported"),
        (archive("saved_model.pb"), "unpack"),
        (b"", "incomplete download"),
    ],
)  # fmt: skip
def test_a_file_that_is_no_checkpoint_is_told_by_its_first_bytes(tmp_path: Path, content: bytes, what: str) -> None:
    (tmp_path / "x.pkl").write_bytes(content)
    assert re.search(what, refusal(tmp_path / "x.pkl"))


@pytest.mark.parametrize("file", ["sg2ada-tiny.pkl", "rosinality-tiny.pt", "xl-stem-tiny.pkl", "biggan-tiny-G_ema.pth"])
@pytest.mark.parametrize("share", [0.3, 0.9])
def test_a_download_that_stopped_is_named(tmp_path: Path, file: str, share: float) -> None:
    content = (DATA / file).read_bytes()
    (tmp_path / file).write_bytes(content[: int(share * len(content))])
    assert "incomplete download" in refusal(tmp_path / file)


@pytest.mark.parametrize(
    ("held", "what"),
    [
        ({"GAN": {"S.net.0.weight": 1, "GE.initial_block": 1}, "version": "1.8"}, "a lucidrains stylegan2-pytorch checkpoint"),
        ({"visual.conv1.weight": 1, "token_embedding.weight": 1}, "a CLIP model"),
        ({"text_model.encoder.layers.0.mlp.fc1.weight": 1}, "a CLIP model"),
        ({"state_dict": {"model.diffusion_model.out.0.weight": 1}}, "a diffusion model"),
        ({"down_blocks.0.resnets.0.conv1.weight": 1}, "a diffusion model"),
        ({"state_dict": {"quantize.embedding.weight": 1}}, "an autoencoder"),
        ({"generator_smooth": {"mapping.dense0.weight": 1}}, "a genforce checkpoint"),
        ({"meta": {}, "state_dict": {"generator_ema.style_mapping.1.weight": 1}}, "an MMagic or MMGeneration checkpoint"),
        ({"layer1.0.conv1.weight": 1, "fc.weight": 1}, "a classifier of images"),
        ({"state_dict": {"encoder.body.0.res_layer.0.weight": 1}}, "an encoder without"),
        ({"b4.mbstd.weight": 1}, "a discriminator"),
    ],
)
def test_a_checkpoint_of_another_kind_is_told_by_its_names_with_a_way_round(
    tmp_path: Path, held: dict[str, Any], what: str
) -> None:
    def tensors(value: Any) -> Any:
        return {k: tensors(v) for k, v in value.items()} if isinstance(value, dict) else torch.ones(2)

    torch.save(tensors(held), tmp_path / "theirs.pt")
    message = refusal(tmp_path / "theirs.pt")
    assert f"it looks like {what}" in message and "which is not read" in message and way_round("theirs.pt") in message


def test_a_network_of_another_class_is_named_by_it(tmp_path: Path) -> None:
    torch.save(nn.Sequential(nn.Linear(2, 2)), tmp_path / "s.pt")
    assert "of the class torch.nn.modules.container.Sequential, which is none of those read" in refusal(tmp_path / "s.pt")


class Theirs(nn.Module):
    """A network of somebody else's, of latents (n, 16)."""

    def forward(self, z: Tensor) -> Tensor:
        return z.view(-1, 1, 4, 4).tanh()


def followed(lines: str, generator: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Follows a way round: writes the file, then loads the generator of a spec and draws with it."""
    (folder / "my_generator.py").write_text(lines)
    (folder / "its_own_code.py").write_text(
        "from tests.models.test_identify import Theirs\n\ndef load(file):\n    return Theirs()\n"
    )
    raw = yaml.safe_load((SPECS / "fashion_mnist.yaml").read_text())
    raw |= {"label": "none", "held": {"class": 0.1}, "generator": yaml.safe_load(generator)["generator"] | {"latent_dim": 16}}
    raw["attributes"] |= {"class": {"kind": "pixels", "lowpass": 1}}
    raw.pop("judge", None)
    (folder / "spec.yaml").write_text(yaml.safe_dump(raw))
    monkeypatch.syspath_prepend(str(folder))
    for name in ("my_generator", "its_own_code"):
        sys.modules.pop(name, None)
    loaded = load_spec(folder / "spec.yaml").generator.load(Access(torch.device("cpu"), True))
    assert check_images(loaded) == (1, 4, 4)


def test_the_way_round_works_as_the_documentation_shows_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = [block for block in page("checkpoints").blocks() if "my_generator" in block.text or "def generator" in block.text]
    code, fragment = (next(b.text for b in blocks if b.language == language) for language in ("python", "yaml"))
    followed(code, fragment, tmp_path, monkeypatch)


def test_the_way_round_works_as_the_message_gives_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [line[4:] for line in way_round("x.pt").splitlines() if line.startswith("    ")]
    followed("\n".join(lines[:-1]) + "\n", lines[-1], tmp_path, monkeypatch)


def test_a_name_of_a_file_cannot_break_the_lines_of_the_way_round() -> None:
    lines = way_round("a'\n\"b.pt").splitlines()
    assert len(lines) == len(way_round("x.pt").splitlines())
    compile("\n".join(line[4:] for line in lines[1:4]), "my_generator.py", "exec")


def test_a_variant_gets_the_way_round_and_damage_does_not(tmp_path: Path) -> None:
    held = torch.load(DATA / "rosinality-tiny.pt", weights_only=True)["g_ema"]
    torch.save({"g_ema": held | {"more": torch.ones(1)}}, tmp_path / "v.pt")
    with pytest.raises(NotSupportedError, match="'more' among them"):
        import_checkpoint(tmp_path / "v.pt", tmp_path / "v.safetensors")
    assert "my_generator.py" in refusal(tmp_path / "v.pt")
    del held["conv1.conv.weight"]
    torch.save({"g_ema": held}, tmp_path / "d.pt")
    assert "my_generator.py" not in refusal(tmp_path / "d.pt")
