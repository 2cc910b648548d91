"""What a network's file holds, found by looking at it and by trying it: for a spec to start from.

A file tells its kind by its members. What it does not tell is tried: the latent's size, the number of classes, the range of the
pixels, and the channels and size of the images that a classifier takes.
"""

from __future__ import annotations

import math
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from pydantic import TypeAdapter
from torch import Tensor, nn

from reds_core.errors import ModelError
from reds_core.features import Classifier
from reds_core.generators import AnyGenerator, Walkable, check_images
from reds_core.generators.latent import MEAN_SEEDS, MOST_CLAMPED, draw
from reds_core.models import AnyNetwork
from reds_core.models.config import Access
from reds_core.models.imported import describe

COMMON_SIZES = (512, 256, 128, 100, 64, 120, 140, 32, 16)  # of latents
MOST_CLASSES = 2**14
SIDES = (None, 224, 32, 28, 64, 128, 256, 299, 384, 512, 48, 96, 16, 8)  # of the images that classifiers take
IN_UNIT, IN_BYTES = 1.02, 2.0  # largest values of pixels from 0 to 1, and smallest of those from 0 to 255


def kind_of(path: Path) -> str:
    """Returns the kind of the network in a file. Raises ModelError if it is of none that can be looked at."""
    if path.suffix == ".safetensors":
        return describe(path).architecture.kind
    if not path.is_file():
        raise ModelError(f"there is no file {path}")
    members = zipfile.ZipFile(path).namelist() if zipfile.is_zipfile(path) else []
    if any(name.endswith("constants.pkl") for name in members):
        return "torchscript"
    if any(name.endswith("archive_format") or "/models/" in f"/{name}" for name in members):
        return "exported"
    raise ModelError(
        f"{path} is neither a TorchScript (torch.jit.save), nor an exported program (torch.export.save), nor a .safetensors with "
        "its .json that `reds import` wrote; import a published checkpoint, or save the network as one of the first two"
    )


def generator_in(path: Path, access: Access) -> tuple[dict[str, Any], Walkable, tuple[int, int, int]]:
    """Returns a generator's file as a spec describes it, the generator, and its images' (c, h, w).

    Raises:
        ModelError: it cannot be opened, or what it takes cannot be found out; the message says what to write by hand.
    """
    config: dict[str, Any] = {"kind": kind_of(path), "path": str(path)}
    if path.suffix != ".safetensors":
        config |= _options(path, TypeAdapter(AnyNetwork).validate_python(config), access)
    generator = _loaded(config, access)
    if path.suffix == ".safetensors" and (largest := _beyond(generator)):
        config["output_range"] = [-largest, largest]
        generator = _loaded(config, access)
    return config, generator, check_images(generator)


def _loaded(config: dict[str, Any], access: Access) -> Walkable:
    return TypeAdapter(AnyGenerator).validate_python(config).load(access)


def _beyond(generator: Walkable) -> int:
    """Returns the largest value, rounded up, of images that a published network draws far beyond [-1, 1]; 0 if it does not."""
    z = draw(MEAN_SEEDS[:16], generator.z_dim, generator.latent).to(generator.device)
    labels = torch.zeros(len(z), dtype=torch.long, device=generator.device)
    with torch.no_grad():
        raw = generator.raw(generator.latents(z, labels), labels)
    return math.ceil(float(raw.abs().max())) if generator.clamped(raw) > MOST_CLAMPED else 0


