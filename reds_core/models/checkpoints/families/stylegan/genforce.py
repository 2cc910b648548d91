"""Checkpoints of genforce: state dicts of StyleGAN2 in which TensorFlow's variables keep their meaning under names of their own."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from reds_core.models.checkpoints.families.stylegan.stylegan2 import from_state
from reds_core.models.checkpoints.family import NVIDIA, Contents, Family, Settings
from reds_core.models.checkpoints.stand_ins import Array
from reds_core.models.checkpoints.tensors import State, Tensors, check_filter
from reds_core.models.published.stylegan2 import StyleGan2

STATES = ("generator_smooth", "generator")  # the average, and the weights at the end of training
MARK = "synthesis.layer0.style.weight"
SCRIPT = {"use_noise": True, "conv_clamp": None}
PARTS = {"style.weight": "affine.weight", "style.bias": "affine.bias", "noise": "noise_const"}


def convert(found: Contents, settings: Settings | None) -> tuple[StyleGan2, State]:
    """Returns the architecture and weights of a StyleGAN2 in genforce's form."""
    t = Tensors(_state(found) or {})
    renamed = {}
    for name in t:
        value = t[name]
        if name.endswith(".kernel") and value.ndim == 4:
            check_filter(value[0, 0], 4.0)
        else:
            new, value = _one(name, value)
            renamed[new] = Array(value.numpy())
    joint = "mapping.embed.weight" in renamed
    if joint:
        renamed["mapping.embed.bias"] = Array(torch.zeros(len(renamed["mapping.embed.weight"].value)).numpy())
    architecture, state = from_state(Tensors(renamed), SCRIPT)
    return architecture.model_copy(update={"joint": joint}), state


def _one(name: str, value: Tensor) -> tuple[str, Tensor]:
    """Returns a tensor under the name, and in the form, of stylegan2-ada-pytorch. An unknown one keeps its name."""
    if name == "truncation.w_avg":
        return "mapping.w_avg", value
    if name == "mapping.label_weight":
        return "mapping.embed.weight", value.T * len(value) ** 0.5  # undoes the rate of a fully connected layer
    if m := re.fullmatch(r"mapping\.dense(\d+)\.(\w+)", name):
        return f"mapping.fc{m[1]}.{m[2]}", value
    if name == "synthesis.early_layer.const":
        return "synthesis.b4.const", value[0]
    if m := re.fullmatch(r"synthesis\.(layer|output)(\d{1,2})\.(.+)", name):
        kind, k, part = m[1], int(m[2]), PARTS.get(m[3], m[3])
        doubles = kind == "layer" and k % 2 == 1
        layer = "torgb" if kind == "output" else "conv0" if doubles else "conv1"
        level = k if kind == "output" else (k + 1) // 2
        if part == "noise_const":
            value = value[0, 0]
        elif part == "affine.bias":
            value = value + 1
        elif part == "weight" and doubles:
            value = value.flip(2, 3)
        return f"synthesis.b{4 << level}.{layer}.{part}", value
    return name, value


def _state(found: Contents) -> Mapping[Any, Any] | None:
    """Returns the state dict of the generator, its average if there is one."""
    for state in (*(found.get(name) for name in STATES), found):
        if isinstance(state, dict) and MARK in state:
            return state
    return None


GENFORCE = Family(
    name="genforce",
    files="StyleGAN2 of genforce (generator_smooth): state dicts",
    licence=NVIDIA,
    recognises=lambda found: _state(found) is not None,
    convert=convert,
)
