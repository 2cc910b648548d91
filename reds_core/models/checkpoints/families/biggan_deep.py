"""State dicts of pytorch-pretrained-BigGAN, Hugging Face's port of DeepMind's BigGAN-deep.

The config.json beside one says which blocks double the size; without it, they are every second one, as in all that is published.
"""

from __future__ import annotations

import torch

from reds_core.errors import ModelError
from reds_core.models.checkpoints.family import Contents, Family, Settings
from reds_core.models.checkpoints.identify import NotSupportedError
from reds_core.models.checkpoints.tensors import State, Tensors, spectral
from reds_core.models.published.biggan_deep import BOTTOM, BigGanDeep, DeepBlock

EPSILON = 1e-4
COLOURS = 3  # the last convolution makes as many channels as it takes, of which the first three are the image
CELLS = BOTTOM**2


def convert(found: Contents, settings: Settings | None) -> tuple[BigGanDeep, State]:
    """Returns the architecture and weights of a state dict of pytorch-pretrained-BigGAN."""
    t, told = Tensors(found), settings or {}
    layers = t.numbers(r"generator\.layers\.(\d+)\.")
    blocks = [k for k in layers if f"generator.layers.{k}.bn_0.running_means" in t]
    attention = [k for k in layers if k not in blocks]
    architecture = _architecture(t, blocks, attention, told)
    eps = float(told.get("eps", EPSILON))
    linear, bias = spectral(t, "generator.gen_z"), t["generator.gen_z.bias"]
    # Their first features have the channels last.
    state = {
        "embed.weight": t["embeddings.weight"].T, "linear.weight": linear.unflatten(0, (CELLS, -1)).transpose(0, 1).flatten(0, 1),
        "linear.bias": bias.unflatten(0, (CELLS, -1)).T.flatten(),
    }  # fmt: skip
    for k, layer in enumerate(blocks):
        for n in range(4):
            theirs = f"generator.layers.{layer}"
            state |= _norm(t, f"blocks.{k}.norms.{n}", f"{theirs}.bn_{n}", eps)
            state[f"blocks.{k}.convs.{n}.weight"] = spectral(t, f"{theirs}.conv_{n}")
            state[f"blocks.{k}.convs.{n}.bias"] = t[f"{theirs}.conv_{n}.bias"]
    for layer in attention:
        state |= _attention(t, f"generator.layers.{layer}")
    state |= _last(t, eps)
    t.check_all_used()
    return architecture, state


def _architecture(t: Tensors, blocks: list[int], attention: list[int], told: Settings) -> BigGanDeep:
    if len(attention) > 1:
        raise NotSupportedError(f"it has attention at {len(attention)} places; one at most is supported")
    doubles = [bool(layer[0]) for layer in told["layers"]] if "layers" in told else [k % 2 == 1 for k in range(len(blocks))]
    if len(doubles) != len(blocks):
        raise ModelError(f"the configuration has {len(doubles)} blocks, and the file {len(blocks)}: they do not belong together")
    class_dim, classes = t["embeddings.weight"].shape
    names = [f"generator.layers.{k}" for k in blocks]
    return BigGanDeep(
        kind="biggan-deep", z_dim=t["generator.gen_z.weight_orig"].shape[1] - class_dim, classes=classes, class_dim=class_dim,
        blocks=tuple(
            DeepBlock(
                fan_in=t[f"{name}.bn_0.running_means"].shape[1], middle=len(t[f"{name}.conv_0.bias"]),
                fan_out=len(t[f"{name}.conv_3.bias"]), doubles=double,
            )
            for name, double in zip(names, doubles, strict=True)
        ),
        attention=attention[0] if attention else None, levels=len(t["generator.bn.running_means"]), colours=COLOURS,
    )  # fmt: skip


def _norm(t: Tensors, ours: str, theirs: str, eps: float) -> State:
    gain, bias = spectral(t, f"{theirs}.scale"), spectral(t, f"{theirs}.offset")
    return {
        f"{ours}.gain.weight": gain, f"{ours}.gain.bias": torch.ones(len(gain)), f"{ours}.bias.weight": bias,
        **_statistics(t, f"{ours}.statistics", theirs, eps),
    }  # fmt: skip


def _statistics(t: Tensors, ours: str, theirs: str, eps: float) -> State:
    return {f"{ours}.mean": t[f"{theirs}.running_means"], f"{ours}.var": t[f"{theirs}.running_vars"] + eps}


def _attention(t: Tensors, theirs: str) -> State:
    names = {"theta": "theta", "phi": "phi", "g": "g", "o": "o_conv"}
    state = {f"attention.0.{ours}.weight": spectral(t, f"{theirs}.snconv1x1_{name}") for ours, name in names.items()}
    state["attention.0.o.weight"] *= t[f"{theirs}.gamma"].reshape(())
    return state


def _last(t: Tensors, eps: float) -> State:
    return {
        "scale": t["generator.bn.weight"][:, None, None], "shift": t["generator.bn.bias"][:, None, None],
        **_statistics(t, "statistics", "generator.bn", eps),
        "rgb.weight": spectral(t, "generator.conv_to_rgb")[:COLOURS], "rgb.bias": t["generator.conv_to_rgb.bias"][:COLOURS],
    }  # fmt: skip


BIGGAN_DEEP = Family(
    name="pytorch-pretrained-biggan",
    files="Hugging Face's pytorch-pretrained-BigGAN: state dicts",
    licence="The code is MIT, and DeepMind's weights Apache 2.0; ImageNet's terms may bear on what is made of them.",
    recognises=lambda found: "generator.gen_z.weight_orig" in found and "embeddings.weight" in found,
    convert=convert,
)
