"""Networks as configs and files, and what may be done with them."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import torch
from pydantic import TypeAdapter
from torch import nn

from reds_core.generators import AnyGenerator
from reds_core.models import AnyNetwork
from reds_core.models.config import Access
from tests.support.worlds import D, torchscript

SAFE, OPEN = Access(torch.device("cpu"), False), Access(torch.device("cpu"), True)


def network(**config: Any) -> Any:
    return TypeAdapter(AnyNetwork).validate_python(config)


def generator(**config: Any) -> Any:
    return TypeAdapter(AnyGenerator).validate_python({"latent_dim": D, "output_range": [-1, 1]} | config)


def exported(net: nn.Module, example: tuple[torch.Tensor, ...], path: Path, dynamic: bool) -> Path:
    shapes = tuple({0: torch.export.Dim("n")} for _ in example) if dynamic else None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.export.save(torch.export.export(net.eval(), example, dynamic_shapes=shapes), path)
    return path


def saved(kind: str, net: nn.Module, folder: Path, inputs: int = 1) -> dict[str, Any]:
    """Writes a network's file, and returns its config."""
    if kind == "torchscript":
        return {"kind": kind, "path": torchscript(net, folder / "n.pt")}
    batch = {"dynamic": 5, "one": 1, "four": 4}[kind]
    z = torch.randn(batch, D)
    example = (z,) if inputs == 1 else (z, torch.zeros(batch, dtype=torch.long))
    return {"kind": "exported", "path": exported(net, example, folder / "n.pt2", kind == "dynamic")}


class Hostile:
    """A pickle that touches a file when it is opened."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)
