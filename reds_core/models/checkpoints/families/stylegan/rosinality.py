"""State dicts of rosinality's stylegan2-pytorch: StyleGAN2 under other names, with a factor before every weight.

Those of encoders (pSp, e4e and what follows them) hold the generator that they were trained for as their decoder.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from reds_core.errors import ModelError
from reds_core.models.checkpoints.family import Contents, Family, Settings
from reds_core.models.checkpoints.means import measured_mean
from reds_core.models.checkpoints.tensors import State, Tensors, check_filter, made
from reds_core.models.published.stylegan2 import StyleGan2

MAPPING_RATE = 0.01  # the learning rate's factor in its training script, which its files do not hold
MARK, MEAN = "convs.0.conv.modulation.weight", "latent_avg"
BESIDE = ("encoder.", "discriminator.", "face_pool.", MEAN)  # what an encoder's state dict holds beside its decoder


def convert(found: Contents, settings: Settings | None) -> tuple[StyleGan2, State]:
    """Returns the architecture and weights of a checkpoint of stylegan2-pytorch, or of the decoder in one of an encoder."""
    t, mean = _state(found), found.get(MEAN)
    architecture = _architecture(t)
    count, base = len(architecture.channels), architecture.base
    state = {"synthesis.const": t["input.input"][0]}
    for k in range(architecture.mapping_layers):
        weight, rate = t[f"style.{k + 1}.weight"], MAPPING_RATE
        state[f"mapping.layers.{k}.weight"] = weight * rate / math.sqrt(weight.shape[1])
        state[f"mapping.layers.{k}.bias"] = t[f"style.{k + 1}.bias"] * rate
    for k in range(count):
        block, size = f"synthesis.blocks.{k}", (base[0] << k, base[1] << k)
        state |= _styled(t, f"{block}.conv", _convs(count)[k], f"noises.noise_{2 * k}", size)
        rgb = f"to_rgbs.{k - 1}" if k else "to_rgb1"
        if k:
            up = f"convs.{2 * k - 2}"
            check_filter(t[f"{up}.conv.blur.kernel"], 4.0)
            check_filter(t[f"{rgb}.upsample.kernel"], 4.0)
            state |= _styled(t, f"{block}.up", up, f"noises.noise_{2 * k - 1}", size)
        weight = t[f"{rgb}.conv.weight"][0]
        state |= _affine(t, f"{block}.rgb", rgb)
        state |= {
            f"{block}.rgb.conv.weight": weight / math.sqrt(weight[0].numel()),
            f"{block}.rgb.conv.bias": t[f"{rgb}.bias"].flatten(),
        }
    t.check_all_used()
    state["mapping.mean"] = measured_mean(architecture, state) if mean is None else _mean(made(mean), architecture.w_dim)
    return architecture, state


def _mean(found: Tensor, w_dim: int) -> Tensor:
    """Returns the mean w of an encoder's checkpoint, which may hold it once for every layer."""
    rows = found.reshape(-1, w_dim)
    if not torch.equal(rows, rows[:1].expand_as(rows)):
        raise ModelError(f"latent_avg holds {len(rows)} rows that differ; a mean for every layer is not supported")
    return rows[0]


def _state(found: Contents) -> Tensors:
    """Returns the generator's tensors, wherever they lie."""
    if isinstance(found.get("g_ema"), dict):
        return Tensors(found["g_ema"])
    if isinstance(found.get("state_dict"), dict):
        inside = found["state_dict"]
        Tensors({k: v for k, v in inside.items() if not k.startswith(("decoder.", *BESIDE))}).check_all_used()
        return Tensors(inside).below("decoder.")
    return Tensors({k: v for k, v in found.items() if k != MEAN})


def _architecture(t: Tensors) -> StyleGan2:
    count = 1 + sum(name.startswith("to_rgbs.") and name.endswith(".bias") and name.count(".") == 2 for name in t)
    layers = sum(name.startswith("style.") and name.endswith(".weight") for name in t)
    first, w_dim = t["style.1.weight"].shape[1], t["conv1.conv.modulation.weight"].shape[1]
    if first != w_dim:
        raise ModelError(
            f"style.1.weight takes {first} numbers, and w has {w_dim}: it was converted from a conditional network, whose classes "
            "this form does not hold; import the network pickle that it was converted from"
        )
    return StyleGan2(
        kind="stylegan2", z_dim=first, w_dim=w_dim, classes=0, mapping_layers=layers,
        channels=tuple(t[f"{name}.conv.weight"].shape[1] for name in _convs(count)), colours=t["to_rgb1.bias"].shape[1],
        form="skip", clamp=None, base=tuple(t["input.input"].shape[2:]),  # type: ignore[arg-type]  # pydantic checks it
    )  # fmt: skip


def _convs(count: int) -> list[str]:
    """Returns the names of the blocks' convolutions that keep the size."""
    return ["conv1", *(f"convs.{2 * k + 1}" for k in range(count - 1))]


def _styled(t: Tensors, ours: str, theirs: str, noise: str, size: tuple[int, int]) -> State:
    strength = t[f"{theirs}.noise.weight"].reshape(())
    # Older files have no fixed noise: it was drawn anew for every image. Then there is none here.
    fixed = t[noise][0, 0] if noise in t else torch.zeros(size)
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


def _recognises(found: Contents) -> bool:
    inside = found.get("state_dict")
    encoder = isinstance(inside, dict) and f"decoder.{MARK}" in inside
    average = found.get("g_ema")
    return encoder or MARK in found or (isinstance(average, dict) and MARK in average)


ROSINALITY = Family(
    name="rosinality",
    files="rosinality's stylegan2-pytorch (g_ema, or the state dict alone), and the encoders pSp and e4e (state_dict)",
    licence="The code is MIT; a checkpoint converted from NVIDIA's keeps NVIDIA's terms, others are their trainers' to license.",
    recognises=_recognises,
    convert=convert,
)
