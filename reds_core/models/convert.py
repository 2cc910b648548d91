"""Published checkpoints -> an architecture and plain weights.

    stylegan2-ada-pytorch   network pickles of that repository, and of stylegan3 for its StyleGAN2 configurations
    stylegan3               network pickles, configurations T and R
    rosinality              state dicts of stylegan2-pytorch
    biggan-pytorch          state dicts with the configuration that trained them

What published code multiplies in at run time is multiplied in here, once: equalised learning rates, noise strengths, spectral norms,
statistics of normalisations. Every size is checked against the file; what the architectures here do not do is an error, never left out.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from reds_core.errors import ModelError
from reds_core.models.biggan import BigGan
from reds_core.models.pickles import Record, Stored
from reds_core.models.stylegan2 import StyleGan2
from reds_core.models.stylegan3 import StyleGan3

State = dict[str, Tensor]
FILTER = (1.0, 3.0, 3.0, 1.0)
# Defaults of the published constructors, for what a network pickle does not repeat.
SYNTHESIS3 = {
    "channel_base": 32768, "channel_max": 512, "num_layers": 14, "num_critical": 2, "first_cutoff": 2, "first_stopband": 2**2.1,
    "last_stopband_rel": 2**0.3, "margin_size": 10, "output_scale": 0.25, "conv_kernel": 3, "filter_size": 6, "lrelu_upsampling": 2,
    "use_radial_filters": False, "conv_clamp": 256,
}  # fmt: skip
ROSINALITY_MAPPING_RATE = 0.01  # not in its files: the learning rate's factor in its training script
RELUS = ("relu", "inplace_relu")
BIGGAN_OUTPUT_EPSILON = 1e-5  # of the last normalisation, whatever BN_eps says


def converted(found: Any, config: Mapping[str, Any] | None) -> tuple[str, StyleGan2 | StyleGan3 | BigGan, State]:
    """What a checkpoint is, by its contents: the format's name, the architecture, and its weights.

    Raises:
        ModelError: it is none of the known formats, or a variant of one that is not supported.
    """
    try:
        if isinstance(found, dict) and isinstance(found.get("G_ema"), Record) and found["G_ema"].kind:
            synthesis = _child(found["G_ema"], "synthesis")
            if "layer_names" in synthesis:
                return "stylegan3", *_stylegan3(found["G_ema"])
            return "stylegan2-ada-pytorch", *_stylegan2(found["G_ema"])
        if isinstance(found, dict) and "g_ema" in found:
            return "rosinality", *_rosinality(_plain(found["g_ema"]), found.get("latent_avg"))
        if isinstance(found, dict) and "blocks.0.0.conv1.weight" in found:
            if config is None:
                raise ModelError(
                    "this is a state dict of BigGAN-PyTorch, which needs the configuration it was trained with: --config FILE"
                )
            return "biggan-pytorch", *_biggan(_plain(found), config)
    except KeyError as error:
        raise ModelError(f"the checkpoint lacks {error}: it is damaged, or a variant that is not supported") from error
    names = ", ".join(map(str, list(found)[:8])) if isinstance(found, dict) else type(found).__name__
    raise ModelError(
        f"the checkpoint holds {names}: none of the known formats. They are network pickles of stylegan2-ada-pytorch and stylegan3 "
        "(G_ema), rosinality's stylegan2-pytorch (g_ema), and BigGAN-PyTorch's G_ema state dicts"
    )


def _plain(found: Mapping[str, Any]) -> State:
    return {name: value.tensor() for name, value in found.items() if isinstance(value, Stored)}


# NVIDIA's modules


def _child(module: Record, path: str) -> Record:
    for part in path.split("."):
        module = module["_modules"][part]
    return module


def _tensor(module: Record, name: str) -> Tensor:
    found = module["_parameters"].get(name)
    if found is None:
        found = module["_buffers"][name]
    tensor: Tensor = found.tensor().float()
    return tensor


def _linear(module: Record, activation: str = "linear") -> tuple[Tensor, Tensor]:
    """A fully connected layer's weight and bias."""
    if module["activation"] != activation:
        raise ModelError(f"a fully connected layer has the activation {module['activation']!r}; only {activation!r} is known there")
    return _tensor(module, "weight") * module["weight_gain"], _tensor(module, "bias") * module["bias_gain"]


