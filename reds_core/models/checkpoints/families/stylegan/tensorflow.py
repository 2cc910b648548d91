"""StyleGAN2 and StyleGAN2-ADA in TensorFlow: pickles of (G, D, Gs), each a network with its settings and its variables by name.

The names become those of stylegan2-ada-pytorch, as its legacy.py does it: axes in another order, the kernels of convolutions that
double turned around, styles' biases without their 1, a mean w called dlatent_avg.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from reds_core.models.checkpoints.families.stylegan.stylegan2 import from_state
from reds_core.models.checkpoints.family import NVIDIA, Contents, Family, Settings
from reds_core.models.checkpoints.stand_ins import Array
from reds_core.models.checkpoints.tensors import State, Tensors
from reds_core.models.checkpoints.tflib import average_of, blocks_of, has_style_mod, settings_of, variables_of
from reds_core.models.published.stylegan2 import StyleGan2

# Settings that the architecture here has only in this form; anything else is refused.
ONLY: dict[str, tuple[Any, ...]] = {
    "resample_kernel": ([1, 3, 3, 1], (1, 3, 3, 1), None), "nonlinearity": ("lrelu",), "mapping_nonlinearity": ("lrelu",),
    "normalize_latents": (True,), "mapping_lrmul": (0.01,), "use_noise": (True, False), "latent_fmaps": (None,),
}  # fmt: skip
LAYERS = {"Conv0_up": "conv0", "Conv1": "conv1", "Conv": "conv1", "ToRGB": "torgb", "Skip": "skip"}
TURNED = ("Conv0_up", "Skip")  # convolutions that double


def convert(found: Contents, settings: Settings | None) -> tuple[StyleGan2, State]:
    """Returns the architecture and weights of a StyleGAN2 in TensorFlow."""
    network = average_of(found)
    if network is None:
        raise KeyError("Gs")
    told, variables = settings_of(network, ONLY), variables_of(network)
    joint = "mapping/LabelConcat/weight" in variables
    script = {"conv_clamp": told.get("conv_clamp"), "use_noise": told.get("use_noise", True)}
    architecture, state = from_state(Tensors(_renamed(variables)), script)
    return architecture.model_copy(update={"joint": joint}), state


def _renamed(variables: dict[str, np.ndarray]) -> dict[str, Array]:
    """Returns the variables under the names, and in the axes, of stylegan2-ada-pytorch. Unknown ones keep their names."""
    levels = {name: 4 << k for k, name in enumerate(blocks_of(variables))}
    found = {}
    for name, value in variables.items():
        if name == "lod" or re.fullmatch(r"synthesis/(lod|ToRGB_lod[1-9]\d*/.*)", name):
            continue  # the state of training by growing images, whose smaller ones the network at its end does not draw
        new, array = _one(name, value, levels)
        found[new] = Array(np.ascontiguousarray(array))
    if "mapping.embed.weight" in found and "mapping.embed.bias" not in found:
        found["mapping.embed.bias"] = Array(np.zeros(len(found["mapping.embed.weight"].value), np.float32))
    return found


def _one(name: str, value: np.ndarray, levels: dict[str, int]) -> tuple[str, np.ndarray]:
    """Returns a variable's new name and its numbers. `levels` is what the blocks are called, by their names here."""
    if name == "dlatent_avg":
        return "mapping.w_avg", value
    if m := re.fullmatch(r"mapping/(?:Dense(\d+)|LabelEmbed)/(weight|bias)", name):
        return f"mapping.{'embed' if m[1] is None else 'fc' + m[1]}.{m[2]}", value.T
    if name == "mapping/LabelConcat/weight":
        # This one is not multiplied by a rate: undo what a fully connected layer's would do.
        return "mapping.embed.weight", value.T * np.sqrt(len(value))
    if m := re.fullmatch(r"synthesis/noise(\d{1,2})", name):
        k = int(m[1])
        return f"synthesis.b{4 << (k + 1) // 2}.conv{0 if k % 2 else 1}.noise_const", value[0, 0]
    if m := re.fullmatch(r"synthesis/(\d+x\d+)/Const/const", name):
        return f"synthesis.b{levels[m[1]]}.const", value[0]
    if m := re.fullmatch(r"synthesis/ToRGB_lod0/(\w+)", name):
        return _layer(f"synthesis.b{max(levels.values())}", "ToRGB", m[1], value)
    if m := re.fullmatch(r"synthesis/(\d+x\d+)/(\w+)/(\w+)", name):
        return _layer(f"synthesis.b{levels[m[1]]}", m[2], m[3], value)
    return name, value


def _layer(block: str, layer: str, part: str, value: np.ndarray) -> tuple[str, np.ndarray]:
    ours = f"{block}.{LAYERS.get(layer, layer)}"
    if part == "weight":
        return f"{ours}.weight", (value[::-1, ::-1] if layer in TURNED else value).transpose(3, 2, 0, 1)
    if part == "mod_weight":
        return f"{ours}.affine.weight", value.T
    return (f"{ours}.affine.bias", value + 1) if part == "mod_bias" else (f"{ours}.{part}", value)


TENSORFLOW = Family(
    name="stylegan2-tensorflow",
    files="StyleGAN2 and StyleGAN2-ADA in TensorFlow: pickles",
    licence=NVIDIA,
    recognises=lambda found: (g := average_of(found)) is not None and not has_style_mod(g),
    convert=convert,
)
