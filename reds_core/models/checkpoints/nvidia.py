"""Network pickles of stylegan2-ada-pytorch and of stylegan3, as read by pickles.py: modules as records, with their constants by name."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from reds_core.errors import ModelError
from reds_core.models.checkpoints.common import State, check_filter, made
from reds_core.models.checkpoints.pickles import Record
from reds_core.models.published.stylegan2 import StyleGan2
from reds_core.models.published.stylegan3 import StyleGan3

# Defaults of the published constructor, for what a pickle does not repeat.
SYNTHESIS3 = {
    "channel_base": 32768, "channel_max": 512, "num_layers": 14, "num_critical": 2, "first_cutoff": 2, "first_stopband": 2**2.1,
    "last_stopband_rel": 2**0.3, "margin_size": 10, "output_scale": 0.25, "conv_kernel": 3, "filter_size": 6, "lrelu_upsampling": 2,
    "use_radial_filters": False, "conv_clamp": 256,
}  # fmt: skip


def stylegan2(g: Record) -> tuple[StyleGan2, State]:
    synthesis, mapping = _child(g, "synthesis"), _child(g, "mapping")
    blocks = [_child(synthesis, f"b{size}") for size in synthesis["block_resolutions"]]
    convs = [_child(block, "conv1") for block in blocks]
    architecture = StyleGan2(
        kind="stylegan2", z_dim=_constant(g, "z_dim"), w_dim=_constant(g, "w_dim"), classes=_constant(g, "c_dim"), mapping_layers=_constant(mapping, "num_layers"),
        channels=tuple(len(_tensor(conv, "bias")) for conv in convs), colours=_constant(g, "img_channels"), form=_constant(blocks[-1], "architecture"),
        clamp=_constant(convs[-1], "conv_clamp"),
    )  # fmt: skip
    state = _mapping(g) | {"synthesis.const": _tensor(blocks[0], "const")}
    for k, block in enumerate(blocks):
        for ours, theirs in (("up", "conv0"), ("conv", "conv1")):
            if theirs in block["_modules"]:
                state |= _styled2(f"synthesis.blocks.{k}.{ours}", _child(block, theirs), 4 << k)
        if "torgb" in block["_modules"]:
            rgb = _child(block, "torgb")
            weight, bias = _linear(_child(rgb, "affine"))
            name = f"synthesis.blocks.{k}.rgb"
            state |= {
                f"{name}.affine.weight": weight * _constant(rgb, "weight_gain"),
                f"{name}.affine.bias": bias * _constant(rgb, "weight_gain"),
            }
            state |= {f"{name}.conv.weight": _tensor(rgb, "weight"), f"{name}.conv.bias": _tensor(rgb, "bias")}
        if "skip" in block["_modules"]:
            skip = _child(block, "skip")
            state[f"synthesis.blocks.{k}.skip.weight"] = _tensor(skip, "weight") * _constant(skip, "weight_gain")
    return architecture, state


def stylegan3(g: Record) -> tuple[StyleGan3, State]:
    synthesis, mapping = _child(g, "synthesis"), _child(g, "mapping")
    given = SYNTHESIS3 | {k: v for k, v in synthesis["_init_kwargs"].items() if k in SYNTHESIS3}
    architecture = StyleGan3(
        kind="stylegan3", z_dim=_constant(g, "z_dim"), w_dim=_constant(g, "w_dim"), classes=_constant(g, "c_dim"), mapping_layers=_constant(mapping, "num_layers"),
        resolution=_constant(g, "img_resolution"), colours=_constant(g, "img_channels"), layers=given["num_layers"], critical=given["num_critical"],
        channel_base=given["channel_base"], channel_max=given["channel_max"], first_cutoff=given["first_cutoff"],
        first_stopband=given["first_stopband"], last_stopband_rel=given["last_stopband_rel"], margin=given["margin_size"],
        kernel=given["conv_kernel"], filter_size=given["filter_size"], oversampling=given["lrelu_upsampling"],
        radial=given["use_radial_filters"], output_scale=given["output_scale"], clamp=given["conv_clamp"],
    )  # fmt: skip
    waves = _child(synthesis, "input")
    if not torch.equal(_tensor(waves, "transform"), torch.eye(3)):
        raise ModelError("the input of this network is turned or shifted for good; only the identity is supported")
    weight, bias = _linear(_child(waves, "affine"))
    state = _mapping(g) | {
        "synthesis.input.affine.weight": weight, "synthesis.input.affine.bias": bias,
        "synthesis.input.weight": _tensor(waves, "weight") / math.sqrt(_constant(waves, "channels")),
        "synthesis.input.freqs": _tensor(waves, "freqs"), "synthesis.input.phases": _tensor(waves, "phases"),
    }  # fmt: skip
    *names, last = synthesis["layer_names"]
    for k, (name, plan) in enumerate(zip(names, architecture.plan(), strict=False)):
        layer = _child(synthesis, name)
        found = (*(_constant(layer, n) for n in ("in_channels", "out_channels", "up_factor", "down_factor")), *layer["padding"][:2])
        around = architecture.padding(plan)
        if found != (plan.fan_in, plan.fan_out, plan.up, plan.down, *around):
            raise ModelError(f"layer {k} differs from the published plan of layers: {plan} and padding {around} are due")
        state |= _filtered3(f"synthesis.layers.{k}", layer)
    return architecture, state | _colours3("synthesis.rgb", _child(synthesis, last))


def _child(module: Record, path: str) -> Record:
    for part in path.split("."):
        module = module["_modules"][part]
    return module


def _tensor(module: Record, name: str) -> Tensor:
    found = module["_parameters"].get(name)
    return made(module["_buffers"][name] if found is None else found)


def _constant(module: Record, name: str) -> Any:
    """A number or text that a module has: anything else would not be a constant, and need not even be finite to print."""
    value = module[name]
    if type(value) not in (int, float, str, bool, type(None)):
        raise ModelError(f"{name} of a module is a {type(value).__name__}, where a number or a text belongs")
    return value


def _linear(module: Record, activation: str = "linear") -> tuple[Tensor, Tensor]:
    """A fully connected layer's weight and bias."""
    if _constant(module, "activation") != activation:
        raise ModelError(f"a fully connected layer has the activation {module['activation']!r}; only {activation!r} is known there")
    return _tensor(module, "weight") * _constant(module, "weight_gain"), _tensor(module, "bias") * _constant(module, "bias_gain")