def classifier_in(path: Path, access: Access, shape: tuple[int, int, int]) -> dict[str, Any]:
    """Returns a classifier's file as a spec describes it, for images (c, h, w). Raises ModelError if it takes no such images."""
    config: dict[str, Any] = {"kind": "classifier", "model": {"kind": kind_of(path), "path": str(path)}}
    images = torch.rand(2, *shape, generator=torch.Generator().manual_seed(0)).to(access.device)
    why = ""
    for side in SIDES:
        for channels in (None, 4 - shape[0]):
            size = {} if side is None else {"input_size": [side, side]}
            tried = config | ({} if channels is None else {"channels": channels}) | size
            try:
                with torch.no_grad():
                    Classifier.model_validate(tried).load(access, shape)(images, None)
            # A user's network may raise anything for images that it does not expect.
            except Exception as error:
                why = why or str(error).strip().splitlines()[-1]
                continue
            return tried
    raise ModelError(f"{path} gives no class scores for images {shape}, whatever their size and channels: {why}")


def _options(path: Path, model: Any, access: Access) -> dict[str, Any]:
    """Returns what the file of a user's own generator does not say."""
    network = model.load(access)
    conditional = model.arity(network) >= 2
    for size in _sizes(network):
        z = draw(MEAN_SEEDS[:16], size, "normal").to(access.device)
        raw = _answer(network, z, 0 if conditional else None)
        if raw is not None and raw.ndim >= 2 and len(raw) == len(z):
            break
    else:
        raise ModelError(f"{path}: the size of its latents could not be found out; write generator.latent_dim by hand")
    options: dict[str, Any] = {"latent_dim": size, "output_range": _range(raw)}
    if raw.ndim != 4:
        options["image_shape"] = _square(path, raw[0].numel())
    if conditional:
        options["classes"] = _classes(path, network, z[:1])
    return options


def _sizes(network: nn.Module) -> Iterator[int]:
    """Yields sizes that a network's latents may have, the likeliest first."""
    seen = set()
    inner: Any = getattr(network, "network", network)
    nodes = [] if isinstance(inner, torch.jit.ScriptModule) else getattr(getattr(inner, "graph", None), "nodes", [])
    shapes = [node.meta["val"].shape for node in nodes if node.op == "placeholder" and hasattr(node.meta.get("val"), "shape")]
    told = [s[1] for s in shapes if len(s) == 2 and isinstance(s[1], int)]
    weights = [size for p in [*network.parameters(), *network.buffers()] for size in reversed(p.shape)]
    for size in (*told, *weights, *COMMON_SIZES):
        if size > 1 and size not in seen:
            seen.add(size)
            yield int(size)


def _answer(network: nn.Module, z: Tensor, label: int | None) -> Tensor | None:
    """Returns what a network answers, None if it takes no such latents or class."""
    labels = [] if label is None else [torch.full((len(z),), label, dtype=torch.long, device=z.device)]
    try:
        with torch.no_grad():
            out = network(z, *labels)
    # A user's network may raise anything.
    except Exception:
        return None
    return out.float() if isinstance(out, Tensor) and not out.is_complex() else None


def _classes(path: Path, network: nn.Module, z: Tensor) -> int:
    """Returns how many classes a network has: the first class that it does not take."""
    most = 1
    while most <= MOST_CLASSES and _answer(network, z, most) is not None:
        most *= 2
    if most > MOST_CLASSES:
        raise ModelError(f"{path}: the number of its classes could not be found out; write generator.classes by hand")
    known = most // 2
    while known + 1 < most:
        middle = (known + most) // 2
        known, most = (middle, most) if _answer(network, z, middle) is not None else (known, middle)
    return most


def _range(raw: Tensor) -> list[int]:
    """Returns the range of pixel values that a network was trained on, as likely as its images tell."""
    low, high = float(raw.min()), float(raw.max())
    if high > IN_BYTES and low > -IN_BYTES:
        return [0, 255]
    return [0, 1] if low >= 1 - IN_UNIT and high <= IN_UNIT else [-1, 1]


def _square(path: Path, numbers: int) -> list[int]:
    """Returns the (c, h, w) of a flat square image."""
    for channels in (1, 3):
        side = round((numbers / channels) ** 0.5)
        if channels * side * side == numbers:
            return [channels, side, side]
    raise ModelError(f"{path}: its images are flat, {numbers} numbers, and not square; write generator.image_shape by hand")
