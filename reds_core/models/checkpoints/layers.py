"""Fully connected layers as NVIDIA's networks have them, with the rates that they multiply in at run time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from reds_core.errors import ModelError
from reds_core.models.checkpoints.identify import NotSupportedError
from reds_core.models.checkpoints.tensors import Tensors

Says = Callable[[str, str], Any]  # module, attribute -> its value


def linear(t: Tensors, says: Says, name: str, activation: str = "linear") -> tuple[Tensor, Tensor]:
    """Returns a fully connected layer's weight and bias."""
    if says(name, "activation") != activation:
        raise NotSupportedError(
            f"a fully connected layer has the activation {says(name, 'activation')!r}; only {activation!r} is supported there"
        )
    return t[f"{name}.weight"] * says(name, "weight_gain"), t[f"{name}.bias"] * says(name, "bias_gain")


def class_vectors(t: Tensors, says: Says, name: str) -> Tensor:
    """Returns the vectors of all classes, (classes, size), that a fully connected layer makes of unit vectors."""
    weight, bias = linear(t, says, name)
    if weight.shape[:1] != bias.shape:
        raise ModelError(f"the classes' vectors {tuple(weight.shape)} and their bias {tuple(bias.shape)} do not fit together")
    return weight.T + bias  # a class is a column
