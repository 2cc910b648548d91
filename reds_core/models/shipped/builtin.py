"""Networks that ship with the package: `weights/NAME.safetensors`, each with a model card beside it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import torch
from pydantic import Field
from safetensors.torch import save_file
from torch import nn

from reds_core.models.config import Access, Config, file_sha256, frozen
from reds_core.models.shipped.fashion import CLASS_NAMES, Classifier, Embedding, Generator, Judge
from reds_core.models.shipped.rooms import SEGMENTS
from reds_core.models.shipped.segmenter import Segmenter
from reds_core.models.states import fill, read_state_dict

WEIGHTS = Path(__file__).parent / "weights"


@dataclass(frozen=True)
class Shipped:
    """A shipped network: how to build it, and the names of its classes."""

    build: Callable[[], nn.Module]
    class_names: tuple[str, ...]


GENERATORS = {  # those with weights
    "fashion-mnist": Shipped(Generator, CLASS_NAMES),
    "fashion-mnist-unlabelled": Shipped(partial(Generator, classes=0), ()),
}
NETWORKS = {
    "fashion-mnist-classifier": Shipped(Classifier, CLASS_NAMES),
    "fashion-mnist-judge": Shipped(Judge, CLASS_NAMES),
    "fashion-mnist-embedding": Shipped(Embedding, ()),
    "rooms-segmenter": Shipped(Segmenter, SEGMENTS),
}


class Builtin(Config):
    """A network that ships with the package."""

    kind: Literal["builtin"]
    name: Literal["fashion-mnist-classifier", "fashion-mnist-judge", "fashion-mnist-embedding", "rooms-segmenter"] = Field(
        description="The network's name."
    )

    def identity(self) -> dict[str, str]:
        return {"weights_sha256": weights_sha256(self.name)}

    def title(self) -> str:
        return f"the shipped network {self.name}"

    def load(self, access: Access) -> nn.Module:
        return load_shipped(self.name, NETWORKS[self.name], access)


def class_names(name: str) -> tuple[str, ...]:
    """Returns the class names of a shipped network or generator."""
    return (NETWORKS | GENERATORS)[name].class_names


def weights_sha256(name: str) -> str:
    """Returns the SHA-256 of a shipped network's weights."""
    return file_sha256(WEIGHTS / f"{name}.safetensors")


def load_shipped(name: str, shipped: Shipped, access: Access) -> nn.Module:
    """Returns a shipped network with its weights, ready to run."""
    network, path = shipped.build(), WEIGHTS / f"{name}.safetensors"
    fill(network, read_state_dict(path), path, f"the shipped network {name}")
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return frozen(network, access.device)


def save_shipped(network: nn.Module, name: str, weights: Path = WEIGHTS, dtype: torch.dtype = torch.float32) -> None:
    """Writes a network's weights where `load_shipped` finds them; float16 halves the file, and is loaded as float32."""
    weights.mkdir(exist_ok=True)
    tensors = {k: v.detach().to(dtype).contiguous().clone() for k, v in network.state_dict().items() if v.is_floating_point()}
    part = weights / f"{name}.part"
    save_file(tensors, part)
    part.chmod(0o644)
    part.replace(weights / f"{name}.safetensors")