def _mapping(g: Record) -> State:
    mapping = _child(g, "mapping")
    state = {"mapping.mean": _tensor(mapping, "w_avg")}
    for k in range(mapping["num_layers"]):
        layer = _child(mapping, f"fc{k}")
        state[f"mapping.layers.{k}.weight"], state[f"mapping.layers.{k}.bias"] = _linear(layer, "lrelu")
    if g["c_dim"]:
        weight, bias = _linear(_child(mapping, "embed"))
        state["mapping.embed.weight"] = weight.T + bias  # a class is a column
    return state


def _stylegan2(g: Record) -> tuple[StyleGan2, State]:
    synthesis, mapping = _child(g, "synthesis"), _child(g, "mapping")
    blocks = [_child(synthesis, f"b{size}") for size in synthesis["block_resolutions"]]
    convs = [_child(block, "conv1") for block in blocks]
    architecture = StyleGan2(
        kind="stylegan2", z_dim=g["z_dim"], w_dim=g["w_dim"], classes=g["c_dim"], mapping_layers=mapping["num_layers"],
        channels=tuple(len(_tensor(conv, "bias")) for conv in convs), colours=g["img_channels"], form=blocks[-1]["architecture"],
        clamp=convs[-1]["conv_clamp"],
    )  # fmt: skip
    state = _mapping(g) | {"synthesis.const": _tensor(blocks[0], "const")}
    for k, block in enumerate(blocks):
        for ours, theirs in (("up", "conv0"), ("conv", "conv1")):
            if theirs in block["_modules"]:
                state |= _styled2(f"synthesis.blocks.{k}.{ours}", _child(block, theirs))
        if "torgb" in block["_modules"]:
            rgb = _child(block, "torgb")
            weight, bias = _linear(_child(rgb, "affine"))
            name = f"synthesis.blocks.{k}.rgb"
            state |= {f"{name}.affine.weight": weight * rgb["weight_gain"], f"{name}.affine.bias": bias * rgb["weight_gain"]}
            state |= {f"{name}.conv.weight": _tensor(rgb, "weight"), f"{name}.conv.bias": _tensor(rgb, "bias")}
        if "skip" in block["_modules"]:
            skip = _child(block, "skip")
            state[f"synthesis.blocks.{k}.skip.weight"] = _tensor(skip, "weight") * skip["weight_gain"]
    return architecture, state


def _styled2(name: str, layer: Record) -> State:
    if layer["activation"] != "lrelu":
        raise ModelError(f"{name} has the activation {layer['activation']!r}; only lrelu is known")
    _check_filter(_tensor(layer, "resample_filter"), 1.0)
    affine = _linear(_child(layer, "affine"))
    noise = torch.zeros(layer["resolution"], layer["resolution"])
    if layer["use_noise"]:
        noise = _tensor(layer, "noise_const") * _tensor(layer, "noise_strength")
    return {
        f"{name}.affine.weight": affine[0], f"{name}.affine.bias": affine[1], f"{name}.weight": _tensor(layer, "weight"),
        f"{name}.bias": _tensor(layer, "bias"), f"{name}.noise": noise,
    }  # fmt: skip


def _check_filter(kernel: Tensor, gain: float) -> None:
    taps = torch.tensor(FILTER)
    expected = taps.outer(taps) / taps.sum() ** 2 * gain
    if kernel.shape != expected.shape or not torch.allclose(kernel, expected, atol=1e-6):
        raise ModelError(f"a resampling filter other than {list(map(int, FILTER))} is not supported")


def _stylegan3(g: Record) -> tuple[StyleGan3, State]:
    synthesis, mapping = _child(g, "synthesis"), _child(g, "mapping")
    given = SYNTHESIS3 | {k: v for k, v in synthesis["_init_kwargs"].items() if k in SYNTHESIS3}
    architecture = StyleGan3(
        kind="stylegan3", z_dim=g["z_dim"], w_dim=g["w_dim"], classes=g["c_dim"], mapping_layers=mapping["num_layers"],
        resolution=g["img_resolution"], colours=g["img_channels"], layers=given["num_layers"], critical=given["num_critical"],
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
        "synthesis.input.weight": _tensor(waves, "weight") / math.sqrt(waves["channels"]),
        "synthesis.input.freqs": _tensor(waves, "freqs"), "synthesis.input.phases": _tensor(waves, "phases"),
    }  # fmt: skip
    *names, last = synthesis["layer_names"]
    for k, (name, plan) in enumerate(zip(names, architecture.plan(), strict=False)):
        layer = _child(synthesis, name)
        found = (layer["in_channels"], layer["out_channels"], layer["up_factor"], layer["down_factor"], *layer["padding"][:2])
        around = architecture.padding(plan)
        if found != (plan.fan_in, plan.fan_out, plan.up, plan.down, *around):
            raise ModelError(
                f"layer {name} differs from the published plan of layers: {found} where {plan} and padding {around} are due"
            )
        state |= _filtered3(f"synthesis.layers.{k}", layer)
    return architecture, state | _colours3("synthesis.rgb", _child(synthesis, last))


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
        f"{name}.conv.weight": weight * _tensor(layer, "magnitude_ema").rsqrt(), f"{name}.conv.bias": _tensor(layer, "bias"),
    }  # fmt: skip


