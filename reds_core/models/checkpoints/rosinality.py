"""State dicts of rosinality's stylegan2-pytorch: StyleGAN2 under other names, with a factor before every weight."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from reds_core.models.checkpoints.family import Contents, Family, Settings
from reds_core.models.checkpoints.tensors import State, Tensors, check_filter, made
from reds_core.models.published.style import Mapping
from reds_core.models.published.stylegan2 import StyleGan2

MEAN_LATENTS, BLOCK = 10_000, 100
MAPPING_RATE = 0.01  # the learning rate's factor in its training script, which its files do not hold


def convert(found: Contents, settings: Settings | None) -> tuple[StyleGan2, State]:
    """Returns the architecture and weights of a checkpoint of stylegan2-pytorch."""
    t, mean = Tensors(found["g_ema"]), found.get("latent_avg")
    architecture = _architecture(t)
    count = len(architecture.channels)
    state = {"synthesis.const": t["input.input"][0]}
    for k in range(architecture.mapping_layers):
        weight, rate = t[f"style.{k + 1}.weight"], MAPPING_RATE
        state[f"mapping.layers.{k}.weight"] = weight * rate / math.sqrt(weight.shape[1])
        state[f"mapping.layers.{k}.bias"] = t[f"style.{k + 1}.bias"] * rate
    for k in range(count):
        block = f"synthesis.blocks.{k}"
        state |= _styled(t, f"{block}.conv", _convs(count)[k], f"noises.noise_{2 * k}", 4 << k)
        rgb = f"to_rgbs.{k - 1}" if k else "to_rgb1"
        if k:
            up = f"convs.{2 * k - 2}"
            check_filter(t[f"{up}.conv.blur.kernel"], 4.0)
            check_filter(t[f"{rgb}.upsample.kernel"], 4.0)
            state |= _styled(t, f"{block}.up", up, f"noises.noise_{2 * k - 1}", 4 << k)
        weight = t[f"{rgb}.conv.weight"][0]
        state |= _affine(t, f"{block}.rgb", rgb)
        state |= {
            f"{block}.rgb.conv.weight": weight / math.sqrt(weight[0].numel()),
            f"{block}.rgb.conv.bias": t[f"{rgb}.bias"].flatten(),
        }
    t.check_all_used()
    state["mapping.mean"] = _mean(architecture, state) if mean is None else made(mean)
    return architecture, state


def _architecture(t: Tensors) -> StyleGan2:
    count = 1 + sum(name.startswith("to_rgbs.") and name.endswith(".bias") and name.count(".") == 2 for name in t)
    layers = sum(name.startswith("style.") and name.endswith(".weight") for name in t)
    return StyleGan2(
        kind="stylegan2", z_dim=t["style.1.weight"].shape[1], w_dim=t[f"style.{layers}.weight"].shape[0], classes=0,
        mapping_layers=layers, channels=tuple(t[f"{name}.conv.weight"].shape[1] for name in _convs(count)),
        colours=t["to_rgb1.bias"].shape[1], form="skip", clamp=None,
    )  # fmt: skip


def _convs(count: int) -> list[str]:
    """Returns the names of the blocks' convolutions that keep the size."""
    return ["conv1", *(f"convs.{2 * k + 1}" for k in range(count - 1))]


def _mean(architecture: StyleGan2, state: State) -> Tensor:
    """Returns the mean w, which a training checkpoint does not hold, over latents of a fixed stream."""
    mapping = Mapping(architecture.z_dim, architecture.w_dim, 0, architecture.mapping_layers)
    mapping.load_state_dict({k.removeprefix("mapping."): v for k, v in state.items() if k.startswith("mapping.")}, strict=False)
    draw, labels = torch.Generator().manual_seed(0), torch.zeros(BLOCK, dtype=torch.long)
    with torch.no_grad():
        blocks = [
            mapping(torch.randn(BLOCK, architecture.z_dim, generator=draw), labels).mean(0) for _ in range(MEAN_LATENTS // BLOCK)
        ]
    return torch.stack(blocks).mean(0)


def _styled(t: Tensors, ours: str, theirs: str, noise: str, size: int) -> State:
    strength = t[f"{theirs}.noise.weight"].reshape(())
    # Older files have no fixed noise: it was drawn anew for every image. Then there is none here.
    fixed = t[noise][0, 0] if noise in t else torch.zeros(size, size)
    weight = t[f"{theirs}.conv.weight"][0]
    return _affine(t, ours, theirs) | {
        f"{ours}.weight": weight / math.sqrt(weight[0].numel()), f"{ours}.bias": t[f"{theirs}.activate.bias"],
        f"{ours}.noise": fixed * strength,
    }  # fmt: skip


def _affine(t: Tensors, ours: str, theirs: str) -> State:
    weight = t[f"{theirs}.conv.modulation.weight"]
    return {
        f"{ours}.affine.weight": weight / math.sqrt(weight.shape[1]),
        f"{ours}.affine.bias": t[f"{theirs}.conv.modulation.bias"],
    }


ROSINALITY = Family(
    name="rosinality",
    files="rosinality's stylegan2-pytorch (g_ema)",
    licence="The code is MIT; a checkpoint converted from NVIDIA's keeps NVIDIA's terms, others are their trainers' to license.",
    recognises=lambda found: "g_ema" in found,
    convert=convert,
)