def _mapping(g: Record) -> State:
    mapping = _child(g, "mapping")
    state = {"mapping.mean": _tensor(mapping, "w_avg")}
    for k in range(_constant(mapping, "num_layers")):
        layer = _child(mapping, f"fc{k}")
        state[f"mapping.layers.{k}.weight"], state[f"mapping.layers.{k}.bias"] = _linear(layer, "lrelu")
    if _constant(g, "c_dim"):
        weight, bias = _linear(_child(mapping, "embed"))
        if weight.shape[:1] != bias.shape:
            raise ModelError(
                f"the classes' vectors {tuple(weight.shape)} and their bias {tuple(bias.shape)} do not belong together"
            )
        state["mapping.embed.weight"] = weight.T + bias  # a class is a column
    return state


def _styled2(name: str, layer: Record, size: int) -> State:
    if _constant(layer, "activation") != "lrelu":
        raise ModelError(f"{name} has the activation {layer['activation']!r}; only lrelu is known")
    check_filter(_tensor(layer, "resample_filter"), 1.0)
    affine = _linear(_child(layer, "affine"))
    noise = torch.zeros(size, size)
    if _constant(layer, "use_noise"):
        noise = _tensor(layer, "noise_const") * _tensor(layer, "noise_strength").reshape(())
    return {
        f"{name}.affine.weight": affine[0], f"{name}.affine.bias": affine[1], f"{name}.weight": _tensor(layer, "weight"),
        f"{name}.bias": _tensor(layer, "bias"), f"{name}.noise": noise,
    }  # fmt: skip


def _filtered3(name: str, layer: Record) -> State:
    affine, weight = _linear(_child(layer, "affine")), _tensor(layer, "weight")
    buffers = layer["_buffers"]
    return {
        f"{name}.affine.weight": affine[0], f"{name}.affine.bias": affine[1],
        f"{name}.weight": weight * weight.square().mean((1, 2, 3), keepdim=True).rsqrt(),
        f"{name}.bias": _tensor(layer, "bias"), f"{name}.gain": _tensor(layer, "magnitude_ema").rsqrt(),
        **{f"{name}.{f}": _tensor(layer, f) if buffers[f] is not None else torch.ones(1) for f in ("up_filter", "down_filter")},
    }  # fmt: skip


def _colours3(name: str, layer: Record) -> State:
    weight = _tensor(layer, "weight")
    gain = 1 / math.sqrt(weight[0].numel())
    affine = _linear(_child(layer, "affine"))
    return {
        f"{name}.affine.weight": affine[0] * gain, f"{name}.affine.bias": affine[1] * gain,
        f"{name}.conv.weight": weight * _tensor(layer, "magnitude_ema").reshape(()).rsqrt(), f"{name}.conv.bias": _tensor(layer, "bias"),
    }  # fmt: skip
