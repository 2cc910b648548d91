"""StyleGAN3, configurations T and R, and StyleGAN-XL: network pickles, one network alone, a module of torch.save.

StyleGAN-XL (Sauer et al., "StyleGAN-XL: Scaling StyleGAN to Large Diverse Datasets", SIGGRAPH 2022) is a StyleGAN3 with a table of
class vectors, a mean w for each class, and, for larger images, layers of their own after the first ones of a smaller network.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from reds_core.models.checkpoints.family import NVIDIA, Contents, Family, Settings, generator_of
from reds_core.models.checkpoints.identify import NotSupportedError
from reds_core.models.checkpoints.layers import class_vectors, linear
from reds_core.models.checkpoints.means import measured_mean
from reds_core.models.checkpoints.modules import Modules, plain
from reds_core.models.checkpoints.tensors import State, affine
from reds_core.models.published.style import leaky
from reds_core.models.published.stylegan3 import Layer, OwnPlan, StyleGan3

# The published constructor's defaults, for what a pickle leaves out.
DEFAULTS = {
    "channel_base": 32768, "channel_max": 512, "num_layers": 14, "num_critical": 2, "first_cutoff": 2, "first_stopband": 2**2.1,
    "last_stopband_rel": 2**0.3, "margin_size": 10, "output_scale": 0.25, "conv_kernel": 3, "filter_size": 6, "lrelu_upsampling": 2,
    "use_radial_filters": False, "conv_clamp": 256,
}  # fmt: skip


def convert(found: Contents, settings: Settings | None) -> tuple[StyleGan3, State]:
    """Returns the architecture and weights of a network of stylegan3 or of StyleGAN-XL."""
    g = generator_of(found)
    if g is None:
        raise KeyError("G_ema")
    t = Modules(g)
    names = g["_modules"]["synthesis"]["layer_names"]
    architecture, state = _architecture(t, names), _mapping(t)
    state |= _waves(t)
    *inner, last = names
    for k, (name, layer) in enumerate(zip(inner, architecture.plan(), strict=False)):
        _check_padding(t, f"synthesis.{name}", k, layer, architecture.padding(layer))
        state |= _filtered(t, f"synthesis.layers.{k}", f"synthesis.{name}")
    state |= _colours(t, "synthesis.rgb", f"synthesis.{last}")
    if "mapping.mean" not in state:
        state["mapping.mean"] = measured_mean(architecture, state)
    t.check_all_used()
    return architecture, state


def _architecture(t: Modules, names: list[str]) -> StyleGan3:
    kwargs = t.modules["synthesis"].get("_init_kwargs", {})
    chosen = {k: plain(kwargs.get(k, v), k) for k, v in DEFAULTS.items()}
    table = t.has("mapping.embed_proj")  # StyleGAN-XL's classes
    own = "head_layer_names" in t.modules[""]
    return StyleGan3(
        kind="stylegan3", z_dim=t.setting("", "z_dim"), w_dim=t.setting("", "w_dim"), classes=t.setting("", "c_dim"),
        mapping_layers=t.setting("mapping", "num_layers"), resolution=t.setting("", "img_resolution"),
        colours=t.setting("", "img_channels"), layers=len(names) - 1, critical=chosen["num_critical"],
        channel_base=chosen["channel_base"], channel_max=chosen["channel_max"], first_cutoff=chosen["first_cutoff"],
        first_stopband=chosen["first_stopband"], last_stopband_rel=chosen["last_stopband_rel"], margin=chosen["margin_size"],
        kernel=chosen["conv_kernel"], filter_size=chosen["filter_size"], oversampling=chosen["lrelu_upsampling"],
        radial=chosen["use_radial_filters"], output_scale=chosen["output_scale"], clamp=chosen["conv_clamp"],
        class_dim=t.setting("", "z_dim") if table else None, class_means=table, own_plan=_own_plan(t, names) if own else None,
    )  # fmt: skip


def _own_plan(t: Modules, names: list[str]) -> OwnPlan:
    def layer(name: str) -> Layer:
        says = {
            ours: t.setting(name, theirs)
            for ours, theirs in (
                ("fan_in", "in_channels"), ("fan_out", "out_channels"), ("in_size", "in_size"), ("out_size", "out_size"),
                ("up", "up_factor"), ("down", "down_factor"), ("kernel", "conv_kernel"), ("radial", "down_radial"),
            )
        }  # fmt: skip
        return Layer(**says)

    return OwnPlan(
        rate=t.setting("synthesis.input", "sampling_rate"), bandwidth=t.setting("synthesis.input", "bandwidth"),
        layers=tuple(layer(f"synthesis.{name}") for name in names),
    )  # fmt: skip


def _check_padding(t: Modules, name: str, k: int, layer: Layer, around: tuple[int, int]) -> None:
    seen = (
        *(t.setting(name, n) for n in ("in_channels", "out_channels", "up_factor", "down_factor")),
        *t.modules[name]["padding"][:2],
    )
    if seen != (layer.fan_in, layer.fan_out, layer.up, layer.down, *around):
        raise NotSupportedError(f"layer {k} differs from the published plan of layers, which has {layer} and padding {around}")


def _mapping(t: Modules) -> State:
    state = {"mapping.mean": t["mapping.w_avg"]} if "mapping.w_avg" in t else {}
    for k in range(t.setting("mapping", "num_layers")):
        state[f"mapping.layers.{k}.weight"], state[f"mapping.layers.{k}.bias"] = linear(t, t.setting, f"mapping.fc{k}", "lrelu")
    if t.has("mapping.embed_proj"):
        weight, bias = linear(t, t.setting, "mapping.embed_proj", "lrelu")
        state["mapping.embed.weight"] = leaky(affine(t["mapping.embed.weight"], weight, bias))
    elif t.has("mapping.embed"):
        state["mapping.embed.weight"] = class_vectors(t, t.setting, "mapping.embed")
    return state


def _waves(t: Modules) -> State:
    name = "synthesis.input"
    if not torch.equal(t[f"{name}.transform"], torch.eye(3)):
        raise NotSupportedError("the input of this network is permanently turned or shifted; only the identity is supported")
    weight, bias = linear(t, t.setting, f"{name}.affine")
    return {
        "synthesis.input.affine.weight": weight, "synthesis.input.affine.bias": bias,
        "synthesis.input.weight": t[f"{name}.weight"] / math.sqrt(t.setting(name, "channels")),
        "synthesis.input.freqs": t[f"{name}.freqs"], "synthesis.input.phases": t[f"{name}.phases"],
    }  # fmt: skip


def _filtered(t: Modules, ours: str, theirs: str) -> State:
    affine, weight = linear(t, t.setting, f"{theirs}.affine"), t[f"{theirs}.weight"]
    return {
        f"{ours}.affine.weight": affine[0], f"{ours}.affine.bias": affine[1],
        f"{ours}.weight": weight * weight.square().mean((1, 2, 3), keepdim=True).rsqrt(),
        f"{ours}.bias": t[f"{theirs}.bias"], f"{ours}.gain": t[f"{theirs}.magnitude_ema"].rsqrt(),
        **{f"{ours}.{f}": _filter(t, f"{theirs}.{f}") for f in ("up_filter", "down_filter")},
    }  # fmt: skip


def _filter(t: Modules, name: str) -> Tensor:
    return t[name] if name in t else torch.ones(1)


def _colours(t: Modules, ours: str, theirs: str) -> State:
    weight = t[f"{theirs}.weight"]
    gain = 1 / math.sqrt(weight[0].numel())
    affine = linear(t, t.setting, f"{theirs}.affine")
    return {
        f"{ours}.affine.weight": affine[0] * gain, f"{ours}.affine.bias": affine[1] * gain,
        f"{ours}.conv.weight": weight * t[f"{theirs}.magnitude_ema"].reshape(()).rsqrt(), f"{ours}.conv.bias": t[f"{theirs}.bias"],
    }  # fmt: skip


def _recognises(found: Contents) -> bool:
    g: Any = generator_of(found)
    synthesis = g and g.get("_modules", {}).get("synthesis")
    return bool(synthesis) and "layer_names" in synthesis and "mapping" in g["_modules"]


STYLEGAN3 = Family(
    name="stylegan3",
    files="networks of stylegan3 and of StyleGAN-XL: pickles, modules",
    licence=NVIDIA,
    recognises=_recognises,
    convert=convert,
)
