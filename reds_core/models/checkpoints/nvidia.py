"""Network pickles of stylegan2-ada-pytorch and of stylegan3: modules as records, with their constants by name."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from reds_core.errors import ModelError
from reds_core.models.checkpoints.family import Contents, Family, Settings
from reds_core.models.checkpoints.stand_ins import Record
from reds_core.models.checkpoints.tensors import State, check_filter, made
from reds_core.models.published.stylegan2 import StyleGan2
from reds_core.models.published.stylegan3 import StyleGan3

# The published constructor's defaults, for what a pickle leaves out.
SYNTHESIS3 = {
    "channel_base": 32768, "channel_max": 512, "num_layers": 14, "num_critical": 2, "first_cutoff": 2, "first_stopband": 2**2.1,
    "last_stopband_rel": 2**0.3, "margin_size": 10, "output_scale": 0.25, "conv_kernel": 3, "filter_size": 6, "lrelu_upsampling": 2,
    "use_radial_filters": False, "conv_clamp": 256,
}  # fmt: skip


LICENCE = "NVIDIA publishes its checkpoints for non-commercial use; what was trained by others is theirs to license."


def stylegan2(found: Contents, settings: Settings | None) -> tuple[StyleGan2, State]:
    """Returns the architecture and weights of a network pickle of stylegan2-ada-pytorch."""
    g = found["G_ema"]
    synthesis, mapping = _child(g, "synthesis"), _child(g, "mapping")
    blocks = [_child(synthesis, f"b{size}") for size in synthesis["block_resolutions"]]
    convs = [_child(block, "conv1") for block in blocks]
    architecture = StyleGan2(
        kind="stylegan2", z_dim=_constant(g, "z_dim"), w_dim=_constant(g, "w_dim"), classes=_constant(g, "c_dim"),
        mapping_layers=_constant(mapping, "num_layers"), channels=tuple(len(_tensor(conv, "bias")) for conv in convs),
        colours=_constant(g, "img_channels"), form=_constant(blocks[-1], "architecture"), clamp=_constant(convs[-1], "conv_clamp"),
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


def stylegan3(found: Contents, settings: Settings | None) -> tuple[StyleGan3, State]:
    """Returns the architecture and weights of a network pickle of stylegan3."""
    g = found["G_ema"]
    synthesis, mapping = _child(g, "synthesis"), _child(g, "mapping")
    chosen = SYNTHESIS3 | {k: v for k, v in synthesis["_init_kwargs"].items() if k in SYNTHESIS3}
    architecture = StyleGan3(
        kind="stylegan3", z_dim=_constant(g, "z_dim"), w_dim=_constant(g, "w_dim"), classes=_constant(g, "c_dim"),
        mapping_layers=_constant(mapping, "num_layers"), resolution=_constant(g, "img_resolution"),
        colours=_constant(g, "img_channels"), layers=chosen["num_layers"], critical=chosen["num_critical"],
        channel_base=chosen["channel_base"], channel_max=chosen["channel_max"], first_cutoff=chosen["first_cutoff"],
        first_stopband=chosen["first_stopband"], last_stopband_rel=chosen["last_stopband_rel"], margin=chosen["margin_size"],
        kernel=chosen["conv_kernel"], filter_size=chosen["filter_size"], oversampling=chosen["lrelu_upsampling"],
        radial=chosen["use_radial_filters"], output_scale=chosen["output_scale"], clamp=chosen["conv_clamp"],
    )  # fmt: skip
    waves = _child(synthesis, "input")
    if not torch.equal(_tensor(waves, "transform"), torch.eye(3)):
        raise ModelError("the input of this network is permanently turned or shifted; only the identity is supported")
    weight, bias = _linear(_child(waves, "affine"))
    state = _mapping(g) | {
        "synthesis.input.affine.weight": weight, "synthesis.input.affine.bias": bias,
        "synthesis.input.weight": _tensor(waves, "weight") / math.sqrt(_constant(waves, "channels")),
        "synthesis.input.freqs": _tensor(waves, "freqs"), "synthesis.input.phases": _tensor(waves, "phases"),
    }  # fmt: skip
    *names, last = synthesis["layer_names"]
    for k, (name, plan) in enumerate(zip(names, architecture.plan(), strict=False)):
        layer = _child(synthesis, name)
        seen = (*(_constant(layer, n) for n in ("in_channels", "out_channels", "up_factor", "down_factor")), *layer["padding"][:2])
        around = architecture.padding(plan)
        if seen != (plan.fan_in, plan.fan_out, plan.up, plan.down, *around):
            raise ModelError(f"layer {k} differs from the published plan of layers, which has {plan} and padding {around}")
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
    """Returns a number or text of a module. Raises ModelError for anything else, which need not even be finite to print."""
    value = module[name]
    if type(value) not in (int, float, str, bool, type(None)):
        raise ModelError(f"{name} of a module is a {type(value).__name__}; it should be a number or a text")
    return value


def _linear(module: Record, activation: str = "linear") -> tuple[Tensor, Tensor]:
    """Returns a fully connected layer's weight and bias."""
    if _constant(module, "activation") != activation:
        raise ModelError(
            f"a fully connected layer has the activation {module['activation']!r}; only {activation!r} is supported there"
        )
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
            raise ModelError(f"the classes' vectors {tuple(weight.shape)} and their bias {tuple(bias.shape)} do not fit together")
        state["mapping.embed.weight"] = weight.T + bias  # a class is a column
    return state


def _styled2(name: str, layer: Record, size: int) -> State:
    if _constant(layer, "activation") != "lrelu":
        raise ModelError(f"{name} has the activation {layer['activation']!r}; only lrelu is supported")
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
        f"{name}.conv.weight": weight * _tensor(layer, "magnitude_ema").reshape(()).rsqrt(),
        f"{name}.conv.bias": _tensor(layer, "bias"),
    }  # fmt: skip


def _generator(found: Contents) -> Record | None:
    g = found.get("G_ema")
    return g if isinstance(g, Record) and g.kind else None


def _is_stylegan3(g: Record) -> bool:
    return "layer_names" in g["_modules"]["synthesis"]


STYLEGAN2 = Family(
    name="stylegan2-ada-pytorch",
    files="network pickles of stylegan2-ada-pytorch (G_ema)",
    licence=LICENCE,
    recognises=lambda found: (g := _generator(found)) is not None and not _is_stylegan3(g),
    convert=stylegan2,
)
STYLEGAN3 = Family(
    name="stylegan3",
    files="network pickles of stylegan3 (G_ema)",
    licence=LICENCE,
    recognises=lambda found: (g := _generator(found)) is not None and _is_stylegan3(g),
    convert=stylegan3,
)