# rosinality's names


def _rosinality(t: State, mean: Stored | None) -> tuple[StyleGan2, State]:
    count = 1 + sum(name.startswith("to_rgbs.") and name.endswith(".bias") and name.count(".") == 2 for name in t)
    layers = sum(name.startswith("style.") and name.endswith(".weight") for name in t)
    names = ["conv1", *(f"convs.{2 * k + 1}" for k in range(count - 1))]
    architecture = StyleGan2(
        kind="stylegan2", z_dim=t["style.1.weight"].shape[1], w_dim=t[f"style.{layers}.weight"].shape[0], classes=0, mapping_layers=layers,
        channels=tuple(t[f"{name}.conv.weight"].shape[1] for name in names), colours=t["to_rgb1.bias"].shape[1], form="skip", clamp=None,
    )  # fmt: skip
    state = {"synthesis.const": t["input.input"][0]}
    for k in range(layers):
        weight, rate = t[f"style.{k + 1}.weight"], ROSINALITY_MAPPING_RATE
        state[f"mapping.layers.{k}.weight"] = weight * rate / math.sqrt(weight.shape[1])
        state[f"mapping.layers.{k}.bias"] = t[f"style.{k + 1}.bias"] * rate
    for k in range(count):
        block = f"synthesis.blocks.{k}"
        state |= _styled_rosinality(t, f"{block}.conv", names[k], f"noises.noise_{2 * k}")
        if k:
            up = f"convs.{2 * k - 2}"
            _check_filter(t[f"{up}.conv.blur.kernel"], 4.0)
            state |= _styled_rosinality(t, f"{block}.up", up, f"noises.noise_{2 * k - 1}")
        rgb = f"to_rgbs.{k - 1}" if k else "to_rgb1"
        weight = t[f"{rgb}.conv.weight"][0]
        state |= _affine_rosinality(t, f"{block}.rgb", rgb)
        state |= {
            f"{block}.rgb.conv.weight": weight / math.sqrt(weight[0].numel()),
            f"{block}.rgb.conv.bias": t[f"{rgb}.bias"].flatten(),
        }
    if mean is not None:
        state["mapping.mean"] = mean.tensor().float()
    return architecture, state


def _styled_rosinality(t: State, ours: str, theirs: str, noise: str) -> State:
    weight = t[f"{theirs}.conv.weight"][0]
    return _affine_rosinality(t, ours, theirs) | {
        f"{ours}.weight": weight / math.sqrt(weight[0].numel()), f"{ours}.bias": t[f"{theirs}.activate.bias"],
        f"{ours}.noise": t[noise][0, 0] * t[f"{theirs}.noise.weight"],
    }  # fmt: skip


def _affine_rosinality(t: State, ours: str, theirs: str) -> State:
    weight = t[f"{theirs}.conv.modulation.weight"]
    return {
        f"{ours}.affine.weight": weight / math.sqrt(weight.shape[1]),
        f"{ours}.affine.bias": t[f"{theirs}.conv.modulation.bias"],
    }


# BigGAN-PyTorch's names


