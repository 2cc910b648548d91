"""What a file is that is not read, as far as its first bytes or its names tell, and the way round.

`TOLD_BY_BYTES` and `TOLD_BY_NAMES` are the tables: a file that users often try is a line there.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterator
from io import BytesIO
from itertools import islice
from typing import Any

from reds_core.errors import ModelError


class NotSupportedError(ModelError):
    """A checkpoint that may be fine, but is of a kind or a variant that is not read; there is a way round."""


HEAD = 512  # bytes that are looked at
MOST_NAMES = 20_000  # that are looked at

# The first bytes, as a pattern -> what the file is, and what to do.
TOLD_BY_BYTES = {
    rb"version https://git-lfs": "a Git LFS pointer, which stands for a file that was not fetched; run git lfs pull",
    rb"\s*(<!doctype html|<html|<\?xml)": "a web page, saved under this name; open the link in a browser, and take what its "
    "download button gives (on Hugging Face, the link with /resolve/ in place of /blob/)",
    rb"\s*\{": "JSON: the settings of a network, not its weights",
    rb"\x89HDF": "an HDF5 file, such as Keras writes, which is not read",
    rb"\x1f\x8b|BZh|\xfd7zXZ|7z\xbc\xaf|Rar!|\x28\xb5\x2f\xfd": "a compressed archive; unpack it first",
    rb"GGUF": "a language model in GGUF, not a generator of images",
    rb".{4}TFL3": "a TensorFlow Lite model, which is not read",
    rb".{8}\{\s*\"": "a safetensors file, which is not read; if its tensors have the names of a format that is, use torch.save",
    rb"\x89PNG|\xff\xd8\xff|GIF8|RIFF": "an image",
    rb"\x08[\x01-\x0a]": "an ONNX model, as its first bytes tell, which is not read",
}  # fmt: skip

# A name in a checkpoint, as a pattern -> what it is.
TOLD_BY_NAMES = {
    r"GAN\.(S|G|GE|D)\.": "a lucidrains stylegan2-pytorch checkpoint",
    r"(.*\.)?(visual\.(conv1|transformer|layer1)|text_model\.|positional_embedding$|logit_scale$)": "a CLIP model",
    r"(.*\.)?(model\.diffusion_model\.|down_blocks\.\d+\.(attentions|resnets))": "a diffusion model",
    r"(.*\.)?(quantize\.|first_stage_model\.|decoder\.up\.\d+\.block)": "an autoencoder, such as Stable Diffusion's",
    r"(G_ema|G)\.(renderer|decoder|backbone)\.": "a generator of scenes in three dimensions, such as EG3D",
    r"(generator_smooth|generator)\.(mapping|synthesis)\.": "a genforce checkpoint",
    r"state_dict\.(generator|generator_ema)\.": "an MMagic or MMGeneration checkpoint of another network than StyleGAN2",
    r"(.*\.)?(layer1\.0\.conv1|features\.0\.|blocks\.0\.(attn|norm1)\.)": "a classifier of images",
    r"(state_dict\.)?encoder\.(input_layer|body)\.": "an encoder without the generator that it was trained for",
    r"(module\.)?(model\.1\.weight|model\.10\.conv_block)": "a network from images to images, such as CycleGAN's",
    r"(b4\.(mbstd|conv|fc)\.|final_(conv|linear)\.)": "a discriminator, not a generator",
}  # fmt: skip


def by_bytes(content: bytes) -> str | None:
    """Returns what a file is by its first bytes, or None if it may be a checkpoint."""
    for pattern, what in TOLD_BY_BYTES.items():
        if re.match(pattern, content[:HEAD], re.I | re.S):
            return what
    return _archive(content) if content[:2] == b"PK" else None


def _archive(content: bytes) -> str | None:
    try:
        with zipfile.ZipFile(BytesIO(content)) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, ValueError, NotImplementedError):
        return "an archive that ends before its list of contents: an incomplete download"
    if any(name.endswith("/constants.pkl") for name in names):
        return "a TorchScript program, which needs no import: name it in the spec as kind: torchscript"
    if any(re.search(r"models/.*\.(json|pt2)$|archive_format$", name) for name in names):
        return "an archive of torch.export, which needs no import: name it in the spec as kind: exported"
    return None if any(name.endswith("data.pkl") for name in names) else "an archive of other files: unpack it first"


def by_names(found: Any) -> str | None:
    """Returns what a checkpoint is by the names in it, or None if they say nothing."""
    # Of the whole file: a few dictionaries that lie in many others have far more names than the file has bytes.
    names = list(islice(_names(found, "", 0), MOST_NAMES))
    for pattern, what in TOLD_BY_NAMES.items():
        if any(re.match(pattern, name) for name in names):
            return what
    return None


def _names(found: Any, prefix: str, depth: int) -> Iterator[str]:
    """Yields the dotted names in a checkpoint, those of modules without the lists that they lie in."""
    if not isinstance(found, dict) or depth > 3:
        return
    inner = found["_modules"] if isinstance(found.get("_modules"), dict) else found
    for key, value in inner.items():
        name = f"{prefix}{key}"
        yield name if not isinstance(value, dict) else f"{name}."
        yield from _names(value, f"{name}.", depth + 1)


def way_round(name: str) -> str:
    """Returns five lines that make a generator of any checkpoint, with the code that it came from."""
    return f"""the way round is a file of yours beside the spec, my_generator.py, that uses the code which wrote the checkpoint:
    def generator():  # returns a network (n, z) latents [, (n,) classes] -> (n, c, h, w) images
        from its_own_code import load
        return load({name!r}).eval()
and in the spec (allow it to run your code):
    generator: {{kind: factory, target: "my_generator:generator", latent_dim: 512, output_range: [-1, 1]}}"""
