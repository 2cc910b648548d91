"""StyleGAN2 by the names of stylegan2-ada-pytorch: network pickles, one network alone, a module of torch.save, or a state dict.

A state dict says nothing of the settings. They are then those of the published training script, and sizes are read from shapes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch

from reds_core.models.checkpoints.family import NVIDIA, Contents, Family, Settings, generator_of
from reds_core.models.checkpoints.identify import NotSupportedError
from reds_core.models.checkpoints.layers import Says, class_vectors, linear
from reds_core.models.checkpoints.means import measured_mean
from reds_core.models.checkpoints.modules import Modules
from reds_core.models.checkpoints.tensors import State, Tensors, check_filter
from reds_core.models.published.stylegan2 import StyleGan2

MAPPING_RATE = 0.01  # the learning rate's factor of the mapping, in all published training scripts
SCRIPT = {"use_noise": True, "conv_clamp": 256}  # what a state dict does not say


def convert(found: Contents, settings: Settings | None) -> tuple[StyleGan2, State]:
    """Returns the architecture and weights of a network of stylegan2-ada-pytorch."""
    g = generator_of(found)
    return converted_modules(Modules(g)) if g is not None else from_state(Tensors(found))


def converted_modules(t: Modules) -> tuple[StyleGan2, State]:
    """Returns the architecture and weights of a network saved whole."""
    sizes = _sizes(t)
    last, form = f"synthesis.b{sizes[-1]}", _form(t, sizes)
    if len(sizes) > 1 and t.modules[last].get("architecture", form) != form:
        raise NotSupportedError(f"the blocks are those of {form}, but the network says {t.setting(last, 'architecture')!r}")
    return _converted(t, sizes, t.setting)


def from_state(t: Tensors, script: Mapping[str, Any] = SCRIPT) -> tuple[StyleGan2, State]:
    """Returns the architecture and weights of a state dict by the same names, trained with the settings in `script`."""

    def says(module: str, key: str) -> Any:
        rate = MAPPING_RATE if module.startswith("mapping.fc") else 1.0
        if key == "weight_gain":
            return rate / math.sqrt(t.stored[f"{module}.weight"].tensor()[0].numel())
        if key == "activation":
            return "lrelu" if module.startswith("mapping.fc") or (".conv" in module and ".affine" not in module) else "linear"
        return rate if key == "bias_gain" else script[key]

    return _converted(t, _sizes(t), says)


def _sizes(t: Tensors) -> list[int]:
    """Returns what the blocks are called by: the heights of their images."""
    return t.numbers(r"synthesis\.b(\d+)\.")


def _form(t: Tensors, sizes: list[int]) -> str:
    last = f"synthesis.b{sizes[-1]}"
    if len(sizes) == 1 or f"synthesis.b{sizes[0]}.torgb.weight" in t:
        return "skip"
    return "resnet" if f"{last}.skip.weight" in t else "orig"


def _converted(t: Tensors, sizes: list[int], says: Says) -> tuple[StyleGan2, State]:
    blocks = [f"synthesis.b{size}" for size in sizes]
    const, state = t[f"{blocks[0]}.const"], _mapping(t, says)
    layers = t.numbers(r"mapping\.fc(\d+)\.")
    classes, class_dim = state["mapping.embed.weight"].shape if "mapping.embed.weight" in state else (0, None)
    w_dim = len(t[f"mapping.fc{layers[-1]}.bias"])
    architecture = StyleGan2(
        kind="stylegan2", z_dim=t["mapping.fc0.weight"].shape[1] - (class_dim or 0), w_dim=w_dim, classes=classes,
        mapping_layers=len(layers), channels=tuple(len(t[f"{block}.conv1.bias"]) for block in blocks),
        colours=len(t[f"{blocks[-1]}.torgb.bias"]), form=_form(t, sizes),  # type: ignore[arg-type]  # pydantic checks it
        clamp=says(f"{blocks[-1]}.conv1", "conv_clamp"), base=tuple(const.shape[1:]),  # type: ignore[arg-type]
        class_dim=None if class_dim == w_dim else class_dim,
    )  # fmt: skip
    state["synthesis.const"] = const
    for k, block in enumerate(blocks):
        ours = f"synthesis.blocks.{k}"
        if f"{block}.resample_filter" in t:
            check_filter(t[f"{block}.resample_filter"], 1.0)
        for name, theirs in (("up", "conv0"), ("conv", "conv1")):
            if f"{block}.{theirs}.weight" in t:
                state |= _styled(t, says, f"{ours}.{name}", f"{block}.{theirs}", (const.shape[1] << k, const.shape[2] << k))
        if f"{block}.torgb.weight" in t:
            state |= _colours(t, says, f"{ours}.rgb", f"{block}.torgb")
        if f"{block}.skip.weight" in t:
            state[f"{ours}.skip.weight"] = t[f"{block}.skip.weight"] * says(f"{block}.skip", "weight_gain")
            if f"{block}.skip.resample_filter" in t:
                check_filter(t[f"{block}.skip.resample_filter"], 1.0)
    state["mapping.mean"] = t["mapping.w_avg"] if "mapping.w_avg" in t else measured_mean(architecture, state)
    t.check_all_used()
    return architecture, state


def _mapping(t: Tensors, says: Says) -> State:
    """Returns the mapping's weights, without its mean."""
    state = {}
    for k in t.numbers(r"mapping\.fc(\d+)\."):
        state[f"mapping.layers.{k}.weight"], state[f"mapping.layers.{k}.bias"] = linear(t, says, f"mapping.fc{k}", "lrelu")
    if "mapping.embed.weight" in t:
        state["mapping.embed.weight"] = class_vectors(t, says, "mapping.embed")
    return state


