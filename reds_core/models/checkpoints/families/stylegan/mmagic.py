"""StyleGAN2 of MMGeneration and MMagic: rosinality's network, tensor for tensor, under names of its own.

Their pipelines read, and so their networks draw, blue first (`unconditional_demo.py` swaps the colours before it saves an image).
Here red comes first.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from reds_core.models.checkpoints.families.stylegan import rosinality
from reds_core.models.checkpoints.family import NOT_AVERAGED, NVIDIA, Contents, Family, Settings
from reds_core.models.checkpoints.tensors import State
from reds_core.models.published.stylegan2 import StyleGan2

# The average, as MMagic and as MMGeneration keep it, and the weights at the end of training; and the network alone.
PREFIXES = ("generator_ema.module.", "generator_ema.", "generator.", "")
TRAINED = "generator."
SWAPPED = "its network draws blue, green, red; imported, it draws red, green, blue"
MARK = "convs.0.conv.style_modulation.linear.weight_orig"
NAMES = (
    (r"style_mapping\.(\d+)\.linear\.weight_orig", r"style.\1.weight"),
    (r"style_mapping\.(\d+)\.bias", r"style.\1.bias"),
    (r"constant_input\.input", "input.input"),
    (r"injected_noise_(\d+)", r"noises.noise_\1"),
    (r"(.+)\.noise_injector\.weight", r"\1.noise.weight"),
    (r"(.+)\.style_modulation\.linear\.weight_orig", r"\1.modulation.weight"),
    (r"(.+)\.style_modulation\.bias", r"\1.modulation.bias"),
    (r"(.+\.conv)\.weight_orig", r"\1.weight"),
)


def convert(found: Contents, settings: Settings | None) -> tuple[StyleGan2, State]:
    """Returns the architecture and weights of a StyleGAN2 of MMGeneration or MMagic."""
    held = _held(found)
    prefix = _prefix(found) or ""
    inside = {k.removeprefix(prefix): v for k, v in held.items() if isinstance(k, str) and k.startswith(prefix)}
    architecture, state = rosinality.convert({"g_ema": {_renamed(k): v for k, v in inside.items()}}, None)
    for name in [name for name in state if ".rgb.conv." in name]:
        state[name] = state[name].flip(0)
    return architecture, state


def _renamed(name: str) -> str:
    """Returns a tensor's name in rosinality's network. An unknown one keeps its own."""
    for theirs, ours in NAMES:
        if m := re.fullmatch(theirs, name):
            return m.expand(ours)
    return name


def _held(found: Contents) -> Mapping[Any, Any]:
    state = found.get("state_dict")
    return state if isinstance(state, dict) else found


def _prefix(found: Contents) -> str | None:
    """Returns what stands before the generator's names, or None if there is none of this family."""
    held = _held(found)
    return next((prefix for prefix in PREFIXES if f"{prefix}{MARK}" in held), None)


MMAGIC = Family(
    name="mmagic",
    files="StyleGAN2 of MMGeneration and MMagic: checkpoints, state dicts",
    licence=f"The code is Apache 2.0. {NVIDIA}",
    recognises=lambda found: _prefix(found) is not None,
    convert=convert,
    notes=lambda found: [SWAPPED, *[NOT_AVERAGED.format(name="generator")] * (_prefix(found) == TRAINED)],
)