def _biggan(t: State, config: Mapping[str, Any]) -> tuple[BigGan, State]:
    if (
        config.get("model", "BigGAN") != "BigGAN"
        or config.get("norm_style", "bn") != "bn"
        or config.get("G_nl", "relu") not in RELUS
    ):
        raise ModelError("only the model BigGAN with norm_style bn and a relu is supported; this configuration asks for another")
    count = len({name.split(".")[1] for name in t if name.startswith("blocks.")})
    bottom, resolution = config.get("bottom_width", 4), config["resolution"]
    parts = count + 1 if config["hier"] else 1
    part = config["dim_z"] // parts
    channels = [t["linear.bias"].numel() // bottom**2, *(t[f"blocks.{k}.0.conv1.bias"].numel() for k in range(count))]
    attention = tuple(bottom * 2 ** (k + 1) for k in range(count) if f"blocks.{k}.1.theta.weight" in t)
    shared = t["shared.weight"] if config["G_shared"] else torch.eye(config["n_classes"])
    architecture = BigGan(
        kind="biggan", z_dim=part * parts, classes=len(shared), shared_dim=shared.shape[1], z_parts=parts, bottom=bottom,
        channels=tuple(channels), attention=attention, colours=t["output_layer.2.bias"].numel(),
    )  # fmt: skip
    if architecture.resolution != resolution or t["linear.weight"].shape[1] != part:
        raise ModelError(
            f"the configuration asks for {resolution} pixels and a first part of {part} latents; the file holds {count} blocks, which make "
            f"{architecture.resolution} pixels, and takes {t['linear.weight'].shape[1]}: they do not belong together"
        )
    eps = config["SN_eps"]
    state = {"shared.weight": shared, "linear.weight": _normed(t, "linear", eps), "linear.bias": t["linear.bias"]}
    for k in range(count):
        theirs, ours = f"blocks.{k}.0", f"blocks.{k}"
        for a, b in (("conv1", "conv1"), ("conv2", "conv2"), ("skip", "conv_sc")):
            state |= {f"{ours}.{a}.weight": _normed(t, f"{theirs}.{b}", eps), f"{ours}.{a}.bias": t[f"{theirs}.{b}.bias"]}
        for n in "12":
            state |= _norm_biggan(t, f"{ours}.norm{n}", f"{theirs}.bn{n}", eps, config["BN_eps"])
        if f"blocks.{k}.1.theta.weight" in t:
            state |= {f"attention.{k}.{n}.weight": _normed(t, f"blocks.{k}.1.{n}", eps) for n in ("theta", "phi", "g", "o")}
            state[f"attention.{k}.o.weight"] *= t[f"blocks.{k}.1.gamma"]
    mean, var = _statistics(t, "output_layer.0")
    scale = (var + BIGGAN_OUTPUT_EPSILON).rsqrt() * t["output_layer.0.gain"]
    state |= {"scale": scale[:, None, None], "shift": (t["output_layer.0.bias"] - mean * scale)[:, None, None]}
    return architecture, state | {"rgb.weight": _normed(t, "output_layer.2", eps), "rgb.bias": t["output_layer.2.bias"]}


def _norm_biggan(t: State, ours: str, theirs: str, sn_eps: float, bn_eps: float) -> State:
    gain, bias = _normed(t, f"{theirs}.gain", sn_eps), _normed(t, f"{theirs}.bias", sn_eps)
    if f"{theirs}.gain.u0" not in t and gain.shape[1] == t[f"{theirs}.stored_mean"].numel():
        gain, bias = gain.T, bias.T  # without shared vectors these are tables with a row for each class
    mean, var = _statistics(t, theirs)
    return {
        f"{ours}.gain.weight": gain, f"{ours}.gain.bias": torch.ones(len(gain)), f"{ours}.bias.weight": bias,
        f"{ours}.mean": mean, f"{ours}.var": var + bn_eps,
    }  # fmt: skip


def _statistics(t: State, name: str) -> tuple[Tensor, Tensor]:
    """A normalisation's mean and variance."""
    for inner, kind in (("", "stored"), ("bn.", "stored"), ("bn.", "running")):
        if f"{name}.{inner}{kind}_mean" in t:
            return t[f"{name}.{inner}{kind}_mean"], t[f"{name}.{inner}{kind}_var"]
    raise KeyError(f"{name}.stored_mean")


def _normed(t: State, name: str, eps: float) -> Tensor:
    """A weight over its spectral norm, as the published code finds it: by one step of the power method from the vector stored."""
    weight = t[f"{name}.weight"]
    if f"{name}.u0" not in t:
        return weight
    matrix = weight.flatten(1)
    v = F.normalize(t[f"{name}.u0"] @ matrix, eps=eps)
    u = F.normalize(v @ matrix.T, eps=eps)
    return weight / (v @ matrix.T @ u.T).squeeze()
