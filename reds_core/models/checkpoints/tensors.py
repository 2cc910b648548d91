"""Reading and checking tensors, shared by all families. Everything leaves here in float32.

A tensor that nobody asked for belongs to a variant that draws other images: `check_all_used` names it, and the import stops.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from reds_core.errors import ModelError
from reds_core.models.checkpoints.identify import NotSupportedError
from reds_core.models.checkpoints.stand_ins import Array, Stored
from reds_core.words import counted

State = dict[str, Tensor]  # under the names of our architectures

MOST_GROWTH = 64  # times what is multiplied
FILTER = (1.0, 3.0, 3.0, 1.0)  # by which StyleGAN2 resamples


class Tensors(Mapping[str, Tensor]):
    """The tensors of a state dict, each made only when it is looked up: many names may share one large storage."""

    def __init__(self, found: Mapping[Any, Any]) -> None:
        self.stored = {k: v for k, v in found.items() if isinstance(k, str) and isinstance(v, Stored | Array)}
        self.unused = set(self.stored)

    def __getitem__(self, name: str) -> Tensor:
        self.unused.discard(name)
        return made(self.stored[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self.stored)

    def __len__(self) -> int:
        return len(self.stored)

    def below(self, prefix: str) -> Tensors:
        """Returns the tensors whose names begin with a prefix, without it. The others need not be used."""
        return Tensors({k.removeprefix(prefix): v for k, v in self.stored.items() if k.startswith(prefix)})

    def numbers(self, pattern: str) -> list[int]:
        """Returns the numbers, sorted, that stand in the only group of a pattern that matches the start of a name."""
        return sorted({int(m[1]) for m in map(re.compile(pattern).match, self.stored) if m})

    def ignore(self, *endings: str) -> None:
        """Counts tensors as used whose names end so."""
        self.unused = {name for name in self.unused if not name.endswith(endings)}

    def check_all_used(self, *known: str) -> None:
        """Raises NotSupportedError if a tensor was never looked up, unless its name ends in one of `known`."""
        left = sorted(name for name in self.unused if not name.endswith(known))
        if left:
            raise NotSupportedError(
                f"the checkpoint holds {counted(len(left), 'tensor')} that this architecture does not have, {ascii(left[0])[:80]} "
                "among them: it is a variant that is not supported"
            )


def made(stored: Stored | Array) -> Tensor:
    """Returns a tensor in float32. Raises ModelError for an empty one: nothing in the file bounds its other sizes."""
    tensor = stored.tensor()
    if not tensor.numel():
        raise ModelError(f"a tensor of shape {tuple(tensor.shape)} is empty: the file is damaged")
    return tensor.float()


def scaled(a: Tensor, by: Tensor) -> Tensor:
    """Returns a * by, of a's shape. Raises ModelError if it would grow: an outer product can be far larger than the file."""
    if torch.broadcast_shapes(a.shape, by.shape) != a.shape:
        raise ModelError(f"a factor of shape {tuple(by.shape)} does not fit {tuple(a.shape)}")
    return a * by


def added(a: Tensor, b: Tensor) -> Tensor:
    """Returns a + b. Raises ModelError unless both are of one shape: to spread one over the other can fill the memory."""
    if a.shape != b.shape:
        raise ModelError(f"shapes {tuple(a.shape)} and {tuple(b.shape)} do not fit together")
    return a + b


def affine(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Returns x (n, i) times weight (o, i), plus bias (o,), as (n, o). Raises ModelError if that would be far larger than both."""
    if x.ndim != 2 or weight.ndim != 2 or bias.shape != weight.shape[:1]:
        raise ModelError(f"a layer's weight {tuple(weight.shape)} and bias {tuple(bias.shape)} do not fit together")
    if len(x) * len(weight) > MOST_GROWTH * (x.numel() + weight.numel()):
        raise ModelError(f"{len(x)} vectors become {len(weight)} numbers each: the file was made to fill the memory")
    return x @ weight.T + bias


def check_filter(kernel: Tensor, gain: float) -> None:
    """Raises NotSupportedError if a StyleGAN2's kernel is not the outer product (4, 4) of FILTER with itself, times `gain`."""
    taps = torch.tensor(FILTER)
    expected = taps.outer(taps) / taps.sum() ** 2 * gain
    if kernel.shape != expected.shape or not torch.allclose(kernel, expected, atol=1e-6):
        raise NotSupportedError(f"a resampling filter other than {list(map(int, FILTER))} is not supported")


def spectral(t: Tensors, name: str) -> Tensor:
    """Returns the weight of a layer with PyTorch's spectral norm, over its largest singular value as training last estimated it."""
    if f"{name}.weight_orig" not in t:
        return t[f"{name}.weight"]
    weight, u, v = (t[f"{name}.weight_{part}"] for part in ("orig", "u", "v"))
    if u.ndim != 1 or v.ndim != 1:
        raise ModelError(f"the spectral norm of {ascii(name)[:80]} has vectors of shape {tuple(u.shape)} and {tuple(v.shape)}")
    # Transposed convolutions have their output channels second.
    matrix = weight.flatten(1) if len(weight) * v.numel() == weight.numel() else weight.transpose(0, 1).flatten(1)
    return weight / (u @ matrix @ v)


def batch_norm(t: Tensors, name: str, epsilon: float) -> tuple[Tensor, Tensor]:
    """Returns what a batch normalisation multiplies by and then adds, (channels,), once its statistics are fixed."""
    scale = scaled((t[f"{name}.running_var"] + epsilon).rsqrt(), t[f"{name}.weight"])
    t.unused.discard(f"{name}.num_batches_tracked")
    return scale, added(t[f"{name}.bias"], -scaled(scale, t[f"{name}.running_mean"]))
