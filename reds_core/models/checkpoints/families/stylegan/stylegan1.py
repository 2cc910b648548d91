"""StyleGAN in TensorFlow, and configuration a of StyleGAN2's: pickles of (G, D, Gs).

Weights were multiplied at run time by the factor of He's initialisation, which is multiplied in here. From 128 pixels on, doubling
and convolving were one step, in which the kernel is the other way round.
"""

from __future__ import annotations

import math
import re
from typing import Any

import torch
from torch import Tensor

from reds_core.models.checkpoints.family import NVIDIA, Contents, Family, Settings
from reds_core.models.checkpoints.stand_ins import Array
from reds_core.models.checkpoints.tensors import State, Tensors, added
from reds_core.models.checkpoints.tflib import average_of, blocks_of, has_style_mod, settings_of, variables_of
from reds_core.models.published.stylegan1 import StyleGan1

# Settings that the architecture here has only in this form; anything else is refused.
ONLY: dict[str, tuple[Any, ...]] = {
    "nonlinearity": ("lrelu",), "mapping_nonlinearity": ("lrelu",), "normalize_latents": (True,), "mapping_lrmul": (0.01,),
    "use_wscale": (True,), "use_noise": (True,), "use_styles": (True,), "use_pixel_norm": (False,), "use_instance_norm": (True,),
    "const_input_layer": (True,), "blur_filter": ([1, 2, 1], (1, 2, 1)), "fused_scale": ("auto",),
}  # fmt: skip
FUSED = 128  # the size, in pixels, from which doubling and convolving were one step
GAIN, MAPPING_RATE = math.sqrt(2), 0.01


def convert(found: Contents, settings: Settings | None) -> tuple[StyleGan1, State]:
    """Returns the architecture and weights of a StyleGAN in TensorFlow."""
    network = average_of(found)
    if network is None:
        raise KeyError("Gs")
    settings_of(network, ONLY)
    variables = variables_of(network)
    t, blocks = Tensors({name: Array(value) for name, value in variables.items()}), blocks_of(variables)
    state: State = {"mapping.mean": t["dlatent_avg"], "synthesis.const": t["synthesis/4x4/Const/const"][0]}
    dense = t.numbers(r"mapping/Dense(\d+)/")
    for k in dense:
        state |= _dense(t, f"mapping.layers.{k}", f"mapping/Dense{k}")
    if "mapping/LabelConcat/weight" in t:
        state["mapping.embed.weight"] = t["mapping/LabelConcat/weight"]
    layers = [f"{block}/{layer}" for block in blocks for layer in (("Const", "Conv") if block == "4x4" else ("Conv0_up", "Conv1"))]
    for k, layer in enumerate(layers):
        state |= _style(t, f"synthesis.styles.{k}", f"synthesis/{layer}", t[f"synthesis/noise{k}"][0, 0])
        if k:
            state[f"synthesis.convs.{k - 1}.weight"] = _kernel(t[f"synthesis/{layer}/weight"], layer)
    rgb = t["synthesis/ToRGB_lod0/weight"].permute(3, 2, 0, 1)
    state |= {"synthesis.rgb.weight": rgb / math.sqrt(rgb[0].numel()), "synthesis.rgb.bias": t["synthesis/ToRGB_lod0/bias"]}
    t.unused = {name for name in t.unused if not re.fullmatch(r"(synthesis/)?lod|synthesis/ToRGB_lod[1-9]\d*/.*", name)}
    t.check_all_used()
    vectors = state.get("mapping.embed.weight")
    architecture = StyleGan1(
        kind="stylegan1", z_dim=t["mapping/Dense0/weight"].shape[0] - (0 if vectors is None else vectors.shape[1]),
        w_dim=len(t[f"mapping/Dense{dense[-1]}/bias"]), classes=0 if vectors is None else len(vectors), mapping_layers=len(dense),
        channels=tuple(len(t[f"synthesis/{layer}/bias"]) for layer in layers[1::2]), colours=len(state["synthesis.rgb.bias"]),
    )  # fmt: skip
    return architecture, state


def _dense(t: Tensors, ours: str, theirs: str) -> State:
    weight = t[f"{theirs}/weight"].T
    # The gain was in the weight; here it is in the activation, and so the bias must lose it.
    return {
        f"{ours}.weight": weight * (MAPPING_RATE / math.sqrt(weight.shape[1])),
        f"{ours}.bias": t[f"{theirs}/bias"] * (MAPPING_RATE / GAIN),
    }  # fmt: skip


def _style(t: Tensors, ours: str, theirs: str, noise: Tensor) -> State:
    weight, bias = t[f"{theirs}/StyleMod/weight"].T, t[f"{theirs}/StyleMod/bias"]
    ones = (torch.arange(len(bias)) < len(bias) // 2).float()  # 1 is added to the first half, the scales
    return {
        f"{ours}.affine.weight": weight / math.sqrt(weight.shape[1]), f"{ours}.affine.bias": added(bias, ones),
        f"{ours}.bias": t[f"{theirs}/bias"][:, None, None], f"{ours}.strength": t[f"{theirs}/Noise/weight"][:, None, None],
        f"{ours}.noise": noise,
    }  # fmt: skip


def _kernel(weight: Tensor, layer: str) -> Tensor:
    block, _, name = layer.partition("/")
    if name == "Conv0_up" and int(block.partition("x")[0]) >= FUSED:
        weight = weight.flip(0, 1)
    weight = weight.permute(3, 2, 0, 1)
    return weight * (GAIN / math.sqrt(weight[0].numel()))


STYLEGAN1 = Family(
    name="stylegan-tensorflow",
    files="StyleGAN in TensorFlow: pickles",
    licence=NVIDIA,
    recognises=lambda found: (g := average_of(found)) is not None and has_style_mod(g),
    convert=convert,
)
