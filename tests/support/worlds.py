"""Tiny networks of somebody else's, as files: what a user would bring. Fast enough to run whole jobs in a test."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from torch import Tensor, nn

D, SIZE = 6, 8


class TinyGenerator(nn.Module):
    """(n, 6) -> (n, 1, 8, 8) in [-1, 1]: the first three latents light the left half, the others the right one."""

    def __init__(self, d: int = D, channels: int = 1) -> None:
        super().__init__()
        draw = torch.Generator().manual_seed(1)
        basis = torch.randn(d, channels, SIZE, SIZE, generator=draw)
        half = SIZE // 2
        basis[: d // 2, :, :, half:] = 0
        basis[d // 2 :, :, :, :half] = 0
        self.basis = nn.Parameter(basis / d**0.5)

    def forward(self, z: Tensor) -> Tensor:
        return torch.tanh(torch.einsum("nd,dchw->nchw", z, self.basis))


class TinyConditional(TinyGenerator):
    """Takes a class too, which shifts the latent."""

    def __init__(self, classes: int = 3) -> None:
        super().__init__()
        self.embed = nn.Parameter(torch.randn(classes, D, generator=torch.Generator().manual_seed(2)))

    def forward(self, z: Tensor, label: Tensor) -> Tensor:  # type: ignore[override]
        return torch.tanh(torch.einsum("nd,dchw->nchw", z + self.embed[label], self.basis))


class TinyMapping(nn.Module):
    """(n, 6) -> (n, 6), or (n, rows, 6)."""

    def __init__(self, rows: int = 0, different: bool = False) -> None:
        super().__init__()
        draw = torch.Generator().manual_seed(3)
        self.weight = nn.Parameter(torch.randn(D, D, generator=draw))
        self.rows, self.different = rows, different

    def forward(self, z: Tensor) -> Tensor:
        w = torch.tanh(z @ self.weight)
        if self.rows:
            w = w[:, None].repeat(1, self.rows, 1)
            if self.different:
                w = w * torch.arange(1, self.rows + 1)[:, None]
        return w


class RowsGenerator(TinyGenerator):
    """(n, rows, 6) -> images: the mean row is the latent."""

    def forward(self, w: Tensor) -> Tensor:
        return torch.tanh(torch.einsum("nd,dchw->nchw", w.mean(1), self.basis))


class TinyClassifier(nn.Module):
    """(n, 1, 8, 8) in [0, 1] -> (n, 3) scores, of brightness in three places, in the left half alone or everywhere."""

    def __init__(self, seed: int = 4, everywhere: bool = False) -> None:
        super().__init__()
        weight = torch.randn(3, SIZE, SIZE, generator=torch.Generator().manual_seed(seed))
        if not everywhere:
            weight[:, :, SIZE // 2 :] = 0
        self.weight = nn.Parameter(weight)

    def forward(self, x: Tensor) -> Tensor:
        return torch.einsum("nchw,khw->nk", x - 0.5, self.weight)


def build(name: str = "TinyGenerator", **options: Any) -> nn.Module:
    """Builds a network of this module: a factory's target."""
    network: nn.Module = globals()[name](**options)
    return network


def not_a_network() -> int:
    """Returns a number: a factory's target that is wrong."""
    return 3


def mean_by_numpy(images: Tensor) -> np.ndarray:
    """Returns the brightness of four columns: a callable feature that leaves torch."""
    columns: np.ndarray = images.numpy().mean((1, 2))
    return columns[:, :4]


def noisy(images: Tensor) -> Tensor:
    """Returns the brightness of four columns, give or take: a callable feature that never measures the same twice."""
    columns = images.mean((1, 2))[:, :4]
    return columns + 0.001 * torch.randn_like(columns)


def nan_when_bright(images: Tensor) -> Tensor:
    """Returns the mean brightness, or NaN: a callable feature that cannot measure every image."""
    found = images.mean((1, 2, 3))[:, None]
    return torch.where(found > 0.51, torch.nan, found)


def torchscript(network: nn.Module, path: Path) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.script(network.eval()), str(path))
    return path


def world(folder: Path, **changes: Any) -> Path:
    """Writes a generator, a classifier and a judge as TorchScript, and a spec of them, whose path it returns; `changes` replace
    keys of the spec, and None removes one."""
    folder.mkdir(parents=True, exist_ok=True)
    torchscript(TinyGenerator(), folder / "g.pt")
    torchscript(TinyClassifier(), folder / "c.pt")
    torchscript(TinyClassifier(), folder / "j.pt")
    spec: dict[str, Any] = {
        "name": "tiny",
        "generator": {"kind": "torchscript", "path": "g.pt", "latent_dim": D, "output_range": [-1, 1]},
        "seeds": {"first": 0, "count": 6},
        "attributes": {
            "class": {"kind": "classifier", "model": {"kind": "torchscript", "path": "c.pt"}, "names": ["a", "b", "c"]},
            "look": {"kind": "pixels"},
        },
        "label": "class",
        "held": {"class": 0.2},
        "varied": {"look": 0.05},
        "trajectory": {"method": "local", "directions": 2, "waypoints": 3, "step": 0.1},
        "judge": {"model": {"kind": "torchscript", "path": "j.pt"}},
        "shards": {"seeds": 2},
    }
    for key, value in changes.items():
        spec[key] = value
    path = folder / "spec.yaml"
    path.write_text(yaml.safe_dump({k: v for k, v in spec.items() if v is not None}, sort_keys=False))
    return path