def _styled(t: Tensors, says: Says, ours: str, theirs: str, size: tuple[int, int]) -> State:
    if says(theirs, "activation") != "lrelu":
        raise NotSupportedError(f"{theirs} has the activation {says(theirs, 'activation')!r}; only lrelu is supported")
    if f"{theirs}.resample_filter" in t:
        check_filter(t[f"{theirs}.resample_filter"], 1.0)
    affine = linear(t, says, f"{theirs}.affine")
    if says(theirs, "use_noise"):
        noise = t[f"{theirs}.noise_const"] * t[f"{theirs}.noise_strength"].reshape(())
    else:
        noise = torch.zeros(size)
        t.ignore(f"{theirs}.noise_const", f"{theirs}.noise_strength")
    return {
        f"{ours}.affine.weight": affine[0], f"{ours}.affine.bias": affine[1], f"{ours}.weight": t[f"{theirs}.weight"],
        f"{ours}.bias": t[f"{theirs}.bias"], f"{ours}.noise": noise,
    }  # fmt: skip


def _colours(t: Tensors, says: Says, ours: str, theirs: str) -> State:
    weight, bias = linear(t, says, f"{theirs}.affine")
    gain = says(theirs, "weight_gain")
    return {
        f"{ours}.affine.weight": weight * gain, f"{ours}.affine.bias": bias * gain, f"{ours}.conv.weight": t[f"{theirs}.weight"],
        f"{ours}.conv.bias": t[f"{theirs}.bias"],
    }  # fmt: skip


def _recognises(found: Contents) -> bool:
    g = generator_of(found)
    if g is None:
        return "synthesis.b4.conv1.weight" in found and "mapping.fc0.weight" in found
    synthesis = g.get("_modules", {}).get("synthesis")
    return synthesis is not None and "b4" in synthesis["_modules"] and "mapping" in g["_modules"]


STYLEGAN2 = Family(
    name="stylegan2-ada-pytorch",
    files="networks of stylegan2-ada-pytorch: pickles, modules, state dicts",
    licence=NVIDIA,
    recognises=_recognises,
    convert=convert,
)
